"""A digest of exactly the source files that a script depends on.

Snakemake re-runs a job when its script changes, but not when a module that the script imports does. The
workflow therefore gives each rule this digest as a parameter.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from twin_merging.io.files import sha256

PACKAGE = Path(__file__).parents[1]


def code_digest(script: Path, modules: Iterable[str] = ()) -> str:
    """16 hexadecimal digits over `script`, the modules of this package that it imports (transitively, imports
    inside functions included), and `modules`, dotted names that it imports by computed name."""
    files = {Path(script)}
    waiting = [Path(script), *(path for name in modules for path in _files_of(name))]
    files.update(waiting)
    while waiting:
        new = set(_imports(waiting.pop())) - files
        files |= new
        waiting += sorted(new)
    content = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
    return hashlib.sha256("".join(content).encode()).hexdigest()[:16]


def settings_digest(settings: Mapping[str, Any], files: Iterable[str]) -> str:
    """16 hexadecimal digits over a job's settings and the content of its input files."""
    text = json.dumps([settings, [sha256(Path(file)) for file in files]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _imports(path: Path) -> tuple[Path, ...]:
    """Files of this package that one Python file imports."""
    found: list[Path] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            found += _files_of(name)
    return tuple(found)


def _files_of(name: str) -> list[Path]:
    """The file of a dotted module name and the `__init__` files of its packages below this one.

    The package's own `__init__` holds nothing but lazily loaded names, so no job depends on it.
    """
    first, *parts = name.split(".")
    if first != PACKAGE.name:
        return []
    inits = [PACKAGE.joinpath(*parts[: depth + 1], "__init__.py") for depth in range(len(parts))]
    module = PACKAGE.joinpath(*parts).with_suffix(".py") if parts else PACKAGE / "__init__.py"
    return [path for path in [*inits, module] if parts and path.is_file()]
