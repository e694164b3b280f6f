"""A suite whose data and experts number their labels in different orders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from transformers import AutoConfig

from tests.tiny import make_suite
from tests.workflow.running import jobs_of, make_working_folder, snakemake
from twin_merging.io.files import read_json
from twin_merging.io.weights import open_directory

pytestmark = pytest.mark.workflow

NAMES = ["entailment", "neutral", "contradiction"]
EXPERTS = [f"results/mine/experts/{task}/model.safetensors" for task in ("one", "two")]


def name_labels(folder: Path, names: list[str]) -> None:
    """Give task two parquet files that name its labels."""
    texts = {name: Value("string") for name in ("premise", "hypothesis")}
    features = Features({**texts, "label": ClassLabel(names=names)})
    for split in ("train", "validation", "test"):
        lines, file = folder / f"{split}.jsonl", folder / f"{split}.parquet"
        rows: Any = pd.read_json(lines, lines=True) if lines.is_file() else pd.read_parquet(file)
        Dataset.from_dict(rows.to_dict("list"), features=features).to_parquet(str(file))
        lines.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which the experts are fetched; the labels of expert two are in the opposite order."""
    folder = tmp_path_factory.mktemp("labels") / "run"
    make_working_folder(folder)
    suite = make_suite(folder / "inputs")
    (folder / "config/suites/mine.yaml").write_text(suite.read_text())
    name_labels(folder / "inputs/data/two", NAMES)
    config: Any = AutoConfig.from_pretrained(folder / "inputs/experts/two")
    config.id2label = dict(enumerate(name.upper() for name in NAMES[::-1]))
    config.label2id = {name: place for place, name in config.id2label.items()}
    config.save_pretrained(folder / "inputs/experts/two")
    run = snakemake(folder, "--", *EXPERTS)
    assert run.returncode == 0, run.stderr
    return folder


def test_an_expert_is_stored_in_the_order_of_its_task_s_rows(folder: Path) -> None:
    before, after = (open_directory(folder / where / "experts/two") for where in ("inputs", "results/mine"))
    for name in ("classifier.out_proj.weight", "classifier.out_proj.bias"):
        assert torch.equal(after[name], before[name].flip(0))
    assert read_json(folder / "results/mine/experts/two/source.json")["label_names"] == NAMES
    assert (
        "CONTRADICTION, NEUTRAL, ENTAILMENT, are put in the data's order: entailment, neutral, contradiction"
        in (folder / "results/mine/logs/fetch_expert/two.log").read_text()
    )
    assert read_json(folder / "results/mine/data/two/label_names.json") == {"names": NAMES}
    assert not (folder / "results/mine/data/one").exists(), "JSON lines name no labels, so its expert waits for no rows"


def planned(folder: Path) -> set[tuple[str, str]]:
    run = snakemake(folder, "-n", "--", *EXPERTS)
    assert run.returncode == 0, run.stderr
    return jobs_of(run)


def test_an_expert_is_fetched_again_when_its_labels_get_other_names(folder: Path) -> None:
    """The fixture's folder is changed, so all changes are in one test."""
    fetches = {("fetch_expert", "two")}
    assert planned(folder) == set()
    suite = folder / "config/suites/mine.yaml"
    text = suite.read_text()
    suite.write_text(text.replace("    labels: 3\n", f"    labels: 3\n    label_names: {NAMES}\n"))
    assert planned(folder) == fetches
    suite.write_text(text)
    name_labels(folder / "inputs/data/two", NAMES[::-1])
    assert planned(folder) == {*fetches, ("fetch_data", "two")}
