"""Several processes that train one expert: the suite's batch, every row once, one writer, errors, resumption."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import TrainingArguments

import twin_merging
from tests.training_together import ROWS, SETTINGS
from twin_merging.finetuning.arguments import arguments_of
from twin_merging.finetuning.processes import processes_for, visible_devices
from twin_merging.io.files import read_json, sha256
from twin_merging.io.tensors import Checkpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def trained(fetched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `tests.training_together`, after it has run."""
    root = tmp_path_factory.mktemp("together")
    path = os.pathsep.join([str(ROOT), str(Path(twin_merging.__file__).parents[1])])
    run = subprocess.run(
        [sys.executable, "-m", "tests.training_together", str(fetched / "base"), str(root)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    return root


def said(trained: Path, name: str) -> str:
    return str(read_json(trained / "said.json")[name])


def test_two_processes_write_one_expert_and_leave_no_checkpoints(trained: Path) -> None:
    assert said(trained, "whole") == ""
    assert [path.name for path in (trained / "whole").iterdir() if path.is_dir()] == ["expert"]
    record = read_json(trained / "whole" / "expert" / "source.json")
    assert (record["processes"], record["train_rows"]) == (2, ROWS["train"])
    assert record["validation_score"] > 0.9


def test_a_step_has_the_suites_batch_and_an_epoch_every_row(trained: Path) -> None:
    ranks = [
        [json.loads(line) for line in (trained / "whole" / f"rows-{rank}.jsonl").read_text().splitlines()]
        for rank in (0, 1)
    ]
    steps = -(-ROWS["train"] // SETTINGS["batch_size"])
    assert [len(rank) for rank in ranks] == [SETTINGS["epochs"] * steps] * 2
    orders = []
    for epoch in range(len(ranks[0]) // steps):
        rows = [
            tuple(row) for step in range(epoch * steps, (epoch + 1) * steps) for rank in ranks for row in rank[step]
        ]
        assert len(rows) == steps * SETTINGS["batch_size"], "the last step is filled up"
        assert rows[ROWS["train"] :] == rows[:4], "with the epoch's first rows"
        assert len(set(rows)) == ROWS["train"]
        orders.append(rows)
    assert orders[0] != orders[1] != orders[2]


def test_the_error_of_one_process_ends_all_and_checkpoints_stay(trained: Path) -> None:
    assert said(trained, "cut") == "RuntimeError: process 1 of 2 failed: RuntimeError: power cut"
    assert said(trained, "left") == "checkpoints"


def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(trained: Path) -> None:
    assert said(trained, "resumed") == ""
    assert sha256(trained / "cut/expert/model.safetensors") == sha256(trained / "whole/expert/model.safetensors")


def test_a_wrong_input_is_the_same_sentence_as_in_one_process(trained: Path) -> None:
    assert said(trained, "refused") == "UserError: data: no column 'text'; name another"
    assert not (trained / "refused" / "expert").exists()


def test_two_halves_of_a_batch_are_the_whole_batch(trained: Path) -> None:
    """Without dropout, and all rows in each step, two processes do what one does, clipping included."""
    assert (said(trained, "batch-2"), said(trained, "batch-1")) == ("", "")
    losses = [read_json(trained / f"loss-accuracy-{processes}.json")["train_loss"] for processes in (1, 2)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2), "of the first process, which has half of the rows"
    one, two = (Checkpoint(trained / f"batch-{devices}/expert/model.safetensors") for devices in (1, 2))
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-5)
    assert "processes" not in read_json(trained / "batch-1/expert/source.json")


def test_two_halves_of_a_batch_of_answers_are_the_whole_batch(trained: Path) -> None:
    """The two processes have other numbers of tokens to learn. Each answers half of the validation rows."""
    assert (said(trained, "answers-2"), said(trained, "answers-1")) == ("", "")
    one, two = (Checkpoint(trained / f"answers-{devices}/expert/model.safetensors") for devices in (1, 2))
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-5)
    records = [read_json(trained / f"answers-{devices}/expert/source.json") for devices in (1, 2)]
    assert records[0]["validation_score"] == records[1]["validation_score"]


@pytest.mark.parametrize(("batch", "devices", "wanted"), [(16, 1, 1), (16, 4, 4), (16, 3, 2), (7, 4, 1), (6, 4, 3)])
def test_processes_are_the_most_that_divide_the_batch(
    batch: int, devices: int, wanted: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert processes_for(batch, devices) == wanted
    assert bool(caplog.records) == (wanted < devices)
    assert all(f"batch_size {batch} does not divide by {devices} devices" in line for line in caplog.messages)


def test_a_machine_without_gpus_is_one_device() -> None:
    assert visible_devices() >= 1


def test_one_process_that_sees_several_gpus_trains_on_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: 4))
    arguments = arguments_of(SETTINGS, 64, 0, tmp_path, 1)
    assert (arguments.n_gpu, arguments.train_batch_size) == (1, 8)


def test_another_batch_than_the_suites_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"a step has 4 rows \(1 processes\) instead of 8"):
        arguments_of(SETTINGS, 64, 0, tmp_path, 2)
