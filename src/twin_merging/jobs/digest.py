"""A digest of exactly the code that a script runs.

Snakemake re-runs a job when its script changes, but not when a module that the script imports does. The
workflow therefore gives each rule this digest as a parameter.

The digest is of what the code does: of each file's syntax tree, without docstrings and positions. Comments, docstrings,
blank lines, quotes, line breaks and superfluous parentheses change nothing; every other change of a statement, an
expression, a name or a constant does. So does every change of a template that lies beside a module under its name.
Fields that are empty are left out, because versions of Python differ in them: the same code has the same digest under
each version that parses it to the same tree.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from twin_merging.io.files import file_hashes, sha256
from twin_merging.jobs.kept_code import KeptCode, key_of

PACKAGE = Path(__file__).parents[1]
# What a module reads that lies beside it under its own name, as report.html beside report.py.
TEMPLATES = (".html", ".css", ".js")
# Fields of the tree that say how a thing is written, or what its place says too.
SPELLING = ("kind", "type_comment", "ctx")


def code_digest(script: Path, modules: Iterable[str] = ()) -> str:
    """16 hexadecimal digits over `script`, the modules of this package that it imports (transitively, imports
    inside functions included), and `modules`, dotted names that it imports by computed name."""
    waiting = [Path(script), *(path for name in modules for path in _files_of(name))]
    files = set(waiting)
    while waiting:
        new = set(_read(waiting.pop()).imports) - files
        files |= new
        waiting += sorted(new)
    content = sorted(_read(path).digest for path in files)
    return hashlib.sha256("".join(content).encode()).hexdigest()[:16]


def settings_digest(settings: Mapping[str, Any], files: Iterable[str]) -> str:
    """16 hexadecimal digits over a job's settings and the content of its input files, some of which may be folders."""
    hashes = [file_hashes(Path(file), ".") if Path(file).is_dir() else sha256(Path(file)) for file in files]
    text = json.dumps([settings, hashes], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Code:
    """What a Python file does, as a SHA-256, and the files of this package that it imports."""

    digest: str
    imports: tuple[Path, ...]


@cache
def _read(path: Path) -> _Code:
    source = path.read_bytes()
    beside = [file.read_bytes() for end in TEMPLATES if (file := path.with_suffix(end)).is_file()]
    key, kept = key_of([source, *beside]), _kept()
    found = kept.get(key)
    if found is None:
        tree = ast.parse(source)
        digest = hashlib.sha256(b"".join([syntax(tree).encode(), *beside])).hexdigest()
        found = digest, tuple(dict.fromkeys(_imported(tree)))
        kept.put(key, found)
    digest, names = found
    return _Code(digest, tuple(file for name in names for file in _files_of(name)))


@cache
def _kept() -> KeptCode:
    return KeptCode(hashlib.sha256(Path(__file__).read_bytes()).hexdigest())


def syntax(node: Any) -> str:
    """A syntax tree as text, without positions, empty fields, and statements that are only a text (docstrings)."""
    if isinstance(node, ast.AST):
        fields = [(name, getattr(node, name)) for name in node._fields if name not in SPELLING]
        kept = [
            f"{name}={syntax(value)}"
            for name, value in fields
            if value != [] and (value is not None or name == "value")
        ]
        return f"{type(node).__name__}({','.join(kept)})"
    if isinstance(node, list):
        return f"[{','.join([syntax(item) for item in node if not _is_text(item)])}]"
    return repr(node)


def _is_text(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imported(tree: ast.Module) -> Iterator[str]:
    """Dotted names of what a file imports, inside functions too; of `from a import b`, a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


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
