"""What a gated layer has beside its shared parameters, and a module of which every task has its own.

A layer is gated in place: it stays what it was, with the same parameters, and gets the parts beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import nn

from twin_merging.io.masks import unpack
from twin_merging.model.gates import Gates, Mixture

KINDS = ("down", "up", "vectors", "private", "unified", "bits", "rescale", "factor", "columns", "values")


@dataclass
class Masked:
    """A parameter that each task has in its own form: shared value + rescale_t * mask_t * unified.

    unified: as the parameter; bits: (T, rows, bytes) uint8 (twin_merging.io.masks); rescale: (T,).
    """

    unified: torch.Tensor
    bits: torch.Tensor
    rescale: torch.Tensor


@dataclass
class Parts:
    """What one parameter of the shared body has beside its shared value.

    down, up: a matrix's stacked factors (R, n) and (m, R), with `ranks[t]` rows of task t, in task order, for a layer
    of n inputs and m outputs (an embedding: of m words in n dimensions); vectors: (T, ...) exclusive parts that are
    stored whole; private: (T, ...) values of private parameters; masked: those of a masked one, which are made when
    they are used; factor, scale: of a LoRA factor in factor space, its shared value, and what its product is multiplied
    by (twin_merging.model.factored); columns, values: (T, m, k) of a matrix whose exclusive parts are sparse
    (twin_merging.model.sparse).
    """

    down: torch.Tensor | None = None
    up: torch.Tensor | None = None
    ranks: tuple[int, ...] = ()
    vectors: torch.Tensor | None = None
    private: torch.Tensor | None = None
    masked: Masked | None = None
    factor: torch.Tensor | None = None
    scale: float = 1.0
    columns: torch.Tensor | None = None
    values: torch.Tensor | None = None


class Gated(nn.Module):
    """What all gated layers have: Parts, by the name of the parameter that they belong to."""

    gates: Gates
    ranks: dict[str, tuple[int, ...]]
    scales: dict[str, float]
    cores: dict[Any, torch.Tensor]  # of sets of tasks that are merged (twin_merging.model.joined)

    def attach(self, parts: Mapping[str, Parts], gates: Gates) -> None:
        self.gates, self.cores = gates, {}
        self.ranks = {name: part.ranks for name, part in parts.items()}
        self.scales = {name: part.scale for name, part in parts.items()}
        for name, part in parts.items():
            for kind in KINDS:
                value = getattr(part if hasattr(part, kind) else part.masked, kind, None)
                self.register_buffer(f"{name}_{kind}", value, persistent=False)

    def part(self, name: str, kind: str) -> torch.Tensor | None:
        return getattr(self, f"{name}_{kind}", None)

    def per_row(self, name: str, mixture: Mixture, dims: int) -> torch.Tensor | None:
        """One value a row of a 1-D parameter, (batch, 1, ..., size) to broadcast over `dims` dimensions; or the shared
        value itself, 1-D."""
        shared = getattr(self, name)
        private, vectors = self.part(name, "private"), self.part(name, "vectors")
        if private is not None and mixture.tasks is not None:
            value = private[mixture.tasks]
        elif vectors is not None and mixture.weights is not None:
            value = torch.addmm(shared, mixture.weights.to(vectors.dtype), vectors)
        else:
            return shared
        return value.reshape(value.shape[0], *[1] * (dims - 2), value.shape[-1])

    def is_private(self, name: str, mixture: Mixture) -> bool:
        """Whether each row of the batch has its own task's value of a parameter."""
        stored = self.part(name, "private") is not None or self.part(name, "bits") is not None
        return stored and mixture.tasks is not None

    def value_of(self, name: str, task: int, rows: torch.Tensor | None = None) -> torch.Tensor:
        """One task's value of a parameter, or of some of its rows."""
        pick: Any = slice(None) if rows is None else rows
        private, bits = self.part(name, "private"), self.part(name, "bits")
        if private is not None:
            return private[task][pick]
        unified, rescale = self.part(name, "unified"), self.part(name, "rescale")
        if bits is None or unified is None or rescale is None:
            raise RuntimeError(f"'{name}' is no task's own")
        chosen = unified[pick]
        return getattr(self, name)[pick] + rescale[task] * unpack(bits[task][pick], chosen.shape[-1]) * chosen

    def factors_of(self, task: int, name: str = "weight") -> tuple[torch.Tensor, torch.Tensor] | None:
        """One task's own factors of a matrix, down (r, n) and up (m, r); None without any."""
        down, up, ranks = self.part(name, "down"), self.part(name, "up"), self.ranks.get(name, ())
        if down is None or up is None or not ranks[task]:
            return None
        end = list(accumulate(ranks))[task]
        return down[end - ranks[task] : end], up[:, end - ranks[task] : end]

    def factors(self, mixture: Mixture, name: str = "weight") -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
        """Stacked factors, and gates (batch, R), of the tasks that some row has a weight for; None without any."""
        down, up, ranks = self.part(name, "down"), self.part(name, "up"), self.ranks.get(name, ())
        if down is None or up is None or mixture.weights is None:
            return None
        active = [task for task in mixture.active if ranks[task]]
        if not active:
            return None
        gate = mixture.gate(ranks, down)
        if len(active) == sum(rank > 0 for rank in ranks):
            return down, up, gate
        ends = list(accumulate(ranks))
        spans = [slice(ends[task] - ranks[task], ends[task]) for task in active]
        if len(spans) == 1:
            return down[spans[0]], up[:, spans[0]], gate[:, spans[0]]
        pick = torch.cat([torch.arange(span.start, span.stop, device=down.device) for span in spans])
        return down[pick], up[:, pick], gate[:, pick]


class PerTask(nn.Module):
    """One module a task, for what is private as a whole (a head): each row is answered by its task's.

    Where the tasks' outputs differ in their last size, they are padded with -inf to the largest.
    """

    def __init__(self, modules: list[nn.Module], gates: Gates):
        super().__init__()
        self.choices, self.gates = nn.ModuleList(modules), gates

    def forward(self, x: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        mixture = self.gates.of(x)
        if mixture is None or mixture.tasks is None:
            raise RuntimeError("private modules need the task of each row")
        answers = [(rows, self.choices[task](x[rows], *arguments, **options)) for task, rows in mixture.by_task]
        size = max(answer.shape[-1] for _, answer in answers)
        first = answers[0][1]
        if len(answers) == 1:
            return first
        y = first.new_full((x.shape[0], *first.shape[1:-1], size), -torch.inf)
        for rows, answer in answers:
            y[rows, ..., : answer.shape[-1]] = answer
        return y
