"""Methods that first prune each task vector by a rule of their own, and then merge: DARE, DELLA, Model Breadcrumbs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from twin_merging.merging.elections import Majority, Votes, disjoint_merge
from twin_merging.merging.inputs import Inputs, RowRange
from twin_merging.merging.magnitudes import magnitudes_at, trim
from twin_merging.merging.randomness import drop_at_random, drop_by_rank, numbers_of
from twin_merging.merging.registry import Parameter, merging_method, merging_methods

if TYPE_CHECKING:
    import torch

Prune = Callable[[Parameter], Parameter]
SEED = {"minimum": 0, "description": "of the random masks; absent: the suite's"}


def _pruned(parameter: Parameter, prune: Callable[[str, torch.Tensor], torch.Tensor]) -> Parameter:
    return replace(parameter, vectors={task: prune(task, vector) for task, vector in parameter.vectors.items()})


@dataclass(frozen=True)
class Then:
    """The method that merges the pruned vectors, with what it has prepared and its options."""

    prune: Prune
    function: Callable[..., Any]
    prepared: tuple[Any, ...]
    options: Mapping[str, Any]

    def __call__(self, parameter: Parameter) -> Any:
        return self.function(self.prune(parameter), *self.prepared, **self.options)

    def settle(self, notes: Sequence[tuple[RowRange, Any]]) -> list[RowRange]:
        return self.prepared[0].settle(notes)


class Election(Majority):
    """Prunes vectors for an election, and holds the sign that decides where votes cancel out."""

    def __init__(self, prune: Prune):
        super().__init__()
        self.prune = prune

    def pruned(self, parameter: Parameter) -> list[torch.Tensor]:
        return list(self.prune(parameter).vectors.values())


def _then(inputs: Inputs, entry: Mapping[str, Any], prune: Prune) -> Then:
    method = merging_methods()[entry["method"]]
    options = {key: value for key, value in entry.items() if key != "method"}
    prepared = () if method.prepare is None else (method.prepare(inputs.over(prune), **options),)
    return Then(prune, method.function, prepared, options)


def _prepare_dare(inputs: Inputs, *, drop_rate: float, then: Mapping[str, Any], vectors: str, seed: int) -> Then:
    def dropped(parameter: Parameter) -> Parameter:
        if vectors == "keep" and len(parameter.shape) < 2:
            return parameter
        return _pruned(
            parameter, lambda task, vector: drop_at_random(vector, numbers_of(parameter, task, seed), drop_rate)
        )

    return _then(inputs, then, dropped)


@merging_method("static", source="Yu et al. 2024, arXiv 2311.03099", prepare=_prepare_dare, scales="then")
def dare(
    parameter: Parameter,
    prepared: Then,
    *,
    drop_rate: Annotated[
        float, {"minimum": 0, "exclusiveMaximum": 1, "description": "p: probability that an entry is dropped"}
    ],
    then: Annotated[
        Mapping[str, Any],
        {
            "methods": ["task_arithmetic", "ties", "weight_average"],
            "description": "`{method: ..., options}` of the method that merges what is left: "
            "task_arithmetic, ties or weight_average",
        },
    ],
    vectors: Annotated[
        Literal["keep", "drop"],
        {"description": "1-D tensors: kept whole, as the paper's code does, or dropped like the others"},
    ] = "keep",
    seed: Annotated[int | None, SEED] = None,
) -> Any:
    """Drop entries of the task vectors at random, divide the others by 1 - p, then merge by another method.

    Which entries are dropped depends only on the seed, the task and the tensor's name.
    """
    return prepared(parameter)


def _check_della(options: Mapping[str, Any], tasks: list[str]) -> None:
    density, epsilon = options["density"], options["epsilon"]
    if not density - epsilon > 0 or not density + epsilon < 1:
        raise ValueError(
            f"density {density} and epsilon {epsilon}: density - epsilon must be more than 0 and "
            "density + epsilon less than 1; make epsilon smaller"
        )


def _prepare_della(inputs: Inputs, *, density: float, epsilon: float, seed: int, **_: Any) -> Election:
    def dropped(parameter: Parameter) -> Parameter:
        return _pruned(
            parameter,
            lambda task, vector: drop_by_rank(vector, numbers_of(parameter, task, seed), density, epsilon),
        )

    return Election(dropped)


@merging_method(
    "static",
    source="Deep et al. 2024, arXiv 2406.11617",
    prepare=_prepare_della,
    check=_check_della,
    scales="scaling",
)
def della(
    parameter: Parameter,
    election: Election,
    *,
    density: Annotated[
        float, {"exclusiveMinimum": 0, "exclusiveMaximum": 1, "description": "mean probability that an entry is kept"}
    ] = 0.3,
    epsilon: Annotated[
        float,
        {
            "minimum": 0,
            "description": "a row's smallest entry is kept with probability density - epsilon, its largest with "
            "density + epsilon",
        },
    ] = 0.1,
    scaling: Annotated[float, {"description": "factor of the merged vector"}] = 1.0,
    elect: Annotated[Literal["sum", "count"], {"description": "as in ties"}] = "sum",
    merge: Annotated[Literal["mean", "sum"], {"description": "as in ties"}] = "mean",
    seed: Annotated[int | None, SEED] = None,
) -> tuple[torch.Tensor, Votes]:
    """Drop entries at random, small ones of each row more often, rescale the others, then elect and merge as Ties does.

    Within a row the probability to be kept grows linearly with the rank of the magnitude. A 1-D tensor is one row.
    """
    change, votes = disjoint_merge(election.pruned(parameter), elect, merge, election)
    return change.mul_(scaling).add_(parameter.base), votes


def _check_breadcrumbs(options: Mapping[str, Any], tasks: list[str]) -> None:
    if options["density"] + options["gamma"] > 1:
        raise ValueError(
            f"density {options['density']} and gamma {options['gamma']} sum to more than 1; make one smaller"
        )


def breadcrumb_ranks(count: int, density: float, gamma: float) -> list[int]:
    """Of `count` magnitudes, the ranks of the smallest and of the largest one that is kept; at least one is kept.

    Where density and gamma sum to more than 1, fewer of the largest are dropped, so that `density` remain."""
    largest = max(1, count - int(gamma * count), int(density * count))
    return [max(1, largest - max(1, int(density * count)) + 1), largest]


def _prepare_breadcrumbs(inputs: Inputs, *, density: float, gamma: float, **_: Any) -> Election:
    bounds = magnitudes_at(inputs, lambda count: breadcrumb_ranks(count, density, gamma), "tensor")

    def kept(parameter: Parameter) -> Parameter:
        return _pruned(parameter, lambda task, vector: between(vector, *bounds.of(task, parameter.name)))

    return Election(kept)


def between(vector: torch.Tensor, smallest: float, largest: float) -> torch.Tensor:
    """The vector with 0 in place of every entry whose magnitude is not between two bounds (included)."""
    kept = trim(vector, smallest)
    return kept * (kept.abs() <= largest)


@merging_method(
    "static",
    source="Davari and Belilovsky 2024, arXiv 2312.06795",
    prepare=_prepare_breadcrumbs,
    check=_check_breadcrumbs,
    scales="scaling",
)
def breadcrumbs(
    parameter: Parameter,
    election: Election,
    *,
    density: Annotated[
        float, {"exclusiveMinimum": 0, "maximum": 1, "description": "share of each tensor's entries that is kept"}
    ] = 0.14,
    gamma: Annotated[
        float,
        {"minimum": 0, "exclusiveMaximum": 1, "description": "share of each tensor's entries dropped as too large"},
    ] = 0.01,
    scaling: Annotated[float, {"description": "factor of the merged vector"}] = 0.3,
    elect: Annotated[
        Literal["sum", "count", None],
        {"description": "elect signs and average what agrees, as ties does; absent: sum, as task_arithmetic does"},
    ] = None,
) -> Any:
    """Drop the largest entries of each tensor (outliers) and the smallest ones, then add up: theta_0 + scaling * D."""
    vectors = election.pruned(parameter)
    if elect is not None:
        change, votes = disjoint_merge(vectors, elect, "mean", election)
        return change.mul_(scaling).add_(parameter.base), votes
    merged = parameter.base.clone()
    for vector in vectors:
        merged.add_(vector, alpha=scaling)
    return merged
