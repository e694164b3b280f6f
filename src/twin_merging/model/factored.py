"""Factor space in a layer: A and B of a LoRA product mixed apart for each row of a batch, without building either.

With the shared A* (r, n) and B* (m, r), each task's dA = U_A V_A and dB = U_B V_B (SVD of A_t - A* and of B_t - B*),
and a body whose matrix W_s = W_0 + s B* A* is the shared expert's, a row of weights w has

    W_0 + s (B* + sum_t w_t dB_t) (A* + sum_t w_t dA_t)

and its answer is y = W_s x + s (B* a + U_B gate(V_B (A* x + a))) with a = U_A gate(V_A x): thin products alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

from twin_merging.model.adapters import ExclusiveVector
from twin_merging.model.factor_files import SharedFactors
from twin_merging.model.gated import Gated, Parts
from twin_merging.model.gates import Mixture
from twin_merging.task_vectors.lora_matrices import DOWN, UP

A, B = DOWN.strip("."), UP.strip(".")  # names of the two beside a layer's weight


def factored_parts(
    name: str, shared: SharedFactors, exclusive: Mapping[str, ExclusiveVector], dtype: torch.dtype
) -> dict[str, Parts]:
    """What a layer has beside its weight, `name`, in factor space."""
    found = {}
    for part, end, value in ((A, DOWN, shared.down), (B, UP, shared.up)):
        pairs = [vector.factors.get(name + end) for vector in exclusive.values()]
        present = [pair for pair in pairs if pair is not None]
        found[part] = Parts(
            down=torch.cat([down for down, _ in present]).to(dtype).contiguous() if present else None,
            up=torch.cat([up for _, up in present], dim=1).to(dtype).contiguous() if present else None,
            ranks=tuple(0 if pair is None else pair[0].shape[0] for pair in pairs),
            factor=value.to(dtype).contiguous(),
            scale=shared.scale,
        )
    return found


def add_factored(layer: Gated, x: torch.Tensor, y: torch.Tensor, mixture: Mixture) -> None:
    """Add every row's mixture to its shared product y (batch, ..., m), in place; x (batch, ..., n)."""
    if mixture.weights is None:
        return
    down, up = layer.part(A, "factor"), layer.part(B, "factor")
    if down is None or up is None:
        raise RuntimeError("a layer in factor space lacks its shared factors")
    own = _gated(layer, A, x, mixture)
    hidden = functional.linear(x, down)
    change = None
    if own is not None:
        hidden = hidden + own
        change = functional.linear(own, up)
    rest = _gated(layer, B, hidden, mixture)
    if rest is not None:
        change = rest if change is None else change + rest
    if change is not None:
        y.add_(change, alpha=layer.scales[B])


def factored_change(layer: Gated, weights: torch.Tensor) -> torch.Tensor:
    """What one fixed mixture of weights (T,) adds to a layer's matrix (m, n), in fp32."""
    mixed, shared = [], []
    for name in (A, B):
        value: Any = layer.part(name, "factor")
        value = value.float()
        shared.append(value)
        for task, weight in enumerate(weights.tolist()):
            pair = layer.factors_of(task, name)
            if pair is not None and weight:
                value = value + weight * (pair[1].float() @ pair[0].float())
        mixed.append(value)
    return layer.scales[B] * (mixed[1] @ mixed[0] - shared[1] @ shared[0])


def _gated(layer: Gated, name: str, x: torch.Tensor, mixture: Mixture) -> torch.Tensor | None:
    """U gate(V x) of one factor's stacked exclusive parts; None where nothing is mixed in."""
    stacked = layer.factors(mixture, name)
    if stacked is None:
        return None
    down, up, gate = stacked
    gate = gate.reshape(gate.shape[0], *[1] * (x.dim() - 2), gate.shape[1])
    return functional.linear(functional.linear(x, down) * gate, up)
