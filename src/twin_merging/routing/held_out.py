"""Measures a router on held-out rows."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from twin_merging.routing.calibrating import calibration
from twin_merging.routing.router import Router
from twin_merging.routing.verdicts import UNKNOWN, verdicts
from twin_merging.scoring.calibration import expected_calibration_error

ROWS = 4096  # how many rows are computed at once


def held_out_metrics(router: Router, x: torch.Tensor, y: torch.Tensor, unknown: float | None = None) -> dict[str, Any]:
    """Measure a router on the features x (n, d) of the tasks y (n,), at temperature 1 and without top_k.

    Returns the cross-entropy (None if it is infinite because a true task has the weight 0), the expected calibration
    error, both again at the temperature that fits these rows best (`calibrated`), for each task the share of rows whose
    task is found, the mean of these shares, and the counts of rows by true and routed task.
    """
    router.eval()
    with torch.inference_mode():
        logits = torch.cat([router(part) for part in x.split(ROWS)])
    tasks = router.tasks
    loss = float(nn.functional.cross_entropy(logits, y))
    confusion = torch.zeros(len(tasks), len(tasks), dtype=torch.int64)
    confusion.index_put_((y, logits.argmax(-1)), torch.ones_like(y), accumulate=True)
    shares = confusion.diagonal().double() / confusion.sum(1)
    return {
        "held_out_rows": len(x),
        "held_out_loss": loss if math.isfinite(loss) else None,
        "held_out_accuracy": float(shares.mean()),
        "expected_calibration_error": expected_calibration_error(logits.softmax(-1).numpy(), y.numpy()),
        "calibrated": calibration(logits, y),
        **({} if unknown is None else {UNKNOWN: verdicts(router.known(logits), y, tasks, unknown)}),
        "accuracy": {task: float(share) for task, share in zip(tasks, shares, strict=True)},
        "confusion": {
            task: dict(zip(tasks, row.tolist(), strict=True)) for task, row in zip(tasks, confusion, strict=True)
        },
    }
