"""Tables as the workflow writes them, made up, and what a figure of them is told."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twin_merging.io.tensors import save_tensors
from twin_merging.reporting.figures.style import Drawing, drawing, save

TITLE = "Tasks & methods: 100 % of $both$ <kinds>, named é"
COLUMNS = ("scale model task value low high than difference difference_low difference_high mark").split()
# One model of each kind; numbers from 0 to 1 that a score is made of.
KINDS = {"pretrained": "pretrained", "sum": "static", "ties": "static", "emr": "masked", "twin": "dynamic"}


def kinds_of(count: int) -> dict[str, str]:
    """That many models with long names, most of them static."""
    kinds = dict(list(KINDS.items())[:count])
    for number in range(count - len(kinds)):
        kind = ("static", "dynamic", "static")[number % 3]
        kinds[f"a-method-with-a-long-name-{number}"] = kind
    return kinds


def write_intervals(
    path: Path, kinds: Mapping[str, str], tasks: Sequence[str], unscored: Sequence[str] = (), best: str = "twin"
) -> Path:
    """intervals.csv. unscored: tasks without normalised scores."""
    lines: list[list[Any]] = []
    for scale in ("normalised", "absolute"):
        known = [task for task in tasks if scale == "absolute" or task not in unscored]
        for place, model in enumerate([*kinds, "experts"]):
            values = {task: 97.5 * ((7 * place + 3 * number) % 11) / 10 - 3 for number, task in enumerate(known)}
            if model == "experts":
                values = dict.fromkeys(known, 100.0 if scale == "normalised" else 80.0)
            if known:
                values["avg"] = float(np.mean(list(values.values())))
            for task, value in values.items():
                width = 0 if (model, scale) == ("experts", "normalised") else 1 + place % 3
                mark = "best" if model == best else ""
                lines.append([scale, model, task, value, value - width, value + width, "", "", "", "", mark])
    return write_csv(path, COLUMNS, lines)


def write_csv(path: Path, columns: Sequence[str], lines: Sequence[Sequence[Any]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([columns, *lines])
    return path


def write_storage(path: Path, kinds: Mapping[str, str]) -> Path:
    """storage.csv: all static models have the same bytes, dynamic ones have more and more."""
    lines = []
    for place, (model, kind) in enumerate([*kinds.items(), ("experts", "experts")]):
        more = {"dynamic": 40_000 * 1.3**place, "masked": 900_000, "experts": 9e6}.get(kind, 0)
        lines.append([model, kind, int(1_000_000 + more)])
    return write_csv(path, ["model", "kind", "bytes"], lines)


def write_exclusive(path: Path, squares: Sequence[Sequence[float]], norms: Sequence[float]) -> Path:
    """An exclusive file of matrices with these squared singular values, and these squared norms before the cut."""
    import torch

    tensors: dict[str, torch.Tensor] = {}
    for number, (own, norm2) in enumerate(zip(squares, norms, strict=True)):
        name = f"layer.{number}.weight"
        tensors |= {f"{name}.U": torch.zeros(4, len(own)), f"{name}.V": torch.zeros(len(own), 5)}
        tensors |= {f"{name}.S": torch.tensor(own).sqrt(), f"{name}.norm2": torch.tensor([norm2], dtype=torch.float64)}
    save_tensors(path, {**tensors, "layer.0.bias": torch.ones(3)})
    return path


def every_figure(
    folder: Path, tasks: Sequence[str] = ("one", "two", "three"), kinds: Mapping[str, str] = KINDS,
    unscored: Sequence[str] = (),
) -> dict[str, tuple[dict[str, Any], dict[str, list[Path]]]]:  # fmt: skip
    """Settings and files of each figure that a suite of these tasks and models can have."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks = list(tasks)
    said = {"title": TITLE, "tasks": tasks, "kinds": dict(kinds)}
    intervals = {"intervals": [write_intervals(folder / "intervals.csv", kinds, tasks, unscored)]}
    storage = {"storage": [write_storage(folder / "storage.csv", kinds)]}
    found: dict[str, Any] = dict.fromkeys(("averages", "methods", "radar"), (said, intervals))
    found["storage"] = said, {**intervals, **storage}
    cross = [[task, *(90.0 - 25 * abs(a - b) for b in range(len(tasks)))] for a, task in enumerate(tasks)]
    found["experts"] = said, {"experts": [write_csv(folder / "experts.csv", ["expert", *tasks], cross)]}
    if dynamic := [model for model, kind in kinds.items() if kind == "dynamic"]:
        found |= _of_routers(folder, tasks, dynamic)
    points = [
        {"model": model, "line": f"line of {kind}", "value": 2.0**place}
        for place, (model, kind) in enumerate(kinds.items())
    ]
    found["sweeps"] = {**said, "option": "rank", "points": points}, intervals
    return found


def _of_routers(folder: Path, tasks: Sequence[str], dynamic: Sequence[str]) -> dict[str, Any]:
    groups = [{"models": [model], "tasks": list(tasks)} for model in dynamic]
    counts = np.full((len(tasks), len(tasks)), 2) + 40 * np.eye(len(tasks), dtype=int)
    lines = [[model, "test", task, *counts[row]] for model in dynamic for row, task in enumerate(tasks)]
    routing = write_csv(folder / "routing.csv", ["model", "rows", "task", *tasks], lines)
    weights = [list(row / row.sum()) for row in counts for _ in range(2)]
    predictions = folder / "predictions.parquet"
    pd.DataFrame({"task": np.repeat(list(tasks), 2), "weights": weights}).to_parquet(predictions)
    exclusives = [
        write_exclusive(folder / f"{task}.safetensors", [[4.0, 2.0, 1.0], [3.0, 1.0]], [9.0 + number, 4.0])
        for number, task in enumerate(tasks)
    ]
    found: dict[str, Any] = {
        "routing": ({"title": TITLE, "routers": groups}, {"routing": [routing]}),
        "weights": ({"title": TITLE, "mixtures": groups}, {"predictions": [predictions] * len(groups)}),
        "spectrum": ({"title": TITLE, "shared": {"sum": list(tasks)}}, {"exclusives": exclusives}),
    }
    if len(tasks) > 1:
        grid = (-0.5, 0.0, 0.5, 1.0)
        plane = [[a, b, task, 50 + 20 * a - 10 * b, 7] for a in grid for b in grid for task in tasks[:2]]
        path = write_csv(folder / "plane.csv", ["a", "b", "task", "score", "rows"], plane)
        found["plane"] = {"title": TITLE, "method": "twin", "tasks": list(tasks[:2])}, {"plane": [path]}
    return found


def drawn(name: str, settings: Mapping[str, Any], files: Mapping[str, Sequence[Path]]) -> Drawing:
    """A figure, drawn in our style."""
    with drawing():
        figure = import_module(f"twin_merging.reporting.figures.{name}").draw(settings, files)
        figure.figure.draw_without_rendering()
    return figure


def written(name: str, settings: Mapping[str, Any], files: Mapping[str, Sequence[Path]], folder: Path) -> Path:
    """The SVG of a figure; its PNG lies beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    svg = folder / f"{name}.svg"
    with drawing():
        figure = import_module(f"twin_merging.reporting.figures.{name}").draw(settings, files)
        save(figure, svg, svg.with_suffix(".png"))
    return svg
