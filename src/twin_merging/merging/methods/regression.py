"""Methods that find the merged matrix of a linear layer by least squares. All other parameters are averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from twin_merging.checkpoints.groups import group_of
from twin_merging.merging.matrices import divided, is_matrix, mean_of
from twin_merging.merging.registry import Parameter, merging_method

if TYPE_CHECKING:
    import torch


Alpha = Annotated[
    float, {"minimum": 0, "maximum": 1, "description": "factor of the Gram matrices' off-diagonal entries"}
]


@merging_method("static", source="Jin et al. 2023, arXiv 2212.09849", whole=True, statistics="gram-matrices")
def regmean(
    parameter: Parameter,
    *,
    alpha: Alpha = 0.9,
) -> torch.Tensor:
    """Find linear layers whose outputs are nearest to the experts', on the experts' own inputs.

    W = (sum_t W_t G_t) (sum_t G_t)^-1, where G_t = X_t' X_t and X_t are the inputs of expert t's layer on its training
    rows. Where the sum of the G_t is singular, its pseudo-inverse is used. All other parameters are averaged.
    """
    import torch

    vectors = list(parameter.vectors.values())
    mean = mean_of(vectors)
    if not parameter.statistics:
        return parameter.base + mean
    total = torch.zeros_like(next(iter(parameter.statistics.values())), dtype=torch.float64)
    weighted = torch.zeros_like(mean, dtype=torch.float64)
    for task, gram in parameter.statistics.items():
        shrunk = gram.double() * alpha
        shrunk.diagonal().div_(alpha) if alpha else shrunk.diagonal().copy_(gram.diagonal())
        weighted += (parameter.vectors[task] - mean).double() @ shrunk
        total += shrunk
    return parameter.base + (mean.double() + divided(weighted, total, parameter.name)).float()


@merging_method("static", source="Cheng et al. 2025, arXiv 2503.08099", whole=True, scales="scaling")
def wudi(
    parameter: Parameter,
    *,
    scaling: Annotated[float, {"description": "factor of the merged change"}] = 1.0,
    solver: Annotated[
        Literal["closed", "adam"],
        {"description": "the minimum itself, or what the authors' optimiser reaches on the way to it"},
    ] = "closed",
    ridge: Annotated[
        float, {"minimum": 0, "description": "closed: added to the diagonal, as a share of the mean diagonal entry"}
    ] = 0.0,
    steps: Annotated[int, {"minimum": 0, "description": "adam: steps, from the sum of the vectors"}] = 300,
    learning_rate: Annotated[
        float,
        {
            "exclusiveMinimum": 0,
            "description": "adam: its learning rate; their code has 1e-5 for vision models, 2e-5 for RoBERTa",
        },
    ] = 1e-5,
) -> torch.Tensor:
    """Find the change D that interferes least with the tasks: it minimises sum_t |(D - tau_t) tau_t'|^2 / |tau_t|^2.

    The minimum is D = C G^+ with G = sum_t tau_t' tau_t / |tau_t|^2 and C = sum_t tau_t tau_t' tau_t / |tau_t|^2; the
    authors take Adam steps towards it, from the sum of the tau_t. Their published scores of RoBERTa are of 300 steps at
    2e-5 under protocol `linear`. The rows of tau_t stand for a linear layer's inputs, so this is done for linear
    layers only. All other parameters, embeddings among them, get the mean of the task vectors.
    """
    import torch

    vectors = list(parameter.vectors.values())
    if not is_matrix(parameter.shape) or group_of(parameter.name) != "matrix":
        return parameter.base + scaling * mean_of(vectors)
    n = parameter.shape[1]
    gram = torch.zeros(n, n, dtype=torch.float64)
    target = torch.zeros(parameter.shape, dtype=torch.float64)
    start = torch.zeros(parameter.shape, dtype=torch.float64)
    for vector in vectors:
        own = vector.double()
        start += own
        norm2 = own.square().sum()
        if norm2 > 0:
            share = own.T @ own / norm2
            gram += share
            target += own @ share
    if solver == "adam":
        change = _descend(start, gram, target, steps, learning_rate)
    else:
        gram.diagonal().add_(ridge * gram.diagonal().mean())
        change = divided(target, gram, parameter.name)
    return parameter.base + (scaling * change).float()


def _descend(
    start: torch.Tensor, gram: torch.Tensor, target: torch.Tensor, steps: int, learning_rate: float
) -> torch.Tensor:
    """Take `steps` steps of Adam on the objective, whose gradient is 2 (D G - C)."""
    import torch

    change = start.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([change], lr=learning_rate)
    for _ in range(steps):
        with torch.no_grad():
            change.grad = 2 * (change @ gram - target)
        optimiser.step()
    return change.detach()
