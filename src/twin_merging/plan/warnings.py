"""What a run should say of a suite before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twin_merging.fetching.hub import is_commit
from twin_merging.io.files import read_json
from twin_merging.suite.locks import hub_sources, left_out
from twin_merging.suite.suite import Suite


def warnings_of(suite: Suite) -> list[str]:
    """A line for what may change from one day to the next: sources that are not as they were locked, sources that are
    tied to no commit, and rows of lm-eval's tasks; and one for rows that may be longer than the base takes."""
    lines = []
    if changed := left_out(suite.file, suite.content):
        lines.append(f"{suite.file}: not as it was locked: {', '.join(changed)}; run: snakemake lock")
    sources = [hub for _, hub in hub_sources(suite.content)]
    loose = sorted({f"{hub['repo']} at {hub['revision']}" for hub in sources if not is_commit(hub["revision"])})
    if loose:
        lines.append(f"{suite.file}: not tied to a commit: {', '.join(loose)}; run: snakemake lock")
    if suite.lm_eval is not None and suite.lm_eval.include_path is None:
        lines.append(f"{suite.file}: lm_eval: lm-eval fetches its tasks' rows from the Hub, tied to no commit")
    return [*lines, *_too_long(suite)]


def _too_long(suite: Suite) -> list[str]:
    """A line where rows may be longer than the base takes, as far as files tell that lie here already."""
    limit = _longest(suite.says.base.folder)
    asked = {"inference.max_length": suite.says.inference.max_length}
    for name, task in suite.tasks.items():
        made = task.expert.plain().get("finetune")
        asked |= {f"tasks.{name}.expert.finetune.max_length": made["max_length"]} if made else {}
    longer = [f"{key}: {value}" for key, value in asked.items() if limit is not None and value > limit]
    if not longer:
        return []
    return [
        f"{suite.file}: {', '.join(longer)}, but the base in {suite.says.base.folder} takes {limit} tokens at most: "
        "longer rows are cut to what it takes, and longer prompts of a language model are refused"
    ]


def _longest(folder: Path | None) -> int | None:
    """What a model's configuration and its tokenizer's say of the longest input, without loading either. (A job asks
    the architecture too, see twin_merging.tasks.lengths.)"""
    config, tokenizer = (_content(folder, name) for name in ("config.json", "tokenizer_config.json"))
    found = [config.get("max_position_embeddings"), tokenizer.get("model_max_length")]
    if "n_embd" in config:  # OpenAI's architectures have names of their own
        found.append(config.get("n_positions"))
    return min((count for count in found if isinstance(count, int) and count > 0), default=None)


def _content(folder: Path | None, name: str) -> Mapping[str, Any]:
    """A JSON file, or nothing where it is missing or wrong: the fetch says what is wrong with it."""
    try:
        found = read_json(folder / name) if folder is not None else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
