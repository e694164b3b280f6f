"""Where the temperature that was fitted for a router stands: in the header of its file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from twin_merging.errors import UserError
from twin_merging.io.tensors import Checkpoint

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
    found = state.metadata.get(_STORED) if isinstance(state, Checkpoint) else None
    if found is None:
        place = state.paths[0] if isinstance(state, Checkpoint) else "the router"
        raise UserError(f"{place}: no {_STORED}, which temperature: {CALIBRATE} needs; make the router again")
    return float(found)
