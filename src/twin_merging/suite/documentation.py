"""The tables of methods and their options in config/README.md, made from the registry.

`python -m twin_merging.suite.documentation config/README.md` brings a file's tables up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twin_merging.errors import UserError
from twin_merging.merging.registry import Method, merging_methods

BEGIN, END = "<!-- methods: begin -->", "<!-- methods: end -->"
_RANGES = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
}
_TYPES = {"boolean": "true or false", "integer": "whole number", "string": "text"}


def method_tables() -> str:
    """Markdown: for each method its kind, summary, source, and a table of its options."""
    return "\n\n".join(_section(method) for method in merging_methods().values())


def updated(text: str) -> str:
    """A text with today's tables between its markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"no {BEGIN} and {END} to write the tables of methods between; add the two lines")
    return f"{before}{BEGIN}\n\n{method_tables()}\n\n{END}{after}"


def _section(method: Method) -> str:
    if not method.options:
        return "\n".join([_heading(method), "", "No options of its own."])
    rows = [
        f"| `{name}` | {_type(option)} | {_default(option)} | {option.get('description', '')} |"
        for name, option in method.options.items()
    ]
    lines = [
        _heading(method),
        "",
        "| option | type | default | meaning |",
        "|---|---|---|---|",
        *(row.replace("\n", " ") for row in rows),
    ]
    return "\n".join(lines)


def _heading(method: Method) -> str:
    return (
        f"#### `{method.name}` ({method.kind})\n\n{method.summary} {method.details}".rstrip()
        + f" Source: {method.source}."
    )


def _type(option: Mapping[str, Any]) -> str:
    if "enum" in option:
        return " or ".join(f"`{value}`" for value in option["enum"] if value is not None)
    if "anyOf" in option:
        kinds = [_type(kind) for kind in option["anyOf"] if kind.get("type") != "null"]
    else:
        own = option.get("type", "any")
        kinds = [_kind(kind, option) for kind in ([own] if isinstance(own, str) else own) if kind != "null"]
    limits = [f"{words} {option[rule]}" for rule, words in _RANGES.items() if rule in option]
    return ", ".join([" or ".join(kinds), *limits])


def _kind(kind: str, option: Mapping[str, Any]) -> str:
    if kind != "object":
        return _TYPES.get(kind, kind)
    inner = option.get("additionalProperties", {}).get("type")
    return f"mapping from task to {_kind(inner, {})}" if inner else "mapping"


def _default(option: Mapping[str, Any]) -> str:
    if "default" not in option:
        return "required"
    return "none" if option["default"] is None else f"`{option['default']}`"


if __name__ == "__main__":
    for file in map(Path, sys.argv[1:]):
        file.write_text(updated(file.read_text(encoding="utf-8")), encoding="utf-8")
