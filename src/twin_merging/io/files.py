"""Writes files and directories that appear whole or not at all, and hashes files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

# What a merged model takes over from the base, by names as in .gitignore (the last one that fits decides): whatever a
# configuration, tokenizer, processor or chat template may be stored in, since each architecture has names of its own.
# No weights, index, adapter, training state, code, or text about the model; nothing that is unpickled or run.
PASSED_ON = (
    "*.json", "*.txt", "*.jinja", "*.model", "*.model.v*", "*.spm", "*.tokenizer", "*.tiktoken", "*.codes", "*.bpe",
    "*.vocab",
    "!.*", "!*.index.json", "!adapter_config.json", "!trainer_state.json", "!*_results.json", "!*_results.txt",
    "!requirements*.txt", "![Rr][Ee][Aa][Dd][Mm][Ee]*", "!model_index.json", "!modelcard.json",
    "!modules.json", "!config_sentence_transformers.json",  # of folders that are not passed on
    "!merge.json", "!mixture.json", "!source.json",  # this library's own
)  # fmt: skip
CHAT_TEMPLATES = "additional_chat_templates"  # the folder of those beside chat_template.jinja


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to. When the block ends, that file becomes `path`; if the block fails, it is removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        with open(partial, "rb") as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Yield an empty directory. When the block ends, it becomes `path`; if the block fails, it is removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            shutil.rmtree(path)
        os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def is_named_by(name: str, patterns: Iterable[str]) -> bool:
    """Whether the last pattern that fits a file's name asks for it; one that begins with `!` asks for none such."""
    found = False
    for pattern in patterns:
        if fnmatchcase(name, pattern.removeprefix("!")):
            found = not pattern.startswith("!")
    return found


def pass_on(source: Path, target: Path, but: Collection[str] = ()) -> None:
    """Copy what a merged model takes over from a model's directory, `but` for files of these names."""
    files = [*Path(source).iterdir(), *Path(source, CHAT_TEMPLATES).glob("*.jinja")]
    for file in sorted(files):
        if file.is_file() and is_named_by(file.name, PASSED_ON) and file.name not in but:
            copy_file(file, target / file.relative_to(source))


def copy_file(source: Path, target: Path) -> None:
    with whole_file(target) as partial:
        shutil.copyfile(source, partial)


def file_hashes(folder: Path, *names: str) -> dict[str, str]:
    """SHA-256 of every file below the subfolders `names` of a folder. Hidden files and missing folders are left out."""
    files = sorted(file for name in names for file in Path(folder, name).rglob("[!.]*") if file.is_file())
    return {file.relative_to(folder).as_posix(): sha256(file) for file in files}


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_record(file: Path) -> dict[str, Any]:
    """What source.json says of a fetched file."""
    return {"sha256": sha256(file), "size": file.stat().st_size}
