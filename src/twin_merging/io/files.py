"""Writes files and directories that appear whole or not at all, and hashes files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twin_merging.io.foreign import read_object as read_object

# The files that a merged model takes over from the base, if the base has them.
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
             "merges.txt", "vocab.txt", "tokenizer.model", "chat_template.jinja")  # fmt: skip
PASSED_ON = ("config.json", "generation_config.json", *TOKENIZER)


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
    """A JSON object that we wrote. `read_object` is for what others wrote."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


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
