"""The same bytes of a merge, whatever the order of experts, shards, chunks, processes, and after an interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.random_models import write_models
from twin_merging.api.merge import merge
from twin_merging.errors import UserError
from twin_merging.io.files import sha256
from twin_merging.io.ranges import chunks, pieces, row_count
from twin_merging.io.tensors import WEIGHTS
from twin_merging.merging.randomness import ranks_of, uniform_numbers
from twin_merging.merging.workers import in_order

CASES: dict[str, dict[str, Any]] = {
    "task_arithmetic": {"scaling": 0.29},
    "ties": {"density": 0.3, "elect": "count"},
    "dare": {"drop_rate": 0.5, "then": {"method": "ties", "density": 0.3}},
    "della": {},
    "breadcrumbs": {},
    "model_stock": {},
    "tsv_m": {},
    "iso_c": {},
    "iso_cts": {},
    "fr_merging": {"cutoff": 0.5},
    "lines": {"alpha": 0.2, "beta": 0.5, "then": {"method": "tsv_m"}},
    "tall_masks": {},
    "wudi": {},
    "emr": {},
}


def digests(directory: Path) -> dict[str, str]:
    """SHA-256 of every file of tensors."""
    return {str(path.relative_to(directory)): sha256(path) for path in sorted(directory.rglob("*.safetensors"))}


@pytest.mark.parametrize("method", CASES)
def test_order_shards_chunks_and_processes_change_no_byte(tmp_path: Path, method: str) -> None:
    base, experts = write_models(tmp_path / "one")
    sharded, same = write_models(tmp_path / "many", shards=3)
    options = CASES[method]
    found = [
        merge(method, base=base, experts=experts, output=tmp_path / "a", threads=1, **options),
        merge(method, base=base, experts=dict(reversed(experts.items())), output=tmp_path / "b", threads=2, **options),
        merge(method, base=sharded, experts=same, output=tmp_path / "c", threads=3, chunk=2**19, **options),
        merge(method, base=base, experts=same, output=tmp_path / "d", threads=2, chunk=1, **options),
    ]
    assert all(digests(directory) == digests(found[0]) for directory in found)


def test_a_name_of_a_body_with_or_without_prefix_changes_no_byte(tmp_path: Path) -> None:
    base, experts = write_models(tmp_path / "with", prefix="roberta.")
    _, plain = write_models(tmp_path / "without", prefix="")
    one = merge("ties", base=base, experts=experts, output=tmp_path / "a")
    other = merge("ties", base=base, experts=plain, output=tmp_path / "b")
    assert sha256(one / WEIGHTS) == sha256(other / WEIGHTS)


def test_a_mask_depends_on_seed_task_and_name_alone(tmp_path: Path) -> None:
    """Another expert beside it, even one of weight 0, leaves what DARE keeps of an expert as it is."""
    base, experts = write_models(tmp_path)
    then: dict[str, Any] = {"method": "task_arithmetic", "scaling": {"cola": 1.0, "sst2": 0.0, "mnli": 0.0}}
    alone = {"method": "task_arithmetic", "scaling": 1.0}
    one = merge("dare", base=base, experts=experts, output=tmp_path / "a", drop_rate=0.5, then=then)
    cola = {"cola": experts["cola"]}
    other = merge("dare", base=base, experts=cola, output=tmp_path / "b", drop_rate=0.5, then=alone)
    changed = merge("dare", base=base, experts=cola, output=tmp_path / "c", drop_rate=0.5, then=alone, seed=1)
    assert sha256(one / WEIGHTS) == sha256(other / WEIGHTS) != sha256(changed / WEIGHTS)


def test_the_random_stream_is_entered_at_any_place_and_never_changes() -> None:
    whole = uniform_numbers(0, "cola", "x", 0, 1001)
    assert [int(number) for number in whole[:4]] == [292271258, 3363734971, 88758467, 4176458575]
    for first, count in ((0, 1), (1, 1), (7, 13), (500, 501), (1000, 1)):
        assert np.array_equal(uniform_numbers(0, "cola", "x", first, count), whole[first : first + count])
    many = uniform_numbers(0, "cola", "x", 0, 200_000)
    assert abs(float((many < 0.3 * 2**32).mean()) - 0.3) < 0.005
    others = [uniform_numbers(1, "cola", "x", 0, 9), uniform_numbers(0, "sst2", "x", 0, 9)]
    assert all(not np.array_equal(other, whole[:9]) for other in others)


@pytest.mark.parametrize("shape", [(), (1,), (5000,), (1, 1), (3, 2), (2500, 64), (7, 300_000), (700, 10, 30), (0, 4)])
@pytest.mark.parametrize("size", [1, 2**15, 2**17, 2**30])
def test_chunks_are_whole_pieces_and_cover_every_row_once(shape: tuple[int, ...], size: int) -> None:
    bounds = chunks(shape, size)
    assert [row for start, stop in bounds for row in range(start, stop)] == list(range(row_count(shape)))
    assert [piece for start, stop in bounds for piece in pieces(shape, start, stop)] == pieces(shape)


def script(base: Path, experts: dict[str, Path], output: Path) -> str:
    """A merge that gives away a process's number and goes on slowly."""
    return f"""
import signal, time, tests.random_models
from twin_merging.merging import body as stage
from twin_merging import merge
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests deaf to it
cast = stage.cast
def slowly(*arguments, **named):
    time.sleep(0.02)
    return cast(*arguments, **named)
stage.cast = slowly
print("ready", flush=True)
merge("ties", base={str(base)!r}, experts={ {name: str(path) for name, path in experts.items()}!r},
      output={str(output)!r}, threads=2, chunk=1)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_merge_leaves_no_output_and_its_repetition_gives_the_same_bytes(
    tmp_path: Path, how: signal.Signals
) -> None:
    base, experts = write_models(tmp_path / "models")
    whole = merge("ties", base=base, experts=experts, output=tmp_path / "whole")
    output = tmp_path / "killed"
    run = subprocess.Popen(
        [sys.executable, "-c", script(base, experts, output)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    partial = f".killed.*.partial/.{WEIGHTS}.*.partial"
    until = time.monotonic() + 60
    while not any(tmp_path.glob(partial)) and run.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    assert any(tmp_path.glob(partial)), "the merge never began to write"
    time.sleep(0.1)
    run.send_signal(how)
    assert run.wait(30) != 0
    assert not output.exists()
    again = merge("ties", base=base, experts=experts, output=output)
    assert digests(again) == digests(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "models", "whole"]


@pytest.mark.skipif(sys.platform != "linux", reason="workers are processes on Linux only")
def test_a_worker_that_dies_ends_the_merge_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from twin_merging.merging import body as stage

    base, experts = write_models(tmp_path / "models")
    monkeypatch.setattr(stage, "cast", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(RuntimeError, match="a worker process ended with code -9; if memory ran out"):
        merge("task_arithmetic", base=base, experts=experts, output=tmp_path / "out", threads=2)
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


@pytest.mark.skipif(sys.platform != "linux", reason="workers are processes on Linux only")
def test_a_long_job_holds_no_other_up_and_results_come_in_order(tmp_path: Path) -> None:
    """The first job ends when all others are done."""

    def work(job: int) -> int:
        until = time.monotonic() + 60
        while job == 0 and len(list(tmp_path.iterdir())) < 9:
            assert time.monotonic() < until, "other jobs wait for the first one"
            time.sleep(0.01)
        if job:
            (tmp_path / f"{job}").touch()
        return job

    assert list(in_order(range(10), work, 2)) == list(range(10))


@pytest.mark.skipif(sys.platform != "linux", reason="workers are processes on Linux only")
def test_the_first_job_that_fails_is_told_after_the_results_before_it() -> None:
    def work(job: int) -> int:
        if job in (3, 4):
            time.sleep(0.2 if job == 3 else 0)
            raise UserError(f"job {job}")
        return job

    results = in_order(range(9), work, 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(UserError, match="job 3"):
        next(results)


def test_merging_in_a_program_that_computes_with_many_threads_neither_hangs_nor_changes_their_number(
    tmp_path: Path,
) -> None:
    base, experts = write_models(tmp_path)
    code = f"""
import torch, twin_merging, tests.random_models
torch.set_num_threads(4)
matrix = torch.randn(900, 900)
torch.linalg.svd(matrix @ matrix)
for number in range(2):
    twin_merging.merge("tsv_m", base={str(base)!r}, experts={ {name: str(path) for name, path in experts.items()}!r},
                       output={str(tmp_path)!r} + f"/{{number}}", threads=3)
    torch.linalg.svd(matrix @ matrix)
assert torch.get_num_threads() == 4
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)
    assert digests(tmp_path / "0") == digests(tmp_path / "1")


@pytest.mark.parametrize("width", [1, 2, 7, 300])
def test_ranks_of_equal_sizes_follow_their_places(width: int) -> None:
    generator = torch.Generator().manual_seed(width)
    scales = torch.tensor([1e-30, 1.0, 3.5, 2e30, 0, 1e-42])
    sizes = torch.randint(0, 5, (6, width), generator=generator) * scales[:, None]
    order = sizes.argsort(dim=1, stable=True)
    assert torch.equal(torch.from_numpy(ranks_of(sizes)), order.argsort(dim=1))
    exact = (torch.rand(4, width, generator=generator) - 0.5).abs()
    assert torch.equal(torch.from_numpy(ranks_of(exact)), exact.argsort(dim=1, stable=True).argsort(dim=1))
