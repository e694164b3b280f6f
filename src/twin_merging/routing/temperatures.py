"""Where the temperature that was fitted for a router stands: in the header of its file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from twin_merging.routing.tensors import number_in_header

if TYPE_CHECKING:
    import torch

CALIBRATE = "calibrate"
_STORED = "calibrated_temperature"


def stored_temperature(temperature: float) -> dict[str, str]:
    """The temperature, for the header of a router's file."""
    return {_STORED: repr(temperature)}


def temperature_of(asked: float | str, state: Mapping[str, torch.Tensor]) -> float:
    """The temperature that a method asks for: its number, or what the header of the router's file says for `calibrate`.

    Raises UserError if the file says none.
    """
    if asked != CALIBRATE:
        return float(asked)
    return number_in_header(state, _STORED, f"temperature: {CALIBRATE}")
