"""What the labels of a task are called: by its rows, by its suite, and by an expert's configuration."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from twin_merging.io.files import read_json, write_json

Names = tuple[str, ...]
LABEL_NAMES = "label_names.json"  # beside a task's rows
_GENERIC = re.compile(r"(label)?[\s_-]*(\d+)", re.IGNORECASE)


def write_names(file: Path, names: Sequence[str] | None) -> None:
    """Write what the labels of a task's rows are called, in their order; None where that is not known."""
    write_json(file, {"names": list(names) if names else None})


def read_names(files: Iterable[str | Path]) -> Names | None:
    """The names in the first of the files; None where there is no file."""
    for file in files:
        return tuple(found) if (found := read_json(Path(file))["names"]) else None
    return None


def comparable(name: str) -> str:
    """A label's name without what publishers write in different ways: case, and spaces, underscores and hyphens between
    letters."""
    return re.sub(r"(?<=[^\W_])[\s_-]+(?=[^\W\d_])", "", name.strip()).casefold()


def named(names: Sequence[str] | None) -> Names | None:
    """The names, where they say more than numbers do: LABEL_0, LABEL_1 and the like say nothing."""
    if not names:
        return None
    numbers = [match[2] if (match := _GENERIC.fullmatch(str(name).strip())) else None for name in names]
    return None if numbers == [str(place) for place in range(len(names))] else tuple(map(str, names))


def names_of(id2label: Any) -> Names | None:
    """What a configuration calls its labels, in their order; None where it names none."""
    try:
        order = {int(number): str(name) for number, name in id2label.items()}
    except (AttributeError, TypeError, ValueError):
        return None
    return named([order[place] for place in sorted(order)]) if sorted(order) == list(range(len(order))) else None


def order_of(own: Names, wanted: Names) -> list[int] | None:
    """For each of the wanted names the place of the same among the own; None where they are not the same names."""
    if own == wanted:
        return list(range(len(own)))
    places = {comparable(name): place for place, name in enumerate(own)}
    order = [places.get(comparable(name), -1) for name in wanted]
    return order if sorted(order) == list(range(len(own))) else None
