"""Layers that answer each row of a batch with its own mixture of exclusive vectors, without building its weights.

With every v_t = B_t A_t of one matrix stacked, y = W_s x + ((x A^T) * gate(w)) B^T: two thin products for any mixture
of inputs in a batch. 1-D parts are w times the stacked vectors. A parameter that is private (each task's own) is
looked up by the row's task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from twin_merging.masks import unpack


@dataclass
class Gates:
    """What one forward pass of all gated layers shares.

    weights: (batch, T) mixing weights, or None for the shared expert alone. tasks: (batch,) whose private parameters
    answer each row, or None for the shared body's own values.
    """

    weights: torch.Tensor | None = None
    tasks: torch.Tensor | None = None

    def active(self) -> list[int]:
        """Tasks whose weight is not 0 in every row of the batch."""
        return [] if self.weights is None else self.weights.ne(0).any(0).nonzero().flatten().tolist()


@dataclass
class Masked:
    """A parameter that each task has in its own form: shared value + rescale_t * mask_t * unified.

    unified: as the parameter; bits: (T, rows, bytes) uint8 (twin_merging.masks); rescale: (T,).
    """

    unified: torch.Tensor
    bits: torch.Tensor
    rescale: torch.Tensor


@dataclass
class Parts:
    """What one parameter of the shared body has beside its shared value.

    down, up: a matrix's stacked factors (R, n) and (m, R), with `ranks[t]` rows of task t, in task order; vectors:
    (T, ...) exclusive parts that are stored whole; private: (T, ...) values of private parameters; masked: those of a
    masked one, which are made when they are used.
    """

    down: torch.Tensor | None = None
    up: torch.Tensor | None = None
    ranks: list[int] = field(default_factory=list)
    vectors: torch.Tensor | None = None
    private: torch.Tensor | None = None
    masked: Masked | None = None


class GatedLayer(nn.Module):
    """A layer with its shared parameters and, for each of them by name, its Parts."""

    def __init__(self, layer: nn.Module, parts: Mapping[str, Parts], gates: Gates):
        super().__init__()
        self.layer, self.gates = layer, gates
        self.ranks = {name: part.ranks for name, part in parts.items()}
        for name, part in parts.items():
            for kind in ("down", "up", "vectors", "private"):
                self.register_buffer(f"{name}_{kind}", getattr(part, kind), persistent=False)
            for kind in ("unified", "bits", "rescale"):
                self.register_buffer(f"{name}_{kind}", getattr(part.masked, kind, None), persistent=False)

    def part(self, name: str, kind: str) -> torch.Tensor | None:
        return getattr(self, f"{name}_{kind}", None)

    def per_row(self, name: str, dims: int) -> torch.Tensor | None:
        """One value a row of a small parameter, (batch, 1, ..., size) to broadcast over `dims` dimensions; or the
        shared value itself."""
        shared = getattr(self.layer, name)
        private, vectors = self.part(name, "private"), self.part(name, "vectors")
        value = shared
        if private is not None and self.gates.tasks is not None:
            value = private[self.gates.tasks]
        elif vectors is not None and self.gates.weights is not None:
            value = shared + self.gates.weights.to(vectors.dtype) @ vectors
        if value is None or value.dim() == 1:
            return value
        return value.reshape(value.shape[0], *[1] * (dims - 2), value.shape[-1])

    def is_private(self, name: str) -> bool:
        """Whether each row of the batch has its own task's value of a parameter."""
        stored = self.part(name, "private") is not None or self.part(name, "bits") is not None
        return stored and self.gates.tasks is not None

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
        return getattr(self.layer, name)[pick] + rescale[task] * unpack(bits[task][pick], chosen.shape[-1]) * chosen

    def factors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
        """Stacked factors and gates (batch, R) of the tasks that some row has a weight for; None without any."""
        down, up = self.part("weight", "down"), self.part("weight", "up")
        active = self.gates.active() if down is not None else []
        ranks = self.ranks.get("weight", [])
        if down is None or up is None or self.gates.weights is None or not sum(ranks[task] for task in active):
            return None
        gate = self.gates.weights.repeat_interleave(torch.tensor(ranks, device=down.device), dim=1).to(down.dtype)
        if len(active) == len(ranks):
            return down, up, gate
        ends = torch.tensor(ranks).cumsum(0).tolist()
        spans = [slice(ends[task] - ranks[task], ends[task]) for task in active]
        if len(spans) == 1:
            return down[spans[0]], up[:, spans[0]], gate[:, spans[0]]
        pick = torch.cat([torch.arange(span.start, span.stop, device=down.device) for span in spans])
        return down[pick], up[:, pick], gate[:, pick]

    def by_task(self) -> list[tuple[int, torch.Tensor]]:
        """Each task that answers some row, with those rows."""
        tasks = self.gates.tasks
        if tasks is None:
            return []
        return [(task, (tasks == task).nonzero().flatten()) for task in tasks.unique().tolist()]


class GatedLinear(GatedLayer):
    """nn.Linear, gated. Inputs are (batch, ..., n)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layer: Any = self.layer
        bias = self.per_row("bias", x.dim())
        common = bias if bias is not None and bias.dim() == 1 else None
        if self.is_private("weight"):
            y = x.new_empty(*x.shape[:-1], layer.weight.shape[0])
            for task, rows in self.by_task():
                y[rows] = functional.linear(x[rows], self.value_of("weight", task), common)
        else:
            y = functional.linear(x, layer.weight, common)
        stacked = self.factors()
        if stacked is not None:
            down, up, gate = stacked
            gate = gate.reshape(gate.shape[0], *[1] * (x.dim() - 2), gate.shape[1])
            y = y + functional.linear(functional.linear(x, down) * gate, up)
        return y if bias is None or bias is common else y + bias


class GatedEmbedding(GatedLayer):
    """nn.Embedding, gated. Its matrix (V, d) has factors down (R, d) and up (V, R): rows of `up` are looked up.

    Ids are (batch, length), or (1, length) for positions that all rows share.
    """

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        layer: Any = self.layer
        if self.is_private("weight"):
            parts = self.by_task()
            ids = ids.expand(sum(len(rows) for _, rows in parts), -1)
            y = layer.weight.new_empty(*ids.shape, layer.weight.shape[1])
            for task, rows in parts:
                y[rows] = self.value_of("weight", task, ids[rows])
            return y
        y = layer(ids)
        stacked = self.factors()
        if stacked is None:
            return y
        down, up, gate = stacked
        return y + (functional.embedding(ids, up) * gate[:, None]) @ down


class GatedNorm(GatedLayer):
    """nn.LayerNorm, gated: normalised once, then scaled and shifted row by row."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layer: Any = self.layer
        y = functional.layer_norm(x, layer.normalized_shape, eps=layer.eps)
        weight, bias = self.per_row("weight", x.dim()), self.per_row("bias", x.dim())
        y = y if weight is None else y * weight
        return y if bias is None else y + bias


class PerTask(nn.Module):
    """One module a task, for what is private as a whole (a head): each row is answered by its task's.

    Where the tasks' outputs differ in their last size, they are padded with -inf to the largest.
    """

    def __init__(self, modules: list[nn.Module], gates: Gates):
        super().__init__()
        self.choices, self.gates = nn.ModuleList(modules), gates

    def forward(self, x: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        tasks = self.gates.tasks
        if tasks is None:
            raise RuntimeError("private modules need the task of each row")
        answers = []
        for task in tasks.unique().tolist():
            rows = (tasks == task).nonzero().flatten()
            answers.append((rows, self.choices[task](x[rows], *arguments, **options)))
        size = max(answer.shape[-1] for _, answer in answers)
        first = answers[0][1]
        y = first.new_full((x.shape[0], *first.shape[1:-1], size), -torch.inf)
        for rows, answer in answers:
            y[rows, ..., : answer.shape[-1]] = answer
        return y


GATED = {nn.Linear: GatedLinear, nn.Embedding: GatedEmbedding, nn.LayerNorm: GatedNorm}
