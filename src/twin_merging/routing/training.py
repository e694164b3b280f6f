"""Stage route: makes one router of any kind from stored features or task vectors, and trains it if it is an mlp."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from twin_merging.io.files import write_json
from twin_merging.io.tensors import save_tensors
from twin_merging.routing.fetched import fetched_state
from twin_merging.routing.fitting import Fitted, fit_mahalanobis, fit_neighbours, fit_projection
from twin_merging.routing.held_out import held_out_metrics
from twin_merging.routing.kinds import build_router
from twin_merging.routing.mlp import MLPRouter
from twin_merging.routing.read_features import Labelled, is_read, joined, labelled
from twin_merging.routing.router import Router, router_tensors
from twin_merging.routing.temperatures import stored_temperature
from twin_merging.routing.verdicts import UNKNOWN, stored_threshold

log = logging.getLogger(__name__)


def make_router(
    *,
    features: Path,
    tasks: list[str],
    settings: Mapping[str, Any],
    seed: int,
    output: Path,
    metrics: Path,
    task_vectors: Mapping[str, Path] | None = None,
    fetched: Path | None = None,
) -> None:
    """Make a router from features, and write its tensors to `output` and what it does on validation rows to `metrics`.

    features: the file with the tensors `<task>/train` and `<task>/validation`.
    settings: kind, features and the kind's options.
    task_vectors: for kind projection, each task's file; it reads no train rows.
    fetched: a file with an mlp that was trained elsewhere; it is checked and measured here, and nothing is trained.
    Validation rows choose the mlp's epoch. Test rows are never read.
    """
    held_out = labelled(features, tasks, "validation")
    reading: dict[str, torch.Tensor] = {}
    read: dict[str, Any] = {}
    if fetched:
        hub = settings["hub"]
        state, details = fetched_state(fetched, tasks, hub.get("tasks"), held_out[0].shape[1]), {"hub": hub}
    elif settings["kind"] == "projection":
        ordered = {task: (task_vectors or {})[task] for task in tasks}
        state, details = fit_projection(held_out[0].shape[1], ordered, settings["layer"], settings["rank"])
    else:
        train = labelled(features, tasks, "train")
        if is_read(settings["features"]):
            train, held_out, reading, read = joined(features, tasks, settings["features"], train, held_out)
        state, details = _fit(train=train, held_out=held_out, tasks=tasks, settings=settings, seed=seed)
    state, details = {**state, **reading}, {**details, **read}
    measured = held_out_metrics(build_router(settings, tasks, state), *held_out, settings.get(UNKNOWN))
    log.info("%s: held-out accuracy %.4f", settings["kind"], measured["held_out_accuracy"])
    below = measured[UNKNOWN]["threshold"] if UNKNOWN in measured else None
    save_tensors(output, state, stored_temperature(measured["calibrated"]["temperature"]) | stored_threshold(below))
    write_json(metrics, {"kind": settings["kind"], "features": settings["features"], **details, **measured})


def _fit(
    *,
    train: Labelled,
    held_out: Labelled,
    tasks: list[str],
    settings: Mapping[str, Any],
    seed: int,
) -> Fitted:
    match settings["kind"]:
        case "mlp":
            return train_mlp(train, held_out, tasks, settings, seed)
        case "mahalanobis":
            return fit_mahalanobis(*train, len(tasks))
        case "neighbours":
            return fit_neighbours(*train, len(tasks), settings["stored"])
        case kind:
            raise ValueError(f"unknown kind of router {kind!r}")


def train_mlp(train: Labelled, held_out: Labelled, tasks: list[str], settings: Mapping[str, Any], seed: int) -> Fitted:
    """Train an mlp by AdamW, with a learning rate that decays linearly to 0.

    settings: epochs, batch_size, learning_rate, weight_decay, dropout, hidden_size. The epoch that is kept has the
    highest held-out accuracy (the mean over tasks); of equal ones, it has the lowest loss.
    """
    x, y = train
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    router = MLPRouter(tasks, x.shape[1], settings["hidden_size"], settings["dropout"])
    optimiser = torch.optim.AdamW(
        router.parameters(), lr=settings["learning_rate"], weight_decay=settings["weight_decay"]
    )
    size = settings["batch_size"]
    # Batch normalisation cannot work on a single row, so a last batch of one row is added to the batch before.
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
        accuracy, loss = _accuracy_and_loss(router, *held_out)
        log.info("epoch %d: held-out accuracy %.4f, loss %.4f", epoch, accuracy, loss)
        if (accuracy, -loss) > best:
            best, chosen = (accuracy, -loss), epoch
            state = {name: tensor.clone() for name, tensor in router_tensors(router).items()}
    return state, {"epoch": chosen, "train_rows": len(x)}


def _accuracy_and_loss(router: Router, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    router.eval()
    with torch.inference_mode():
        logits = router(x)
        right = (logits.argmax(-1) == y).double()
        share = torch.stack([right[y == task].mean() for task in range(len(router.tasks))]).mean()
        return float(share), float(nn.functional.cross_entropy(logits, y))
