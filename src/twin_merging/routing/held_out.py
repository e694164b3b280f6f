"""What a router does on held-out rows."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from twin_merging.routing.router import Router
from twin_merging.scoring.calibration import expected_calibration_error

ROWS = 4096  # rows a pass


def held_out_metrics(router: Router, x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
    """Of features x (n, d) of tasks y (n,), at temperature 1 and with all weights: cross-entropy (null where it is
    infinite: a true task's weight is 0), expected calibration error, accuracy of the task identified for each task and
    their mean, and counts of rows by true and routed task."""
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
        "accuracy": {task: float(share) for task, share in zip(tasks, shares, strict=True)},
        "confusion": {
            task: dict(zip(tasks, row.tolist(), strict=True)) for task, row in zip(tasks, confusion, strict=True)
        },
    }
