"""Two processes that merge, build or export into one folder at once."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.dense_twin import DenseTwin
from tests.random_models import write_models
from tests.tiny import LABELS
from tests.unit.test_building import texts_of
from tests.unit.test_ecosystem import saved
from twin_merging import merge, twin_merge
from twin_merging.api.export import export
from twin_merging.errors import UserError
from twin_merging.io.files import sha256

SCALINGS = (0.25, 0.75)  # what the two processes give, so that their results differ


def merging(place: Path, output: Path, scaling: float, overwrite: bool) -> None:
    models = {task: place / "models" / task for task in ("cola", "sst2", "mnli")}
    base = place / "models" / "base"
    merge("task_arithmetic", base=base, experts=models, output=output, overwrite=overwrite, scaling=scaling, threads=1)


def building(place: Path, output: Path, scaling: float, overwrite: bool) -> None:
    torch.set_num_threads(1)  # as many as in the process of the tests, for the same bytes
    twin_merge(
        base=place / "base", experts={task: place / "experts" / task for task in LABELS}, texts=texts_of(LABELS),
        output=output, rank=2, router={"epochs": 2, "batch_size": 16}, overwrite=overwrite, threads=1,
        shared={"method": "task_arithmetic", "scaling": scaling},
    )  # fmt: skip


def exporting(place: Path, output: Path, scaling: float, overwrite: bool) -> None:
    export(place / "twin", {"a": scaling}, output)


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def call(act: Callable[..., None], place: Path, output: Path, scaling: float, overwrite: bool) -> str:
    try:
        act(place, output, scaling, overwrite)
    except UserError as error:
        return str(error)
    return ""


def take_part(
    number: int, act: Callable[..., None], place: Path, overwrite: bool, rounds: int, barrier: Any, told: Any
) -> None:
    """Call at the same moment as the other process, round after round; the first one looks at what is there then."""
    output = place / "out" / "model"
    for _ in range(rounds):
        barrier.wait()
        said = call(act, place, output, SCALINGS[number], overwrite)
        barrier.wait()
        told.put((number, said, content(output) if number == 0 else {}, os.listdir(output.parent)))
        barrier.wait()
        if number == 0 and not overwrite:
            shutil.rmtree(output)


def together(act: Callable[..., None], place: Path, overwrite: bool, rounds: int) -> list[str]:
    """What was said in all rounds of two processes, in each of which one of the two results has to be there whole, and
    nothing else."""
    wholes = []
    for number, scaling in enumerate(SCALINGS):
        act(place, place / f"alone-{number}", scaling, False)
        wholes.append(content(place / f"alone-{number}"))
    assert wholes[0] != wholes[1]
    context = multiprocessing.get_context("spawn")
    barrier, told = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=take_part, args=(number, act, place, overwrite, rounds, barrier, told))
        for number in range(2)
    ]
    for process in processes:
        process.start()
    found = [told.get(timeout=300) for _ in range(2 * rounds)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert all(whole in wholes for number, _, whole, _ in found if number == 0)
    assert all(listed == ["model"] for *_, listed in found)
    return [said for _, said, *_ in found]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with models to merge, and with a merged one to export from."""
    write_models(tmp_path / "models")
    saved(DenseTwin("roberta", "strict", 0.25), tmp_path / "twin")
    return tmp_path


def test_of_two_merges_that_may_replace_the_last_wins_whole(place: Path) -> None:
    said = together(merging, place, overwrite=True, rounds=10)
    assert said == [""] * 20


def test_of_two_merges_that_may_not_replace_the_second_is_refused(place: Path) -> None:
    said = together(merging, place, overwrite=False, rounds=10)
    assert said.count("") == 10
    refused = [line for line in said if line]
    assert all("model: was filled by another process meanwhile" in line or "holds a merged" in line for line in refused)


def test_of_two_exports_the_second_is_refused(place: Path) -> None:
    said = together(exporting, place, overwrite=False, rounds=6)
    assert said.count("") == 6
    assert all("model: was filled by another" in line or "model: exists" in line for line in said if line)


@pytest.mark.parametrize("overwrite", [True, False])
def test_of_two_that_build_twins_one_is_there_whole(tiny: Path, tmp_path: Path, overwrite: bool) -> None:
    shutil.copytree(tiny, tmp_path, dirs_exist_ok=True)
    said = together(building, tmp_path, overwrite, rounds=2)
    assert said.count("") == (4 if overwrite else 2)
