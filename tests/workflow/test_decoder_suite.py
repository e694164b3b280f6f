"""A suite of language models, from its sources to its table and its audit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from transformers import AutoModelForCausalLM

from tests.plans import edited, suite_of
from tests.tiny_decoders import TASKS, make_decoder_suite, written
from tests.workflow.faulty import copied
from tests.workflow.running import copy_library, jobs_of, make_working_folder, rules_of, snakemake
from twin_merging.auditing.prediction_checks import check_predictions
from twin_merging.auditing.results import Results
from twin_merging.checkpoints.tokenizers import load_tokenizer
from twin_merging.fetching.models import fetch_base
from twin_merging.io.files import read_json
from twin_merging.io.tensors import WEIGHTS
from twin_merging.io.weights import open_directory
from twin_merging.model.twin import TwinModel
from twin_merging.tasks.families import family_named, whole_model

pytestmark = pytest.mark.workflow

TARGETS = ["results/tables/written.csv", "results/written/models/twin/README.md", "results/audit/written.json"]
TOKENS = {"echo": 3, "next": 2}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_decoder_suite(tmp_path_factory.mktemp("decoders"))


@pytest.fixture(scope="module")
def folder(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_working_folder(tmp_path_factory.mktemp("run"))
    run = snakemake(folder, "--config", f"suites={suite.parent}", "--", *TARGETS)
    assert run.returncode == 0, run.stderr
    return folder


def answers(folder: Path, model: str) -> pd.DataFrame:
    return pd.read_parquet(folder / f"results/written/predictions/{model}.parquet")


def test_each_expert_writes_what_transformers_writes_for_each_prompt_alone(folder: Path) -> None:
    table = pd.read_csv(folder / "results/tables/written-absolute.csv").set_index("model")[[*TASKS]]
    assert table.loc[["experts"]].to_numpy().tolist() == [[100, 100]]
    assert table.loc[["pretrained"]].to_numpy().max() < 50
    rows = answers(folder, "expert-echo")
    assert rows["task"].value_counts().to_dict() == {"echo": 12, "next": 12}
    assert all(
        isinstance(text, str) for text in (*rows["output"], *(text for row in rows["reference"] for text in row))
    )
    assert rows["output"].nunique() > 5


def test_a_merged_model_is_a_checkpoint_whose_greedy_answers_are_those_of_the_table(folder: Path) -> None:
    base, experts = folder / "results/written/base", folder / "results/written/experts"
    names = list(open_directory(base))
    assert "model.embed_tokens.weight" in names
    assert "lm_head.weight" not in names
    start, whole = open_directory(base), open_directory(experts / "echo")
    merged = open_directory(folder / "results/written/models/task-arithmetic")
    name = "model.layers.0.mlp.up_proj.weight"  # the adapter leaves it alone
    assert merged[name].allclose(start[name] + 0.4 * (whole[name] - start[name]), atol=1e-6)
    model: Any = AutoModelForCausalLM.from_pretrained(folder / "results/written/models/task-arithmetic").eval()
    found = answers(folder, "task-arithmetic")
    family = family_named("decoder")
    content = read_json(folder / "results/written/provenance.json")["suite"]["content"]
    for task, tokens in TOKENS.items():
        data = pd.read_parquet(folder / f"results/written/data/{task}/test.parquet").head(12)
        spec = family.of_entry(content["tasks"][task])
        wanted = [spec.generation.cut(written(model, prompt, tokens)) for prompt in spec.texts(data)]
        assert found.loc[found["task"] == task, "output"].tolist() == wanted


def test_a_routed_model_of_full_rank_writes_what_the_chosen_expert_writes(folder: Path) -> None:
    routed, experts = answers(folder, "twin"), {task: answers(folder, f"expert-{task}") for task in TASKS}
    chosen = [TASKS[row.argmax()] for row in routed["weights"]]
    assert set(chosen) == set(TASKS)
    wanted = [experts[task]["output"].iloc[row] for row, task in enumerate(chosen)]
    assert routed["output"].tolist() == wanted
    record = read_json(folder / "results/written/models/twin/merge.json")
    assert record["family"] == "decoder"
    carried = read_json(folder / "results/written/base/generation_config.json")
    for name in ("weight-average", "task-arithmetic", "twin"):
        assert read_json(folder / f"results/written/models/{name}/generation_config.json") == carried
    assert [set(entry) for entry in record["tasks"].values()] == [{"exclusive_numbers"}] * 2
    assert "model.generate(**batch, " in (folder / "results/written/models/twin/README.md").read_text()


def test_a_static_model_is_loaded_and_answers_without_a_task(folder: Path) -> None:
    directory = folder / "results/written/models/weight-average"
    model, tokenizer = TwinModel.from_pretrained(directory), load_tokenizer(directory)
    assert model.form.family == "decoder"
    assert not model.has_private
    alone: Any = AutoModelForCausalLM.from_pretrained(directory).eval()
    batch = tokenizer(["w1 w2 after"], return_tensors="pt")
    assert model(**batch).logits.allclose(alone(**batch).logits, atol=1e-6)
    assert model.answer_one(batch, tokenizer, None, 4).text == written(alone, "w1 w2 after", 4)


def test_the_audit_writes_the_answers_again_and_finds_a_changed_one(folder: Path, tmp_path: Path) -> None:
    report = read_json(folder / "results/audit/written.json")
    assert report["verdict"] == "passed"
    shutil.copytree(folder / "results", tmp_path / "results")
    file = tmp_path / "results/written/predictions/weight-average.parquet"
    table = pd.read_parquet(file)
    table.loc[3, "output"] = "w1 w1 w1 w1"
    table.to_parquet(file, index=False)
    found = check_predictions(Results(tmp_path / "results", "written"))
    assert len(found.failures) == 1
    assert "weight-average.parquet: task echo, row 3: output 'w1 w1 w1 w1' is written" in found.failures[0]


# What `Parts` does once more than in the library: it writes a part after every batch, tells that a batch was answered,
# and kills its job after the second where a file says so.
KILLED = """
EVERY = 0.0


def _told(self: Parts, folder: Path) -> None:
    _write(self, folder)
    with open("answered", "a") as told:
        told.write("1")
    if Path("kill").exists() and len(self.batches) == 2:
        import os

        os.kill(os.getpid(), 9)


_write, Parts._write = Parts._write, _told
"""


def test_a_prediction_that_is_killed_goes_on_and_writes_the_same_bytes(
    suite: Path, folder: Path, tmp_path: Path
) -> None:
    copy = copied(folder, tmp_path / "copy")
    module = copy_library(copy) / "prediction/parts.py"
    module.write_text(module.read_text() + KILLED)
    file = copy / "results/written/predictions/twin.parquet"
    before = file.read_bytes()
    (copy / "kill").touch()
    asked = ("--config", f"suites={suite.parent}", "--", str(file.relative_to(copy)))
    assert snakemake(copy, *asked).returncode == 1
    assert not file.exists()
    parts = copy / "results/written/checkpoints/predict-twin"
    assert sorted(path.name for path in parts.iterdir()) == ["0.json", "1.json", "key.json"]
    (copy / "kill").unlink()
    (copy / "answered").unlink()
    again = snakemake(copy, *asked)
    assert again.returncode == 0, again.stderr
    assert file.read_bytes() == before
    assert (copy / "answered").read_text() == "1" * 4  # of 6 batches: 12 rows of each task, 5 a batch
    assert list(parts.parent.iterdir()) == []


def test_an_assembled_model_shares_the_file_of_its_body_and_nothing_is_stale_after_a_run(
    suite: Path, folder: Path
) -> None:
    """Snakemake gives the outputs of a job a new time, which is the shared expert's too where both are one file."""
    models = folder / "results/written/models"
    assert (models / "twin" / WEIGHTS).samefile(models / "task-arithmetic" / WEIGHTS)
    config = ("--config", f"suites={suite.parent}")
    again = snakemake(folder, "--dry-run", *config, "--", *TARGETS[:2])
    assert again.returncode == 0, again.stderr
    assert rules_of(again) == {}
    forced = ("-R", "assemble_decoder", *config, "--", "results/written/models/twin/config.json")
    again = snakemake(folder, *forced)
    assert again.returncode == 0, again.stderr
    assert (models / "twin" / WEIGHTS).samefile(models / "task-arithmetic" / WEIGHTS)
    after = snakemake(folder, "--dry-run", *config, "--", *TARGETS[:2])
    assert after.returncode == 0, after.stderr
    assert not {"merge_decoder", "compress", "route_features", "route"} & set(rules_of(after))
    run = snakemake(folder, "--dry-run", "-R", "merge_decoder", *config, "--", *TARGETS[:2])
    assert run.returncode == 0, run.stderr
    merged = jobs_of(run)
    below = {("compress", "task-arithmetic/echo"), ("route_features", "task-arithmetic/last")}
    assert {*below, ("assemble_decoder", "twin"), ("predict", "task-arithmetic"), ("predict", "twin")} <= merged


def test_in_context_examples_of_a_split_are_fetched_beside_the_rows(suite: Path, tmp_path: Path) -> None:
    (tmp_path / "suites").mkdir()
    prompt = {"text": "{word} {other} after", "shots": 2}
    edits = {"tasks/echo/prompt": prompt, "tasks/echo/data/splits": {"shots": "validation"}}
    few = suite_of(tmp_path / "suites", edited(suite.read_text(), edits), "few")
    folder = make_working_folder(tmp_path / "run")
    target = "results/few/data/echo/shots.parquet"
    run = snakemake(folder, "--config", f"suites={few.file.parent}", "--", target)
    assert run.returncode == 0, run.stderr
    files = {path.name for path in (folder / target).parent.iterdir()}
    assert files == {
        "train.parquet",
        "validation.parquet",
        "test.parquet",
        "shots.parquet",
        "label_names.json",
        "source.json",
    }
    assert (folder / "results/few/records/fetch_data_with_shots/echo.json").is_file()
    shown: Any = few.tasks["echo"].beside((folder / target).parent)
    rows = pd.read_parquet(folder / "results/few/data/echo/test.parquet")
    validation = pd.read_parquet(folder / target)
    examples = {f"{row.word} {row.other} after {row.reply}" for row in validation.itertuples()}
    assert all(set(text.split("\n\n")[:2]) <= examples for text in shown.texts(rows))


@pytest.mark.parametrize("tied", [True, False])
def test_an_output_layer_is_fetched_where_it_is_not_the_embedding(tmp_path: Path, tied: bool) -> None:
    make_decoder_suite(tmp_path, tied=tied)
    fetch_base({"path": str(tmp_path / "base")}, tmp_path / "fetched", whole=whole_model("decoder"))
    assert ("lm_head.weight" in open_directory(tmp_path / "fetched")) is not tied
