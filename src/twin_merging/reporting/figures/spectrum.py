"""How much of the exclusive knowledge the first singular values hold: cumulative energy against rank."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twin_merging.compression.exclusives import Exclusive
from twin_merging.reporting.figures.legends import of_lines
from twin_merging.reporting.figures.style import COLOURS, Drawing, entitle, heading, new_figure, plain_number, series

TITLE = "Energy of exclusive knowledge by rank"
COLUMNS = 2


@dataclass(frozen=True)
class Spectrum:
    """energy: for rank 0, 1, 2, ... the share of the matrices' squared norms that is kept, in percent.

    is_whole: whether the file holds all of it.
    """

    energy: npt.NDArray[np.float64]

    @property
    def is_whole(self) -> bool:
        return bool(self.energy[-1] > 100 * (1 - 1e-6))


def draw(settings: Mapping[str, Any], files: Mapping[str, Sequence[Path]]) -> Drawing:
    """settings: title; shared, for each shared expert the tasks of its exclusive files. files: exclusives, in this
    order."""
    paths = iter(files["exclusives"])
    found = {shared: {task: spectrum(next(paths)) for task in tasks} for shared, tasks in settings["shared"].items()}
    columns = min(COLUMNS, len(found))
    rows = math.ceil(len(found) / columns)
    figure = new_figure(heading(3) + 0.6 + 2.5 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for number, axes in enumerate(grid.flat):
        if number >= len(found):
            axes.set_visible(False)
            continue
        shared = list(found)[number]
        _panel(axes, found[shared], {task: place for place, task in enumerate(_tasks(found))})
        axes.set_title(f"beside {shared}")
        if number % columns == 0:
            axes.set_ylabel("energy kept, % of the squared norm")
    _legend(figure, grid.flat)
    caption = "Share of the squared norm of all matrices of expert − shared model that the first "
    caption += "singular values of each hold."
    if not all(one.is_whole for tasks in found.values() for one in tasks.values()):
        caption += " A line ends where the stored triples do; 100 % is the norm before the cut."
    entitle(figure, TITLE, settings["title"], caption)
    return Drawing(figure, TITLE, caption, f"Energy at the largest stored rank, in percent. {_said(found)}.")


def spectrum(path: Path) -> Spectrum:
    """The spectrum of an exclusive file: of all its matrices together, each cut to the same rank."""
    exclusive, total = Exclusive(path, {"energy": 1.0}), 0.0
    squares: list[npt.NDArray[np.float64]] = []
    for name in exclusive.matrices:
        values, norm2 = exclusive.values(name)
        squares.append(values.double().numpy() ** 2)
        total += norm2
    energy = np.zeros(1 + max(map(len, squares), default=0))
    for own in squares:
        energy[1 : len(own) + 1] += own
    return Spectrum(100 * energy.cumsum() / total if total > 0 else energy + 100)


def average(spectra: Sequence[Spectrum]) -> npt.NDArray[np.float64]:
    """The mean of spectra, of which the shorter ones stay at their last value, where these are whole; as long as the
    shortest of the others."""
    length = max(len(one.energy) for one in spectra)
    length = min([length, *(len(one.energy) for one in spectra if not one.is_whole)])
    padded = [np.pad(one.energy[:length], (0, max(0, length - len(one.energy))), mode="edge") for one in spectra]
    return np.mean(padded, axis=0)


def _tasks(found: Mapping[str, Mapping[str, Spectrum]]) -> list[str]:
    return list(dict.fromkeys(task for tasks in found.values() for task in tasks))


def _panel(axes: Any, tasks: Mapping[str, Spectrum], numbers: Mapping[str, int]) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    for task, own in tasks.items():
        look = {**series(numbers[task], COLOURS[1:]), "markersize": 2.6}
        axes.plot(range(1, len(own.energy)), own.energy[1:], **look, linewidth=0.9, label=task,
                  markevery=max(1, len(own.energy) // 12))  # fmt: skip
    if len(tasks) > 1:
        mean = average(list(tasks.values()))
        axes.plot(range(1, len(mean)), mean[1:], color="black", linewidth=1.5, label="average", zorder=4)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
    axes.set_ylim(0, 103)
    axes.set_xlabel("rank of each matrix (logarithmic)")


def _legend(figure: Any, panels: Any) -> None:
    known: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            known.setdefault(label, handle)
    of_lines(figure, list(known.values()), list(known))


def _said(found: Mapping[str, Mapping[str, Spectrum]]) -> str:
    return "; ".join(
        f"beside {shared}: " + ", ".join(f"{task} {own.energy[-1]:.1f} at rank {len(own.energy) - 1}"
                                         for task, own in tasks.items())
        for shared, tasks in found.items()
    )  # fmt: skip
