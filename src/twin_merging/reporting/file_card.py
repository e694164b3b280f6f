"""The card of a plain model that was merged as a file in mergekit's form says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from twin_merging.io.files import read_json
from twin_merging.reporting.card import added_tokens, front_matter, inputs_of
from twin_merging.reporting.normalisation import markdown_table


def file_card(name: str, directory: Path) -> str:
    """The card of the model in `directory`, from its merge.json and config.json alone."""
    record = read_json(directory / "merge.json")
    classes = read_json(directory / "config.json").get("architectures") or [""]
    auto = "AutoModelForCausalLM" if classes[0].endswith("ForCausalLM") else "AutoModel"
    options = ", ".join(f"{key}: {value}" for key, value in record["options"].items())
    parts = [
        front_matter(_repositories(record["models"]), record["method"]),
        f"# {name}",
        f"{len(record['models'])} models, merged by `{record['method']}` (twin-merging {record['library']}) as a file "
        f"in mergekit's form says. Options: {options}. Tokenizer: {record['tokenizer']}.",
        f"```yaml\n{yaml.safe_dump(record['mergekit'], sort_keys=False).strip()}\n```",
        f"```python\nfrom transformers import {auto}, AutoTokenizer\n\n"
        f"model, tokenizer = {auto}.from_pretrained(DIR), AutoTokenizer.from_pretrained(DIR)\n```",
        "## Models",
        markdown_table(_models(record["models"])),
        "## Inputs",
        markdown_table(inputs_of(record)),
    ]
    if "vocabulary" in record:
        parts += ["## Tokens that were added or left out", markdown_table(added_tokens(record["vocabulary"]))]
    return "\n\n".join(parts) + "\n"


def _repositories(models: Mapping[str, Any]) -> list[str]:
    """Those of the Hub among the models."""
    return [text.partition("@")[0] for text, model in models.items() if model["revision"]]


def _models(models: Mapping[str, Any]) -> pd.DataFrame:
    rows = [(text, model["revision"] or "a local folder") for text, model in models.items()]
    return pd.DataFrame(rows, columns=["model", "revision"])
