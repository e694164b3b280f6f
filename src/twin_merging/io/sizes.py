"""Bytes as a reader takes them in, and as one writes them."""

from __future__ import annotations

import re

UNITS = ("B", "kB", "MB", "GB", "TB")
_FACTORS = {
    **{unit: 1000**power for power, unit in enumerate(UNITS)},
    **{unit: 1024**power for power, unit in enumerate(("KiB", "MiB", "GiB", "TiB"), 1)},
}
SIZE = re.compile(rf"([0-9]+(?:\.[0-9]+)?) ?({'|'.join(_FACTORS)})")


def human_bytes(count: float) -> str:
    """Bytes in decimal units, with at most three digits: 1.2 MB."""
    unit = 0
    while count >= 999.5 and unit < len(UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.3g} {UNITS[unit]}"


def bytes_of(text: str) -> int:
    """The bytes of a size such as 15.2GB or 14 GiB. Raises ValueError where a text is none."""
    found = SIZE.fullmatch(text)
    if not found:
        raise ValueError(f"'{text}' is no size; write a number and a unit, as 499MB, 15.2GB or 14GiB")
    return round(float(found[1]) * _FACTORS[found[2]])
