"""A suite whose models are written in shards: the same answers as in one file, and nothing more to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.tiny_decoders import make_decoder_suite
from tests.workflow.running import make_working_folder, rules_of, snakemake
from twin_merging.io.files import read_json
from twin_merging.io.sharding import file_names
from twin_merging.io.tensors import WEIGHTS
from twin_merging.io.weights import open_directory

pytestmark = pytest.mark.workflow

TARGETS = ["results/tables/sharded.csv", "results/sharded/models/twin/README.md", "results/audit/sharded.json"]
MODELS = ("task-arithmetic", "twin")


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoders")
    written = make_decoder_suite(folder)
    written.with_name("sharded.yaml").write_text(f"{written.read_text()}max_shard_size: 8kB\n")
    return written.parent


@pytest.fixture(scope="module")
def folder(suites: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_working_folder(tmp_path_factory.mktemp("run"))
    whole = [f"results/written/predictions/{model}.parquet" for model in MODELS]
    run = snakemake(folder, "--config", f"suites={suites}", "store=off", "--", *TARGETS, *whole)
    assert run.returncode == 0, run.stderr
    variants = {
        "fetch_base_decoder_in_3": 1,
        "fetch_expert_in_3": 1,
        "merge_decoder_in_3": 2,
        "assemble_decoder_in_3": 1,
    }
    counts = rules_of(run)
    assert {rule: counts[rule] for rule in variants} == variants
    assert counts["fetch_base_decoder"] == counts["assemble_decoder"] == 1, "of the suite in one file"
    return folder


def test_models_in_shards_have_the_values_and_give_the_answers_of_those_in_one_file(folder: Path) -> None:
    for place in ("base", "experts/echo", "models/weight-average", "models/task-arithmetic", "models/twin"):
        own = folder / "results/sharded" / place
        assert {file.name for file in own.glob("model*") if file.suffix != ".py"} == set(file_names(3))
        other = folder / "results/written" / place
        if (other / WEIGHTS).exists():
            stored, whole = open_directory(own), open_directory(other)
            assert list(stored) == list(whole)
            assert all(stored[name].equal(whole[name]) for name in whole)
    for model in MODELS:
        found, wanted = (
            pd.read_parquet(folder / f"results/{suite}/predictions/{model}.parquet") for suite in ("sharded", "written")
        )
        pd.testing.assert_frame_equal(found, wanted)
    models: list[Any] = [
        AutoModelForCausalLM.from_pretrained(folder / f"results/{suite}/models/task-arithmetic").eval()
        for suite in ("sharded", "written")
    ]
    with torch.no_grad():
        logits = [model(torch.tensor([[4, 5, 6]])).logits for model in models]
    assert logits[0].equal(logits[1])


def test_an_assembled_model_is_linked_to_every_shard_of_its_shared_expert(folder: Path) -> None:
    shared, twin = (folder / "results/sharded/models" / model for model in ("task-arithmetic", "twin"))
    assert all((shared / name).samefile(twin / name) for name in file_names(3))
    record = read_json(shared / "merge.json")
    assert set(file_names(3)) < set(record["files"])
    inputs = read_json(twin / "merge.json")["inputs"]
    assert inputs["shared/model-00002-of-00003.safetensors"] == {
        "sha256": record["files"]["model-00002-of-00003.safetensors"]
    }
    table = pd.read_csv(folder / "results/tables/sharded-storage.csv").set_index("model")
    assert table.loc["task-arithmetic", "shared_bytes"] == sum(
        (shared / name).stat().st_size for name in file_names(3)[:-1]
    )
    assert table.loc["task-arithmetic", "parameters"] == open_directory(shared).numbers
    assert read_json(folder / "results/audit/sharded.json")["verdict"] == "passed"


def test_a_second_call_does_nothing_and_another_limit_makes_the_models_again(folder: Path, suites: Path) -> None:
    config = ("--config", f"suites={suites}", "store=off")
    again = snakemake(folder, "--dry-run", *config, "--", *TARGETS[:2])
    assert "Nothing to be done" in again.stdout + again.stderr
    file = suites / "sharded.yaml"
    text = file.read_text()
    try:
        file.write_text(text.replace("8kB", "25kB"))
        counts = rules_of(snakemake(folder, "--dry-run", *config, "--", *TARGETS[:2]))
        assert counts["merge_decoder"] == 2
        assert not any("_in_" in rule for rule in counts)
        # A limit that the declared number of shards cannot keep is said, and nothing is left.
        wrong = (
            text.replace("8kB", "3kB")
            .replace("/base}", "/base, size: 6kB}")
            .replace("experts/echo}", "experts/echo, size: 6kB}")
        )
        file.write_text(wrong)
        run = snakemake(folder, *config, "--", "results/sharded/base/model-00001-of-00002.safetensors")
    finally:
        file.write_text(text)
    assert run.returncode
    said = run.stdout + run.stderr
    assert (
        "bytes of weights in 20 tensors do not make 2 shards of at most 3000 bytes, but 10; say base: {size: " in said
    )
    assert not list((folder / "results/sharded/base").glob("*-of-00002*"))
