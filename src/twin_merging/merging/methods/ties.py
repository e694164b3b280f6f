"""Ties-Merging: trims small entries, elects a sign for each entry, and merges the values that have this sign."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from twin_merging.merging.elections import Majority, Votes, disjoint_merge
from twin_merging.merging.inputs import Inputs
from twin_merging.merging.magnitudes import Magnitudes, Scope, magnitudes_at, trim
from twin_merging.merging.registry import Parameter, merging_method

if TYPE_CHECKING:
    import torch


class Election(Majority):
    """What is found from the whole vectors: each task's threshold, and the sign that decides where votes cancel out."""

    def __init__(self, thresholds: Magnitudes):
        super().__init__()
        self.thresholds = thresholds

    def trimmed(self, parameter: Parameter) -> list[torch.Tensor]:
        """The parameter's vectors, with 0 in place of every entry below its task's threshold."""
        vectors = parameter.vectors.items()
        return [trim(vector, self.thresholds.of(task, parameter.name)[0]) for task, vector in vectors]


def _thresholds(inputs: Inputs, *, density: float, trim: Scope, **_: Any) -> Election:
    return Election(magnitudes_at(inputs, lambda count: [count - int(density * count)], trim))


@merging_method("static", source="Yadav et al. 2023, arXiv 2306.01708", prepare=_thresholds, scales="scaling")
def ties(
    parameter: Parameter,
    election: Election,
    *,
    density: Annotated[
        float,
        {
            "exclusiveMinimum": 0,
            "maximum": 1,
            "description": "share of each task vector's entries that is kept, the largest; never less than one entry",
        },
    ] = 0.2,
    scaling: Annotated[float, {"description": "factor of the merged vector"}] = 1.0,
    trim: Annotated[
        Literal["global", "tensor"], {"description": "trim each task vector as a whole, or tensor by tensor"}
    ] = "global",
    elect: Annotated[
        Literal["sum", "count"], {"description": "an entry's sign is that of the vectors' sum, or that of most of them"}
    ] = "sum",
    merge: Annotated[Literal["mean", "sum"], {"description": "of the entries that have the elected sign"}] = "mean",
) -> tuple[torch.Tensor, Votes]:
    """Trim small entries, elect a sign for each entry, merge the entries that have it: theta_0 + scaling * D.

    An entry is kept if its magnitude is at least the (n - floor(density n))-th smallest of the n magnitudes. Where
    votes cancel out, the sign of the sum of all elected signs decides.
    """
    change, votes = disjoint_merge(election.trimmed(parameter), elect, merge, election)
    return change.mul_(scaling).add_(parameter.base), votes
