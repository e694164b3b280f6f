"""A suite whose experts are all LoRA adapters, up to its exclusive vectors."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import transformers
from peft import LoraConfig, TaskType, get_peft_model

from tests.tiny import LABELS, expert_of, make_suite, perturbed
from tests.workflow.running import make_working_folder, rules_of, snakemake
from twin_merging.checkpoints.experts import Expert
from twin_merging.compression.exclusives import Exclusive
from twin_merging.io.weights import open_directory

pytestmark = pytest.mark.workflow

RANKS = {"one": 2, "two": 3}
QUERY = "encoder.layer.0.attention.self.query.weight"
SHARED = "task-arithmetic-strict"
TARGETS = [f"results/mine/exclusive/{SHARED}/{task}.safetensors" for task in RANKS]


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a suite like the tiny one, its experts replaced by adapters of different ranks."""
    root = tmp_path_factory.mktemp("adapters")
    file = make_suite(root)
    base = transformers.AutoModelForMaskedLM.from_pretrained(root / "base")
    for seed, (task, rank) in enumerate(RANKS.items(), start=1):
        shutil.rmtree(root / "experts" / task)
        model = expert_of(base, "roberta", LABELS[task], seed)
        config = LoraConfig(task_type=TaskType.SEQ_CLS, r=rank, lora_alpha=4, target_modules=["query", "value"])
        perturbed(get_peft_model(model, config), seed).save_pretrained(root / "experts" / task)
    return file.parent


@pytest.fixture(scope="module")
def folder(suites: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_working_folder(tmp_path_factory.mktemp("run"))
    run = snakemake(folder, "--config", f"suites={suites}", "--", *TARGETS)
    assert run.returncode == 0, run.stderr
    return folder


def test_exclusive_vectors_are_the_adapters_difference_from_the_shared_expert(folder: Path) -> None:
    base, shared = (open_directory(folder / "results/mine" / name) for name in ("base", f"models/{SHARED}"))
    for task, file in zip(RANKS, TARGETS, strict=True):
        exclusive = Exclusive(folder / file, {"rank": 3})
        assert exclusive.vectors == []
        assert [name.split(".")[-2] for name in exclusive.matrices] == ["query", "value"] * 2
        expert = Expert(folder / "results/mine/experts" / task, base)
        wanted = expert.parameter(QUERY).double() - shared[QUERY].double()
        U, S, V = torch.linalg.svd(wanted)
        found = exclusive.matrix(QUERY)
        cut = found.U.double() @ torch.diag(found.S.double()) @ found.V.double()
        torch.testing.assert_close(cut, U[:, :3] @ torch.diag(S[:3]) @ V[:3], rtol=1e-4, atol=1e-5)


def test_another_scaling_makes_merge_and_exclusive_vectors_stale(suites: Path, folder: Path, tmp_path: Path) -> None:
    text = (suites / "mine.yaml").read_text()
    text = text.replace("scaling: 0.29, protocol: strict", "scaling: 0.3, protocol: strict")
    (tmp_path / "mine.yaml").write_text(text)
    run = snakemake(folder, "-n", "--config", f"suites={tmp_path}", "--", *TARGETS)
    assert rules_of(run) == {"merge": 1, "compress": 2}


def test_exclusive_vectors_of_a_linear_sum_depend_on_every_task_vector(suites: Path, folder: Path) -> None:
    run = snakemake(folder, "-n", "--config", f"suites={suites}", "--forcerun", "compress", "--", TARGETS[0])
    inputs = (run.stdout + run.stderr).split("rule compress:")[1].split("output:")[0]
    assert all(f"results/mine/task_vectors/{task}.safetensors" in inputs for task in RANKS)
