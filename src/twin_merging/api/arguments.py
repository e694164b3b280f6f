"""Forms of arguments that several commands take."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twin_merging.errors import UserError


def named(text: str) -> tuple[str, Path]:
    """NAME=PATH."""
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form NAME=PATH")
    return name, Path(path)


def once_each(pairs: Sequence[tuple[str, Any]], what: str) -> dict[str, Any]:
    """Pairs as a mapping. Raises UserError for a name that is given twice."""
    found: dict[str, Any] = {}
    for name, path in pairs:
        if name in found:
            raise UserError(f"--{what} {name}=: is given twice; give each name once")
        found[name] = path
    return found


def add_shards(command: argparse.ArgumentParser) -> None:
    command.add_argument("--max-shard-size", default="5GB", metavar="SIZE",
                         help="larger weights are written in shards of this, with an index (%(default)s)")  # fmt: skip
