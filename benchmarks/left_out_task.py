"""How often rows of a task that a router does not know are `unknown`, and rows of the tasks that it knows.

    python benchmarks/left_out_task.py results/minilm/router/pretrained/features/layer-3-segments-text.safetensors
        [--kind mahalanobis] [--rows 800] [--share 0.01 0.05 0.1]

The file of features has to be there: stage route makes it. Each task is left out in turn. A router is made for the
others, from the first `--rows` train rows of each. Every other validation row of these chooses the threshold, and an
mlp's epoch; the rest of them say how many rows of known tasks are `unknown` all the same. No test row is read.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from twin_merging.io.files import read_json
from twin_merging.io.tensors import Checkpoint, save_tensors
from twin_merging.io.validation import validate
from twin_merging.routing.kinds import build_router
from twin_merging.routing.layers import features_named
from twin_merging.routing.options import RouterOptions
from twin_merging.routing.raw_texts import packed, stored_as, unpacked
from twin_merging.routing.segments import MARKS
from twin_merging.routing.training import make_router
from twin_merging.routing.verdicts import threshold_of


def of_rows(stored: Checkpoint, tasks: Sequence[str], rows: int, output: Path) -> Path:
    """A file of features of some tasks: the first train rows, and every other validation row."""
    found = {MARKS: stored[MARKS]} if MARKS in stored else {}
    for task in tasks:
        for split, part in (("train", slice(0, rows)), ("validation", slice(0, None, 2))):
            found[f"{task}/{split}"] = stored[f"{task}/{split}"][part].contiguous()
            if (name := stored_as(task, split)) in stored:
                found[name] = packed(unpacked(stored[name])[part])
    save_tensors(output, found)
    return output


def known_of(router: Any, stored: Checkpoint, task: str, part: slice) -> torch.Tensor:
    """How well a router knows some validation rows of a task (n,)."""
    texts = unpacked(stored[stored_as(task, "validation")])[part] if router.reads_text else None
    with torch.inference_mode():
        return router.known(router(router.read(stored[f"{task}/validation"][part], texts)))


def without(
    task: str, stored: Checkpoint, tasks: Sequence[str], settings: dict[str, Any], rows: int, shares: Sequence[float]
) -> dict[str, Any]:
    """What a router of all tasks but one says: its accuracy, and at each share the rate of `unknown` among rows of the
    task that it does not know, and the mean over those that it knows."""
    others = [other for other in tasks if other != task]
    with tempfile.TemporaryDirectory() as folder:
        file, state, metrics = (Path(folder, name) for name in ("features", "state", "metrics.json"))
        make_router(
            features=of_rows(stored, others, rows, file), tasks=others, settings=settings, seed=0, output=state,
            metrics=metrics,
        )  # fmt: skip
        router = build_router(settings, others, Checkpoint(state))
        accuracy = read_json(metrics)["held_out_accuracy"]
    choosing = torch.cat([known_of(router, stored, other, slice(0, None, 2)) for other in others])
    measuring = [known_of(router, stored, other, slice(1, None, 2)) for other in others]
    strange = known_of(router, stored, task, slice(0, None))
    found: dict[str, Any] = {"accuracy": accuracy}
    for share in shares:
        below = threshold_of(choosing, share)
        wrongly = torch.stack([(one < below).double().mean() for one in measuring]).mean()
        found[f"{share:g}"] = (float((strange < below).double().mean()), float(wrongly))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", type=Path)
    parser.add_argument("--kind", default="mahalanobis", choices=["mlp", "mahalanobis", "neighbours"])
    parser.add_argument("--rows", type=int, default=800, help="train rows of each task (%(default)s)")
    parser.add_argument("--share", type=float, nargs="+", default=[0.01, 0.05, 0.1], help="of held-out rows")
    parser.add_argument("--without", nargs="+", help="tasks to leave out; all in turn by default")
    given = parser.parse_args()
    stored = Checkpoint(given.features)
    features = features_named(given.features.stem)
    tasks = [name.removesuffix("/validation") for name in stored if name.endswith("/validation")]
    settings = validate(RouterOptions, {"kind": given.kind, "features": features}).settings()
    print(f"{given.kind}, {given.features.stem}, {given.rows} train rows a task; unknown, in percent: rows of the task "
          "that is left out / of the others", flush=True)  # fmt: skip
    columns = ["left out", "accuracy", *(f"share {share:g}" for share in given.share)]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    found = []
    for task in given.without or tasks:
        found.append(without(task, stored, tasks, settings, given.rows, given.share))
        print(_line(task, found[-1]), flush=True)
    mean = {key: _mean([one[key] for one in found]) for key in found[0]}
    print(_line("mean", mean))


def _mean(values: Sequence[Any]) -> Any:
    return tuple(map(_mean, zip(*values, strict=True))) if isinstance(values[0], tuple) else sum(values) / len(values)


def _line(name: str, found: dict[str, Any]) -> str:
    cells = [f"{100 * one[0]:.1f} / {100 * one[1]:.1f}" for one in found.values() if isinstance(one, tuple)]
    return f"| {name} | {100 * found['accuracy']:.1f} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
