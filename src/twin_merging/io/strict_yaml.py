"""YAML files, read strictly: no key twice in one mapping, no key that is not text, no objects but plain ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from twin_merging.errors import UserError

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE, _TEXT = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:str"


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping. Raises UserError when it is missing, malformed, or has a key that stands twice or is not text."""
    try:
        loader = _Loader(Path(path).read_text(encoding="utf-8"))
        node = loader.get_single_node()
        _check_keys(node)
        content = loader.construct_document(node) if node else None
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise UserError(f"{path}: {reason}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text in UTF-8 (byte {error.start + 1})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{path}{line}: not valid YAML: {problem}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no mapping; see config/README.md for the keys")
    return content


def _check_keys(root: Any) -> None:
    """Raise a YAML error for the first mapping that has a key twice, or one that is not text."""
    for node in _mappings(root, set()):
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == _TEXT and key.value in seen:
                problem = f"key '{key.value}' stands twice, first in line {seen[key.value]}"
            elif key.tag not in (_TEXT, _MERGE):
                shown = key.value if isinstance(key, yaml.ScalarNode) else "that is a list or a mapping"
                problem = f"key {shown} is not text; put it in quotes"
            else:
                seen[key.value] = key.start_mark.line + 1
                continue
            raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)


def _mappings(node: Any, visited: set[int]) -> Iterator[Any]:
    if id(node) in visited or not isinstance(node, yaml.CollectionNode):
        return
    visited.add(id(node))
    if isinstance(node, yaml.MappingNode):
        yield node
    for child in node.value:
        for part in child if isinstance(child, tuple) else (child,):
            yield from _mappings(part, visited)
