"""What marks a directory as a merged model's: merge.json, and a config.json that names the model's class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twin_merging.errors import UserError
from twin_merging.io.files import read_json, write_json, write_text
from twin_merging.model.forms import Form

RECORD = "merge.json"
MODULE = "modeling_twin_merging.py"
CODE = '''"""For `trust_remote_code=True`: the classes of the installed package twin-merging; no code of its own."""

from twin_merging import TwinForCausalLM, TwinForSequenceClassification, register

register()

__all__ = ["TwinForCausalLM", "TwinForSequenceClassification"]
'''


def write_configuration(config: Mapping[str, Any], form: Form, output: Path) -> None:
    """Write the shared body's config.json, which names the class of the merged model too, and the module for it."""
    named = {form.auto: f"{Path(MODULE).stem}.{form.model}"}
    content = {**config, "architectures": [form.model], "auto_map": named}
    write_json(output / "config.json", dict(sorted(content.items())))
    write_text(output / MODULE, CODE)


def read_any_record(directory: Path) -> dict[str, Any]:
    """What merge.json says, also of a merge by a file. Raises UserError where there is none."""
    if not (directory / RECORD).is_file():
        raise UserError(f"{directory}: no merge.json in it; name the directory of a merged model")
    record: dict[str, Any] = read_json(directory / RECORD)
    return record


def read_record(directory: Path) -> dict[str, Any]:
    """The same of a model of tasks. Raises UserError where there is none, or one of a merge by a file, which has no
    tasks."""
    record = read_any_record(directory)
    if "tasks" not in record:
        raise UserError(f"{directory}: a plain model, merged without tasks; load it with transformers' own classes")
    return record


def local_directory(directory: Any, hub: Mapping[str, Any]) -> Path:
    """A directory as it is, or a repository of the Hub as one."""
    path = Path(directory)
    if path.is_dir():
        return path
    if str(directory).count("/") != 1 or path.is_absolute():
        raise UserError(f"{directory}: no such directory; name one that holds a merged model")
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(str(directory), allow_patterns=["*.json", "*.safetensors", "*.jinja"], **hub))
