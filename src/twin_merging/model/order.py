"""Rows of a batch brought together by task, so that each task's are a slice; and back again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from twin_merging.model.gates import Mixture


def order_by_task(mixture: Mixture) -> torch.Tensor | None:
    """An order of the rows in which those of one task stand together, where each has one task and they do not yet."""
    if mixture.weights is None or mixture.groups is None:
        return None
    if all(isinstance(rows, slice) for _, rows in mixture.groups):
        return None
    return mixture.weights.argmax(1).argsort(stable=True)


def rows_in_order(batch: Mapping[str, Any], order: torch.Tensor, rows: int) -> dict[str, Any]:
    """A batch of `rows` rows with them in another order."""
    return {
        name: value[order] if isinstance(value, torch.Tensor) and value.dim() and len(value) == rows else value
        for name, value in batch.items()
    }


def output_in_order(output: Any, order: torch.Tensor, rows: int) -> Any:
    """The output with the rows of its tensors in another order."""

    def put(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value[order] if value.dim() and len(value) == rows else value
        return tuple(put(one) for one in value) if isinstance(value, tuple) else value

    for name, value in list(output.items()):
        output[name] = put(value)
    return output
