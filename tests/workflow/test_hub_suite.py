"""The shipped GLUE suite, unchanged, against a Hub on this machine; and the same without the Hub."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.fake_hub import FakeHub, commit_of, with_hub
from tests.glue_hub import BASE, DATA, EXPERTS, FOLDER, PICKLED, ROWS, TASKS, add_glue
from tests.workflow.running import make_working_folder, rules_of, snakemake
from twin_merging.io.files import read_json

pytestmark = pytest.mark.workflow

TABLE = "results/tables/glue.csv"
PUBLISHED = "results/tables/glue-published.csv"
NOWHERE = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FakeHub]:
    """A working folder in which the suite has run, and the Hub that it was fetched from, which is gone by now."""
    root = tmp_path_factory.mktemp("hub")
    hub = FakeHub()
    add_glue(hub, root)
    folder = make_working_folder(root / "run")
    with hub.running():
        run = snakemake(folder, TABLE, PUBLISHED, environment=with_hub(hub, root / "home"))
    assert run.returncode == 0, run.stderr
    assert "lu-vae/roberta-glue at main; run: snakemake lock" in run.stderr
    return folder, hub


def test_the_table_has_every_row_and_every_task(ran: tuple[Path, FakeHub]) -> None:
    table: Any = pd.read_csv(ran[0] / TABLE).set_index("model")
    methods = ["weight-average", "task-arithmetic", "ties", "dare-task-arithmetic", "dare-ties", "twin"]
    strict = ["task-arithmetic-strict", "twin-strict"]
    assert sorted(table.index) == sorted(["pretrained", *methods, "twin-text", *strict, "experts"])
    assert list(table.columns) == ["protocol", "true_task", *TASKS, "avg"]
    assert not table[[*TASKS, "avg"]].isna().any(axis=None)
    assert table.loc["twin-strict", ["protocol", "true_task"]].tolist() == ["strict", "nothing"]
    assert table.loc["twin", ["protocol", "true_task"]].tolist() == ["reference", "head+bias"]


def test_the_experts_are_right_on_every_row_of_their_task(ran: tuple[Path, FakeHub]) -> None:
    scores: Any = pd.read_csv(ran[0] / "results/glue/scores.csv")
    own = scores[scores["model"] == "expert-" + scores["task"]]
    assert own["value"].tolist() == pytest.approx([1.0] * len(TASKS), abs=1e-6)
    assert set(own["rows"]) == {ROWS["validation"]}


def test_our_rows_stand_beside_the_published_ones(ran: tuple[Path, FakeHub]) -> None:
    table: Any = pd.read_csv(ran[0] / TABLE).set_index("model")
    lines: Any = pd.read_csv(ran[0] / PUBLISHED)
    normalised = lines[lines["scale"] == "normalised"]
    methods = ["weight-average", "task-arithmetic", "ties", "dare-task-arithmetic", "dare-ties", "twin"]
    others = normalised[normalised["model"] == "wudi-authors"]  # a row of glue-extended
    assert set(normalised["model"]) == {"pretrained", *methods, *others["model"]}
    assert others["ours"].isna().all()
    assert others["published"].tolist() == [85.3]
    for line in normalised.drop(others.index).itertuples():
        assert line.ours == pytest.approx(table.loc[line.model, line.task], abs=1e-3)
        assert line.difference == pytest.approx(line.ours - line.published, abs=1e-3)
    means = normalised[(normalised["task"] == "avg") & (normalised["origin"] == "computed")].set_index("model")
    assert means.loc[["twin", "task-arithmetic", "ties"], "published"].round(2).tolist() == [95.83, 67.98, 55.72]
    assert set(lines["scale"]) == {"normalised", "absolute"}
    assert (ran[0] / "results/tables/glue-published.md").is_file()


def test_nothing_is_fetched_that_the_suite_does_not_need(ran: tuple[Path, FakeHub]) -> None:
    folder, hub = ran
    base = {f"{BASE[0]}/{name}" for name in
            ("config.json", "model.safetensors", "vocab.json", "merges.txt", "tokenizer_config.json")}  # fmt: skip
    experts = {
        f"{EXPERTS}/{task}/{FOLDER}/{name}"
        for task in TASKS
        for name in ("config.json", "pytorch_model.bin" if task in PICKLED else "model.safetensors")
    }
    vocabulary = ("vocab.json", "tokenizer_config.json")  # compared with the base's, as its merges are not
    experts |= {f"{EXPERTS}/{task}/{FOLDER}/{name}" for task in TASKS for name in vocabulary}
    tests = {task: "validation_matched" if task == "mnli" else "validation" for task in TASKS}
    data = {f"{DATA[0]}/{task}/{split}-00000-of-00001.parquet" for task in TASKS for split in ("train", tests[task])}
    wanted = base | experts | data | {f"{DATA[0]}/README.md"}
    assert hub.downloaded() <= wanted
    assert wanted - hub.downloaded() <= experts
    equal = {"config.json", *vocabulary}  # which come once
    assert {path.split("/")[-1] for path in wanted - hub.downloaded()} <= equal
    assert not (folder.parent / "unpickled").exists()


def test_what_was_fetched_is_recorded_by_commit_hash_and_size(ran: tuple[Path, FakeHub]) -> None:
    results = ran[0] / "results/glue"
    assert read_json(results / "base/source.json")["revision"] == BASE[1]
    assert read_json(results / "data/cola/source.json")["revision"] == DATA[1]
    record = read_json(results / "experts/qnli/source.json")
    assert record["source"]["hub"]["revision"] == "main"
    assert record["revision"] == commit_of(EXPERTS)
    content = (ran[0].parent / "experts/qnli" / FOLDER / "pytorch_model.bin").read_bytes()
    wanted = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    assert record["files"]["pytorch_model.bin"] == wanted
    assert not list(results.rglob("*.bin"))


def test_without_the_hub_all_below_the_fetch_runs_and_runs_again(ran: tuple[Path, FakeHub]) -> None:
    folder, _ = ran
    suite = folder / "config/suites/glue.yaml"
    before = suite.read_text()
    suite.write_text(before.replace("density: 0.1,", "density: 0.2,"))
    assert suite.read_text() != before
    again = snakemake(folder, TABLE, environment=NOWHERE)
    suite.write_text(before)
    assert again.returncode == 0, again.stderr
    assert rules_of(again) == dict.fromkeys(("merge", "predict", "score", "intervals", "snapshot", "tabulate"), 1)
    (folder / TABLE).unlink()
    assert rules_of(snakemake(folder, "-n", TABLE, environment=NOWHERE)) == rules_of(again)


def test_offline_the_cache_alone_makes_what_was_deleted(ran: tuple[Path, FakeHub]) -> None:
    folder, _ = ran
    target = "results/glue/data/mnli/test.parquet"
    before = (folder / target).read_bytes()
    (folder / target).unlink()
    offline = {**NOWHERE, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder.parent / "home")}
    run = snakemake(folder, target, environment=offline)
    assert run.returncode == 0, run.stderr
    assert (folder / target).read_bytes() == before


def test_locked_the_suite_names_commits_and_other_content_is_refused(ran: tuple[Path, FakeHub]) -> None:
    folder, hub = ran
    suite = folder / "config/suites/glue.yaml"
    hub.stopping.clear()
    environment = {"HF_HOME": str(folder.parent / "fresh")}
    with hub.running():
        run = snakemake(
            folder, "--config", "lock=glue", "--", "lock", environment=with_hub(hub, folder.parent / "home")
        )
        assert run.returncode == 0, run.stderr
        assert f"revision: {commit_of(EXPERTS)}" in suite.read_text()
        target = "results/glue/experts/rte/model.safetensors"
        changed = folder.parent / "experts/rte" / FOLDER / "model.safetensors"
        content = changed.read_bytes()
        changed.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        run = snakemake(folder, target, environment={**with_hub(hub, folder.parent), **environment})
        changed.write_bytes(content)
    assert run.returncode == 1
    assert "not tied to a commit" not in run.stderr
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("error:")]
    assert "model.safetensors" in line
    assert "locked" in line
    assert not (folder / target).exists()
