"""Gram matrices X' X of the inputs X that linear layers get in forward passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass
class Grams:
    """`found` has a matrix (in, in) by the name of a layer's weight, summed over the tokens that `mask` (batch, length)
    marks in each batch, divided by `rows`. An input of another batch and length is left out."""

    rows: int
    mask: Any = None
    found: dict[str, torch.Tensor] = field(default_factory=dict)

    def add(self, name: str, inputs: torch.Tensor) -> None:
        if tuple(inputs.shape[:2]) != tuple(self.mask.shape):
            return
        tokens = inputs[self.mask.bool()]
        gram = tokens.T @ tokens / self.rows
        self.found[name] = self.found[name] + gram if name in self.found else gram


@contextmanager
def gathering(part: nn.Module, prefix: str, rows: int) -> Iterator[Grams]:
    """While the block runs, every forward pass through `part` adds to the Gram matrices of its linear layers. Whoever
    makes the pass sets their `mask` first. prefix: the path of `part`, which the names begin with."""
    from torch import nn

    grams, hooks = Grams(rows), []
    for name, layer in part.named_modules(prefix=prefix):
        if isinstance(layer, nn.Linear):
            hooks.append(
                layer.register_forward_pre_hook(lambda _, inputs, name=name: grams.add(f"{name}.weight", inputs[0]))
            )
    try:
        yield grams
    finally:
        for hook in hooks:
            hook.remove()
