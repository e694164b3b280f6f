"""A suite of `path` sources that has run: its tables, its routers, its model cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from twin_merging.io.files import read_json
from twin_merging.io.tensors import Checkpoint
from twin_merging.routing.kinds import load_router

pytestmark = pytest.mark.workflow

TABLE = "results/tables/mine.csv"
TASKS = ("one", "two")


def router_folder(finished: Path, shared: str, name: str) -> Path:
    """Folder of the router whose name begins so; a digest of its options ends it."""
    (found,) = (finished / "results/mine/router" / shared).glob(f"{name}-*")
    return found


def test_the_table_has_a_row_a_model_a_column_a_task_and_an_average(finished: Path) -> None:
    table: Any = pd.read_csv(finished / TABLE)
    assert list(table.columns) == ["model", "protocol", "true_task", "one", "two", "avg"]
    methods = ["weight-average", "task-arithmetic", "task-arithmetic-strict", "dare-ties", "regmean", "emr"]
    assert table["model"].tolist() == ["pretrained", *methods, "twin", "twin-onepass", "twin-strict", "experts"]
    assert table.set_index("model").loc["experts", ["one", "two", "avg"]].tolist() == [100, 100, 100]
    told = table.set_index("model")["true_task"]
    assert (told["twin"], told["twin-strict"], told["pretrained"]) == ("head+bias", "nothing", "head")
    assert (told["regmean"], told["emr"]) == ("head+bias", "head+masks")
    for name in ("absolute", "experts", "router", "routing"):
        assert (finished / f"results/tables/mine-{name}.csv").is_file()


def test_normalised_scores_follow_from_the_absolute_ones(finished: Path) -> None:
    normalised: Any = pd.read_csv(finished / TABLE).set_index("model")
    absolute: Any = pd.read_csv(finished / "results/tables/mine-absolute.csv").set_index("model")
    cross: Any = pd.read_csv(finished / "results/tables/mine-experts.csv").set_index("expert")
    for task in TASKS:
        assert absolute.loc["experts", task] == cross.loc[task, task]
        wanted = 100 * absolute[task] / cross.loc[task, task]
        pd.testing.assert_series_equal(normalised[task], wanted, atol=1e-3, check_names=False)


def test_every_row_is_counted_by_the_task_that_it_is_routed_to(finished: Path) -> None:
    routing: Any = pd.read_csv(finished / "results/tables/mine-routing.csv")
    assert routing["model"].unique().tolist() == ["twin", "twin-onepass", "twin-strict"]
    assert routing.groupby("rows")[list(TASKS)].sum().sum(axis=1).to_dict() == {"held-out": 120, "test": 180}


def test_a_methods_own_kind_of_router_weighs_its_rows(finished: Path) -> None:
    config = read_json(finished / "results/mine/models/twin-strict/router/config.json")
    assert config["kind"] == "mahalanobis"
    features = Checkpoint(finished / "results/mine/router/task-arithmetic-strict/features/last.safetensors")
    loaded = load_router(finished / "results/mine/models/twin-strict/router")
    held_out = torch.cat([loaded.weights(features[f"{task}/validation"]).argmax(-1) for task in TASKS])
    metrics = read_json(router_folder(finished, "task-arithmetic-strict", "mahalanobis-last") / "metrics.json")
    assert torch.bincount(held_out, minlength=2).tolist() == [
        sum(metrics["confusion"][true][routed] for true in TASKS) for routed in TASKS
    ]


def test_a_dynamic_model_says_how_much_it_keeps(finished: Path) -> None:
    report: Any = pd.read_csv(finished / "results/mine/models/twin/compression.csv")
    total = report[report["kind"] == "all"].set_index("task")
    record = read_json(finished / "results/mine/models/twin/merge.json")
    for task in TASKS:
        assert total.loc[task, "numbers"] == record["tasks"][task]["exclusive_numbers"]
        assert 0 < total.loc[task, "energy"] < 1
        assert 0 < total.loc[task, "share"] < 1


def test_a_model_card_tells_scores_routing_numbers_and_hashes(finished: Path) -> None:
    directory = finished / "results/mine/models/twin-onepass"
    card = (directory / "README.md").read_text()
    absolute: Any = pd.read_csv(finished / "results/tables/mine-absolute.csv").set_index("model")
    for task in TASKS:
        assert f"{absolute.loc['twin-onepass', task]:.2f}" in card
    record = read_json(directory / "merge.json")
    assert all(entry["sha256"] in card for entry in record["inputs"].values())
    assert record["shared"]["inputs"]["base"]["sha256"] in card
    metrics = read_json(router_folder(finished, "task-arithmetic", "projection-layer-1") / "metrics.json")
    assert f"mean accuracy {100 * metrics['held_out_accuracy']:.2f}" in card
    body = Checkpoint(directory / "model.safetensors")
    assert f"| {body.numbers} |" in " ".join(card.split())
    static = (finished / "results/mine/models/task-arithmetic/README.md").read_text()
    assert "## Router" not in static
    assert "tasks=['one']" in static
