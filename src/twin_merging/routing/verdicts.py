"""Which inputs come from none of a router's tasks: the verdict `unknown`.

A router knows an input by its logits. An input that is less known than a threshold is answered by the shared expert
alone. The threshold is chosen on held-out rows of the tasks: a given share of them lies below it. No input from
elsewhere is needed, and no test row is read. The threshold stands in the header of the router's file.

How known an input is: the log of its largest probability (Hendrycks and Gimpel 2017, arXiv 1610.02136); of a router
that measures distances, how near the nearest task is (Lee et al. 2018, arXiv 1807.03888), see `Router.known`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from twin_merging.routing.tensors import number_in_header

if TYPE_CHECKING:
    import torch

UNKNOWN = "unknown"  # the option of routers: the share of held-out rows below the threshold
VERDICT = ("routed", "unknown")  # columns of predictions: the task that a row is routed to, and whether it is unknown
_STORED = "unknown_below"


class Routed(NamedTuple):
    """What a router says of a batch. weights (batch, T): those that are used, 0 of an input that is unknown; tasks
    (batch,): the number of the task that each input is routed to, which is that of the largest weight before."""

    weights: torch.Tensor
    tasks: torch.Tensor

    @classmethod
    def by(cls, weights: torch.Tensor) -> Routed:
        """Each input to the task of its largest weight."""
        return cls(weights, weights.argmax(-1))

    @property
    def unknown(self) -> torch.Tensor:
        """Of each input (batch,) whether it comes from none of the tasks."""
        return (self.weights == 0).all(-1)


def threshold_of(known: torch.Tensor, share: float) -> float:
    """The value below which that share of rows lies, rounded down to whole rows. known (n,): of held-out rows, fp32."""
    return float(known.sort().values[min(math.floor(share * len(known)), len(known) - 1)])


def verdicts(known: torch.Tensor, y: torch.Tensor, tasks: list[str], share: float) -> dict[str, Any]:
    """What metrics.json says: the threshold, and the share of each task's held-out rows that are unknown by it.

    y (n,): each row's own task."""
    below = threshold_of(known, share)
    found = known < below
    rates = {task: float(found[y == number].double().mean()) for number, task in enumerate(tasks)}
    return {"share": share, "threshold": below, "held_out": rates}


def stored_threshold(below: float | None) -> dict[str, str]:
    """The threshold, for the header of a router's file; nothing where there is none."""
    return {} if below is None else {_STORED: repr(below)}


def threshold_in(settings: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> float | None:
    """The threshold that the header of a router's file says; None where its settings ask for no verdict.

    Raises UserError if they do and the file says none.
    """
    if settings.get(UNKNOWN) is None:
        return None
    return number_in_header(state, _STORED, f"router.{UNKNOWN}")
