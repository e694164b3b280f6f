"""Reads a router of kind mlp that was trained elsewhere, and puts its outputs into the order of a suite's tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from twin_merging.errors import UserError
from twin_merging.io.tensors import Checkpoint
from twin_merging.routing.mlp import MLPRouter
from twin_merging.routing.router import COUNTER, router_tensors

OUTPUTS = ("fc4.weight", "fc4.bias")  # these have one row for each task


def fetched_state(
    file: Path, tasks: Sequence[str], outputs: Sequence[str] | None, size: int
) -> dict[str, torch.Tensor]:
    """Read the tensors of an `MLPRouter` (fc1, bn1, fc3, bn3, fc4) for features of `size` numbers.

    The rows of fc4 come out in the order of `tasks`. outputs: the tasks in the order of the file's outputs, if that is
    another order. Raises UserError for the first tensor that is missing, is not a router's, or has another shape.
    """
    state = Checkpoint(file)
    order = list(outputs or tasks)
    hidden = state.shape("fc1.weight")[0] if "fc1.weight" in state else 2 * size
    wanted = {name: tuple(tensor.shape) for name, tensor in router_tensors(MLPRouter(order, size, hidden)).items()}
    for name in (name for name in state if name not in wanted and not name.endswith(COUNTER)):
        raise UserError(f"{file}: tensor '{name}' is not one of a router's ({', '.join(wanted)}); name another file")
    for name, shape in wanted.items():
        if name not in state:
            raise UserError(f"{file}: no tensor '{name}', which a router has; name another file in router.hub")
        if state.shape(name) != shape:
            raise UserError(
                f"{file}: tensor '{name}' is {list(state.shape(name))}, but {list(shape)} for features of {size} "
                f"numbers and {len(order)} tasks; name a router of this base and these tasks"
            )
    rows = [order.index(task) for task in tasks]
    return {name: state[name][rows] if name in OUTPUTS else state[name] for name in wanted}
