"""The temperature at which a router's weights are the likeliest on held-out rows.

(Guo et al. 2017, arXiv 1706.04599, section 4.2.)
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from twin_merging.scoring.calibration import expected_calibration_error

LEAST, MOST = 1e-2, 1e2  # rows that are all routed rightly would ask for 0
_HALVINGS = 60


def fitted_temperature(logits: torch.Tensor, y: torch.Tensor) -> float:
    """The temperature, from LEAST to MOST and to 4 digits, of the least mean cross-entropy of softmax(logits / it).

    logits (n, T); y (n,): each row's own task. A row whose own logit is -inf has an infinite loss at any temperature,
    and is left out; without any other row the temperature is 1. The loss is convex in 1 / temperature, so the sign of
    its derivative says on which side of a value the least is.
    """
    rows = logits.gather(1, y[:, None]).isfinite()[:, 0]
    logits, y = logits[rows].double(), y[rows]
    if not len(logits):
        return 1.0
    logits = logits - logits.amax(1, keepdim=True)
    finite = logits.masked_fill(logits.isinf(), 0.0)
    own = finite.gather(1, y[:, None]).mean()
    low, high = math.log(1 / MOST), math.log(1 / LEAST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        expected = ((logits * math.exp(middle)).softmax(1) * finite).sum(1).mean()
        low, high = (middle, high) if expected < own else (low, middle)
    return float(f"{math.exp(-(low + high) / 2):.4g}")


def calibration(logits: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
    """What metrics.json says: the temperature, and the loss and the expected calibration error that it gives on the
    rows that it is fitted on. (metrics.json has both at temperature 1 too.)"""
    temperature = fitted_temperature(logits, y)
    loss = float(nn.functional.cross_entropy(logits.double() / temperature, y))
    weights = (logits.double() / temperature).softmax(-1)
    return {
        "temperature": temperature,
        "held_out_loss": loss if math.isfinite(loss) else None,
        "expected_calibration_error": expected_calibration_error(weights.numpy(), y.numpy()),
    }
