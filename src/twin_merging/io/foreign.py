"""Files that others wrote, as they lie: JSON objects, and what a file is that is not what its name says."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twin_merging.errors import UserError

_AGAIN = "download it again"
_HEAD = 512  # bytes that tell what a file is
# What stands in a file's place: how it begins, what it is, and the remedy.
_STAND_INS = (
    (rb"version https://(git-lfs|hawser)\.github\.com/spec/", "a Git LFS pointer in place of the file",
     "run 'git lfs pull' in its repository"),
    (rb"(\xef\xbb\xbf)?\s*<[!?a-zA-Z][ -~\s]{6}", "a web page in place of the file", _AGAIN),
    (rb"PK\x03\x04", "a zip archive, or what torch.save writes", "unpack it, or convert it"),
    (rb"\x80[\x02-\x05][}(c\x8a\x95]", "a pickle, as torch.save wrote them", "convert it"),
    (rb"\x1f\x8b", "a gzip archive", "unpack it"),
    (rb"GGUF", "a GGUF file", "name the checkpoint that it was made from"),
    (rb"\x89HDF", "an HDF5 file, as Keras writes them", "convert it"),
    (rb"\xff\xfe|\xfe\xff", "text in UTF-16", "save it as UTF-8"),
)  # fmt: skip


def check_is_file(path: Path) -> None:
    """Raise UserError where a path is no file with something in it."""
    path = Path(path)
    try:
        if path.is_file() and path.stat().st_size:
            return
        if path.is_file():
            raise UserError(f"{path}: an empty file; {_AGAIN}")
        if path.is_symlink() and not path.exists():
            raise UserError(f"{path}: a link to {path.readlink()}, where nothing is; put the file itself there")
        if path.is_dir():
            raise UserError(f"{path}: a folder where a file should be; put the file there")
        if path.exists():
            raise UserError(f"{path}: neither a file nor a folder; put the file there")
    except OSError as error:
        raise UserError(f"{path}: cannot be looked at ({error.strerror}); name another") from None
    raise UserError(f"{path}: no such file; put it there, or name a folder that has it")


def is_gguf(path: Path) -> bool:
    """Whether a path names a GGUF file, as llama.cpp keeps models."""
    return path.suffix.lower() == ".gguf"


def stand_in(path: Path) -> str | None:
    """What a file is, with the remedy, where its first bytes tell that it is something else than tensors or JSON."""
    with open(path, "rb") as stream:
        head = stream.read(_HEAD)
    return next((f"{what}; {remedy}" for begins, what, remedy in _STAND_INS if re.match(begins, head)), None)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object of a file that is not ours, as a model's configuration or an index of shards.

    NaN and Infinity are numbers, as for transformers, which writes them. Raises UserError
    with what the file is: missing, a folder, empty, cut off, a Git LFS pointer, a web page, not UTF-8, one with a byte
    order mark (which transformers does not read either), not an object, a key that stands twice with two values.
    """
    path = Path(path)
    check_is_file(path)
    try:
        text = path.read_bytes().decode("utf-8")
        if text.startswith("\ufeff"):
            raise UserError(f"{path}: begins with a byte order mark; save it as UTF-8 without one")
        content = json.loads(text, object_pairs_hook=_without_contradiction)
        json.dumps(content, ensure_ascii=False).encode()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); make it readable") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: {stand_in(path) or _fault(error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds {_KINDS[type(content)]}, not an object with keys; {_AGAIN}")
    return content


_KINDS = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false", type(None): "null"}


class _ContradictionError(ValueError):
    """A key that stands twice in one object."""


def _without_contradiction(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and repr(found[key]) != repr(value):  # NaN is not equal to NaN
            raise _ContradictionError(
                f"key {key!r} stands twice, with {_short(found[key])} and {_short(value)}; keep one"
            )
        found[key] = value
    return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _fault(error: Exception) -> str:
    """What is wrong with a text that is no JSON, and the remedy."""
    if isinstance(error, UnicodeDecodeError):
        return f"not text in UTF-8 (byte {error.start + 1}); save it as UTF-8"
    if isinstance(error, UnicodeEncodeError):
        return f"half of a character (\\u{ord(error.object[error.start]):04x}) in a text; write the whole character"
    if isinstance(error, json.JSONDecodeError):
        text = error.doc.rstrip()
        if not text:
            return f"an empty file; {_AGAIN}"
        if error.pos >= len(text) or error.msg.startswith("Unterminated string"):
            return f"cut off: its JSON ends in the middle, in line {error.lineno}; {_AGAIN}"
        if error.pos == len(text) - len(text.lstrip()):
            return f"not JSON: it begins with {_short(text[:37])}; {_AGAIN}"
        return f"not JSON: {error.msg.removesuffix(' at')} in line {error.lineno}, column {error.colno}; {_AGAIN}"
    if isinstance(error, _ContradictionError):
        return str(error)
    return f"not JSON that can be read ({str(error).split(';')[0].split(' while')[0]}); {_AGAIN}"
