"""A batch of texts that a causal language model reads, piece by piece: what it has read is kept in its cache."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# A context for a model's passes over some of a batch's rows, by their places in it.
Holding = Callable[[Sequence[int]], AbstractContextManager[Any]]


def all_rows(rows: Sequence[int]) -> AbstractContextManager[Any]:
    """That of a model which reads every row alike."""
    return nullcontext()


def positions_of(mask: torch.Tensor) -> torch.Tensor:
    """Each token's position in its row (batch, length), whatever padding stands before it."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


class Reading:
    """What a language model has read of a batch. Padding may stand anywhere: positions count the tokens that are none.

    model: a causal language model of transformers, or a PEFT model of one, in eval mode. One that keeps no
    `past_key_values` reads everything anew with each piece.
    """

    def __init__(self, model: Any):
        self._model = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._takes = set(inspect.signature(self._model.forward).parameters)
        self._is_cached = {"past_key_values", "use_cache"} <= self._takes
        self._ids: torch.Tensor | None = None
        self._mask: torch.Tensor | None = None
        self._cache: Any = None

    def read(self, ids: torch.Tensor, mask: torch.Tensor, places: int = 1) -> torch.Tensor:
        """Read on: ids and mask (batch, n). Gives fp32 logits (batch, places, vocabulary) of the last `places` of n."""
        import torch

        self._mask = mask if self._mask is None else torch.cat([self._mask, mask], dim=1)
        given = ids
        if self._cache is None:
            given = self._ids = ids if self._ids is None else torch.cat([self._ids, ids], dim=1)
        options: dict[str, Any] = {}
        if "position_ids" in self._takes:
            options["position_ids"] = positions_of(self._mask)[:, -given.shape[1] :]
        if "logits_to_keep" in self._takes:
            options["logits_to_keep"] = places
        if self._is_cached:
            options |= {"past_key_values": self._cache, "use_cache": True}
        output = self._model(input_ids=given, attention_mask=self._mask, **options)
        self._cache = getattr(output, "past_key_values", None) if self._is_cached else None
        return output.logits[:, -places:].float()

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows of the batch alone, by their places in it."""
        import torch

        if self._mask is None:
            return
        chosen = torch.tensor(rows, device=self._mask.device)
        self._mask = self._mask[chosen]
        if self._ids is not None:
            self._ids = self._ids[chosen]
        if self._cache is not None:
            # Caches of linear attention choose rows as for beams alone, MiniMax's by the other method alone.
            layers = getattr(self._cache, "layers", [])
            has_choice = all(hasattr(layer, "batch_select_indices") for layer in layers)
            (self._cache.batch_select_indices if has_choice else self._cache.reorder_cache)(chosen)

    def copied(self) -> Reading:
        """Another one that has read the same, to go on from here in two ways."""
        other = copy.copy(self)
        other._cache = copy.deepcopy(self._cache)
        return other


def padded(rows: Sequence[Sequence[int]], device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and their mask (rows, length), padded on the right."""
    import torch

    longest = max(map(len, rows))
    ids = [[*row, *[0] * (longest - len(row))] for row in rows]
    mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    return torch.tensor(ids, device=device, dtype=torch.long), torch.tensor(mask, device=device, dtype=torch.long)
