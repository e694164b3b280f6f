"""Training the router on cached features, and choosing its epoch on held-out rows."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from twin_merging.checkpoints import Checkpoint, save_tensors
from twin_merging.files import write_json
from twin_merging.routing.router import Router, router_tensors

log = logging.getLogger(__name__)


def train_router(
    features: Path, tasks: list[str], settings: Mapping[str, Any], seed: int, output: Path, metrics: Path
) -> None:
    """Train on `<task>/train` features, choose the epoch on `<task>/validation`, write the state and its metrics.

    settings: epochs, batch_size, learning_rate, weight_decay, dropout, features. AdamW with linear decay to 0. The
    kept epoch has the highest mean over tasks of held-out accuracy, the lowest loss among equals. Test rows are
    never read.
    """
    x, y = _rows(features, tasks, "train")
    held_x, held_y = _rows(features, tasks, "validation")
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    router = Router(tasks, x.shape[1], settings["dropout"], settings["features"])
    optimiser = torch.optim.AdamW(
        router.parameters(), lr=settings["learning_rate"], weight_decay=settings["weight_decay"]
    )
    size = settings["batch_size"]
    # A last batch of one row would leave batch normalisation nothing to measure: it joins the one before.
    starts = [start for start in range(0, len(x), size) if start == 0 or len(x) - start > 1]
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, total_iters=settings["epochs"] * len(starts))
    best: tuple[float, float] = (-1.0, 0.0)
    state, chosen = router_tensors(router), 0
    for epoch in range(1, settings["epochs"] + 1):
        router.train()
        order = torch.randperm(len(x), generator=generator)
        for start, stop in zip(starts, [*starts[1:], len(x)], strict=True):
            rows = order[start:stop]
            optimiser.zero_grad()
            nn.functional.cross_entropy(router(x[rows]), y[rows]).backward()
            optimiser.step()
            schedule.step()
        accuracy, loss = _held_out(router, held_x, held_y, len(tasks))
        log.info("epoch %d: held-out accuracy %.4f, loss %.4f", epoch, accuracy, loss)
        if (accuracy, -loss) > best:
            best, chosen = (accuracy, -loss), epoch
            state = {name: tensor.clone() for name, tensor in router_tensors(router).items()}
    router.load_state_dict(state, strict=False)
    save_tensors(output, state)
    write_json(metrics, {"epoch": chosen, "train_rows": len(x), **held_out_metrics(router, held_x, held_y, tasks)})


def held_out_metrics(router: Router, x: torch.Tensor, y: torch.Tensor, tasks: list[str]) -> dict[str, Any]:
    """Accuracy of the task identified, for each task and their mean, and the confusion counts (true by routed)."""
    router.eval()
    with torch.inference_mode():
        routed = router(x).argmax(-1)
    confusion = torch.zeros(len(tasks), len(tasks), dtype=torch.int64)
    confusion.index_put_((y, routed), torch.ones_like(y), accumulate=True)
    shares = confusion.diagonal() / confusion.sum(1)
    return {
        "held_out_rows": len(x),
        "held_out_accuracy": float(shares.mean()),
        "accuracy": {task: float(share) for task, share in zip(tasks, shares, strict=True)},
        "confusion": {
            task: dict(zip(tasks, row.tolist(), strict=True)) for task, row in zip(tasks, confusion, strict=True)
        },
    }


def _held_out(router: Router, x: torch.Tensor, y: torch.Tensor, tasks: int) -> tuple[float, float]:
    router.eval()
    with torch.inference_mode():
        logits = router(x)
        right = (logits.argmax(-1) == y).double()
        share = torch.stack([right[y == task].mean() for task in range(tasks)]).mean()
        return float(share), float(nn.functional.cross_entropy(logits, y))


def _rows(features: Path, tasks: list[str], split: str) -> tuple[torch.Tensor, torch.Tensor]:
    stored = Checkpoint(features)
    parts = [stored[f"{task}/{split}"] for task in tasks]
    labels = [torch.full((len(part),), index) for index, part in enumerate(parts)]
    return torch.cat(parts), torch.cat(labels)
