"""What was chosen for a method on validation rows, filled into its entry: the one place that reads a choice's file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twin_merging.errors import UserError
from twin_merging.io.files import read_json
from twin_merging.merging.choices import choices_in, filled

CHOSEN = "chosen"


def resolve(entry: Mapping[str, Any], choice: str | Path | None) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """An entry with the chosen numbers in it, and what merge.json says of the choice; an entry without a choice as it
    is, and None.

    choice: the file that rule choose wrote for the method. Raises UserError for a file of other options or values.
    """
    asked = choices_in(entry)
    if choice is None:
        return dict(entry), None
    found = read_json(Path(choice))
    values = found[CHOSEN]
    for path, tried in asked.items():
        if path not in values or values[path] not in tried:
            raise UserError(
                f"{choice}: chose {values.get(path)} for '{path}', which is none of {tried}; remove the file"
            )
    if values.keys() != asked.keys():
        raise UserError(
            f"{choice}: chose {', '.join(values)}, but the suite asks for {', '.join(asked)}; remove the file"
        )
    said = {"values": values, "tried": asked, "average": found["average"], "validation_rows": found["rows"]}
    return filled(entry, values), said
