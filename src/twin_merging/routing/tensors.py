"""What is said of the tensors of a router's file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from twin_merging.errors import UserError
from twin_merging.io.tensors import Checkpoint

if TYPE_CHECKING:
    import torch


def shape_in(state: Mapping[str, torch.Tensor], name: str, dimensions: int | None = None) -> tuple[int, ...]:
    """The shape of a tensor of a router's file.

    Raises UserError if the tensor is missing, or if `dimensions` is given and it has another number of them.
    """
    if name not in state:
        raise UserError(f"{place(state)}: tensor '{name}' is missing; make the router again")
    shape = state.shape(name) if isinstance(state, Checkpoint) else tuple(state[name].shape)
    if dimensions not in (None, len(shape)):
        raise UserError(
            f"{place(state)}: tensor '{name}' has shape {shape}, not {dimensions} dimensions; make the router again"
        )
    return shape


def place(state: Mapping[str, torch.Tensor]) -> str:
    """What an error names as the place of a router's tensors."""
    return str(state.paths[0]) if isinstance(state, Checkpoint) else "the router"


def number_in_header(state: Mapping[str, torch.Tensor], key: str, needed_by: str) -> float:
    """A number in the header of a router's file. Raises UserError, which names what needs it, where there is none."""
    found = state.metadata.get(key) if isinstance(state, Checkpoint) else None
    if found is None:
        raise UserError(f"{place(state)}: no {key}, which {needed_by} needs; make the router again")
    return float(found)
