"""What a model has read of a batch whose rows come and go: readings are joined, rows chosen, common padding cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import DynamicCache

from twin_merging.errors import UserError
from twin_merging.serving.room import RoomyLayer
from twin_merging.tasks.reading import Reading


class JoinedReading(Reading):
    """A `Reading` whose rows end together: what is missing before the first token of one is padding, which is masked.

    Its cache keeps every position of every layer, also where a layer looks back over a window only: windows of rows
    that are joined would begin at other places. (The mask keeps such a layer to its window.)
    """

    def __init__(self, model: Any):
        super().__init__(model)
        self._cache = DynamicCache()
        self._cache.layer_class_to_replicate = RoomyLayer

    @property
    def length(self) -> int:
        return 0 if self._mask is None else self._mask.shape[1]

    def join(self, other: JoinedReading) -> None:
        """Go on with the rows of both, these first."""
        if self._mask is None or other._mask is None:
            raise ValueError("nothing has been read yet")
        length = max(self.length, other.length)
        self._mask = torch.cat([_longer(one, length, 1) for one in (self._mask, other._mask)])
        for mine, theirs in zip(self._cache.layers, other._cache.layers, strict=True):
            mine.keys = torch.cat([_longer(mine.keys, length, 2), _longer(theirs.keys, length, 2)])
            mine.values = torch.cat([_longer(mine.values, length, 2), _longer(theirs.values, length, 2)])

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone (a row may stand there more than once), without the padding that all have."""
        super().keep(rows)
        if self._mask is None:
            return
        spare = int(self._mask.any(0).long().argmax())
        if spare:
            self._mask = self._mask[:, spare:]
            for layer in self._cache.layers:
                layer.keys, layer.values = layer.keys[:, :, spare:], layer.values[:, :, spare:]


def check_joinable(model: Any) -> None:
    """Raises UserError for a language model whose cache holds more than keys and values. Makes a pass over a token."""
    kind = type(model).__name__
    reading = JoinedReading(model)
    first = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    try:
        with torch.inference_mode():
            reading.read(first, torch.ones_like(first))
        layers = reading._cache.layers
    except (AttributeError, TypeError, ValueError, NotImplementedError, IndexError):
        layers = []
    if not layers or any(type(layer) is not RoomyLayer or layer.keys.dim() != 4 for layer in layers):
        raise UserError(
            f"a {kind} keeps more of a text than keys and values, so its rows cannot be joined to a batch; answer with "
            "`predict`, or with `generate` of the loaded model"
        )


def _longer(tensor: torch.Tensor, length: int, dim: int) -> torch.Tensor:
    """A tensor with zeros before it along a dimension, up to a length."""
    missing = length - tensor.shape[dim]
    return functional.pad(tensor, [0, 0] * (tensor.dim() - dim - 1) + [missing, 0]) if missing else tensor
