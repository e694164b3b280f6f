"""Layers that answer each row of a batch with its own mixture of exclusive vectors, without building its weights.

With every v_t = B_t A_t of one matrix stacked, y = W_s x + ((x A^T) * gate(w)) B^T: two thin products for any mixture
of inputs in a batch. Where each row has one task of weight 1, the rows of a task use that task's factors alone. 1-D
parts are w times the stacked vectors. A parameter that is private (each task's own) is looked up by the row's task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from twin_merging.errors import UserError
from twin_merging.model.factored import B, add_factored
from twin_merging.model.gated import Gated, Parts
from twin_merging.model.gates import Gates, Mixture
from twin_merging.model.joined import add_joined, looked_up
from twin_merging.model.sparse import add_looked_up, add_sparse
from twin_merging.model.sparse_files import VALUES


class GatedProduct(Gated):
    """A product with a matrix, gated. Inputs are (batch, ..., n)."""

    def matrix(self, value: Any) -> torch.Tensor:
        """The weight's value as (m, n)."""
        return value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixture = self.gates.of(x)
        shared: Any = self
        if mixture is None:
            return super().forward(x)
        bias = self.per_row("bias", mixture, x.dim()) if shared.bias is not None else None
        m = self.matrix(shared.weight).shape[0]
        if self.is_private("weight", mixture):
            y = x.new_zeros(*x.shape[:-1], m)
            for task, rows in mixture.by_task:
                y[rows] = functional.linear(x[rows], self.matrix(self.value_of("weight", task)))
            y = y if bias is None else y + bias
        elif bias is None or bias.dim() == 1:
            y = functional.linear(x, self.matrix(shared.weight), bias)
        else:  # the rows' own biases, and the product added to them: no more passes over y than with one bias
            y = bias.expand(*x.shape[:-1], m).contiguous()
            _add_product(y, x, self.matrix(shared.weight))
        self.add_exclusive(x, y, mixture)
        return y

    def add_exclusive(self, x: torch.Tensor, y: torch.Tensor, mixture: Mixture) -> None:
        """Add every row's mixture of exclusive parts to its product y (batch, ..., m), in place."""
        if B in self.ranks:
            add_factored(self, x, y, mixture)
            return
        if self.gates.joined:
            add_joined(self, x, y, mixture)
            return
        if self.part("weight", VALUES) is not None:
            add_sparse(self, x, y, mixture)
            return
        if mixture.groups is not None:
            for task, rows in mixture.groups:
                pair = self.factors_of(task)
                if pair is None:
                    continue
                hidden = functional.linear(x[rows], pair[0])
                if isinstance(rows, slice):
                    _add_product(y[rows], hidden, pair[1])
                else:
                    y.index_add_(0, rows, functional.linear(hidden, pair[1]))
            return
        stacked = self.factors(mixture)
        if stacked is not None:
            down, up, gate = stacked
            gate = gate.reshape(gate.shape[0], *[1] * (x.dim() - 2), gate.shape[1])
            hidden = functional.linear(x, down)
            _add_product(y, hidden * gate if torch.is_grad_enabled() else hidden.mul_(gate), up)


def _add_product(y: torch.Tensor, hidden: torch.Tensor, up: torch.Tensor) -> None:
    """y += hidden up^T in place, without a second y."""
    y.view(-1, y.shape[-1]).addmm_(hidden.reshape(-1, hidden.shape[-1]), up.T)


class GatedLinear(GatedProduct, nn.Linear):
    """nn.Linear, gated."""


class GatedConv1D(GatedProduct, Conv1D):
    """transformers' Conv1D, a linear layer whose matrix is stored as (n, m), gated."""

    def matrix(self, value: Any) -> torch.Tensor:
        return value.T


class GatedEmbedding(Gated, nn.Embedding):
    """nn.Embedding, gated. Its matrix (V, d) has factors down (R, d) and up (V, R): rows of `up` are looked up.

    Ids are (batch, length), or (1, length) for positions that all rows share. What a kind of embedding multiplies its
    rows by (Gemma's) multiplies the exclusive part too.
    """

    def attach(self, parts: Mapping[str, Parts], gates: Gates) -> None:
        super().attach(parts, gates)
        self.factor = _factor_of(self)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        mixture = self.gates.of(ids, broadcast=True)
        if mixture is None:
            return super().forward(ids)
        if self.is_private("weight", mixture):
            ids = ids.expand(mixture.rows, -1) if ids.shape[0] == 1 else ids
            y = self.weight.new_empty(*ids.shape, self.weight.shape[1])
            for task, rows in mixture.by_task:
                y[rows] = self.value_of("weight", task, ids[rows]) * self.factor
            return y
        y = super().forward(ids)
        if self.gates.joined:
            return looked_up(self, ids, y, mixture, self.factor)
        if self.part("weight", VALUES) is not None:
            return add_looked_up(self, ids, y, mixture)
        if mixture.groups is not None and ids.shape[0] == mixture.rows:
            for task, rows in mixture.groups:
                pair = self.factors_of(task)
                if pair is not None:
                    y[rows] += functional.embedding(ids[rows], pair[1]) @ pair[0] * self.factor
            return y
        stacked = self.factors(mixture)
        if stacked is None:
            return y
        down, up, gate = stacked
        return y + (functional.embedding(ids, up) * gate[:, None]) @ down * self.factor


class GatedLayerNorm(Gated, nn.LayerNorm):
    """nn.LayerNorm, gated: normalised once, then scaled and shifted row by row."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixture = self.gates.of(x)
        if mixture is None:
            return super().forward(x)
        y = functional.layer_norm(x, self.normalized_shape, eps=self.eps)
        weight, bias = self.per_row("weight", mixture, x.dim()), self.per_row("bias", mixture, x.dim())
        if weight is None:
            return y if bias is None else y + bias
        return y * weight if bias is None else torch.addcmul(bias, y, weight)


class GatedScale(Gated):
    """A norm that ends in a product with its weight (Llama's RMSNorm) or with 1 + weight (Gemma's), gated."""

    def attach(self, parts: Mapping[str, Parts], gates: Gates) -> None:
        super().attach(parts, gates)
        self.offset = _offset_of(self)
        weight: Any = self.weight
        self.register_buffer("neutral", torch.full_like(weight, 1.0 - self.offset).detach(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixture = self.gates.of(x)
        if mixture is None:
            return super().forward(x)
        weight = self.per_row("weight", mixture, x.dim())
        if weight is None or weight.dim() == 1:
            return super().forward(x)
        neutral: Any = self.neutral
        return _with_weight(self, neutral, x) * (weight + self.offset if self.offset else weight)


def _factor_of(layer: Any) -> float:
    """What an embedding multiplies its rows by. Raises ValueError when it does more than that."""
    if type(layer) is GatedEmbedding:
        return 1.0
    ids = torch.arange(2)[None]
    found = _with_weight(layer, torch.arange(1.0, layer.weight.shape[0] + 1)[:, None].expand(layer.weight.shape), ids)
    factor = float(found[0, 0, 0])
    if not torch.allclose(found[0], factor * torch.tensor([[1.0], [2.0]]).expand_as(found[0])):
        raise ValueError("its output is not a multiple of its rows")
    return factor


def _with_weight(layer: Any, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """What a gated layer, before it was gated, gives for x with another weight."""
    own = layer.weight
    try:
        layer.weight = nn.Parameter(weight, requires_grad=False)
        return super(Gated, layer).forward(x)
    finally:
        layer.weight = own


def _offset_of(layer: Any) -> float:
    """0 for a norm times its weight, 1 for a norm times 1 + weight. Raises ValueError for anything else."""
    size = layer.weight.shape[0]
    x = torch.linspace(-1, 2, size)[None, None]
    found = [_with_weight(layer, torch.full((size,), value), x) for value in (0.0, 1.0)]
    if not found[0].any():
        return 0.0
    if torch.allclose(found[1], 2 * found[0]):
        return 1.0
    raise ValueError("its output is not a multiple of its weight")


GATED: dict[type, type] = {
    nn.Linear: GatedLinear,
    Conv1D: GatedConv1D,
    nn.Embedding: GatedEmbedding,
    nn.LayerNorm: GatedLayerNorm,
}


def gate_layer(path: str, layer: Any, parts: Mapping[str, Parts], gates: Gates) -> None:
    """Gate a layer in place. Raises UserError for a kind of layer that cannot be."""
    kind = GATED.get(type(layer))
    scale = [name for name, _ in layer.named_parameters(recurse=False)] == ["weight"] and layer.weight.dim() == 1
    before = type(layer)
    if kind is None and (isinstance(layer, nn.Embedding) or (scale and "RMSNorm" in before.__name__)):
        general = GatedEmbedding if isinstance(layer, nn.Embedding) else GatedScale
        kind = type(f"Gated{before.__name__}", (general, before), {})
    try:
        if kind is None:
            raise ValueError("no such kind is known")
        layer.__class__ = kind
        layer.attach(parts, gates)
    except ValueError as error:
        layer.__class__ = before
        raise UserError(
            f"layer '{path}' is a {before.__name__}, which cannot be gated ({error}); keep its group in the base"
        ) from None
