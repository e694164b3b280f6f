"""AdaMerging against automatic differentiation of the whole merged model, and what it learns from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.joint import ROWS, TASKS, Plain, gathered
from tests.tiny import LABELS, expert_of, merged
from twin_merging.checkpoints.groups import PROTOCOLS, merged_names
from twin_merging.checkpoints.kinds import Classifier
from twin_merging.errors import UserError
from twin_merging.fetching.models import fetch_expert
from twin_merging.io.tensors import Checkpoint
from twin_merging.io.weights import open_directory
from twin_merging.joint_statistics.coefficients import Objective, entropy_of, groups_of, learnt
from twin_merging.joint_statistics.gather import gather_joint_statistics
from twin_merging.joint_statistics.models import shared_models
from twin_merging.joint_statistics.rows import TrainingRows
from twin_merging.merging.inputs import Inputs
from twin_merging.merging.options import complete_options
from twin_merging.merging.registry import merging_methods
from twin_merging.task_vectors.vectors import TaskVector, extract_task_vector
from twin_merging.tasks.classification import Labelled


def objective(fetched: Path, rows_of_tasks: dict[str, Path], per: str, protocol: str = "reference") -> Objective:
    base = fetched / "base"
    experts = {task: fetched / "experts" / task for task in LABELS}
    models = shared_models(base, experts, {task: own.whole for task, own in TASKS.items()}, PROTOCOLS[protocol])
    vectors = {task: TaskVector(fetched / "task_vectors" / f"{task}.safetensors") for task in sorted(LABELS)}
    start = open_directory(base)
    return Objective(models, Inputs(start, vectors, merged_names(start, PROTOCOLS[protocol])), per)


def padded(fetched: Path, plain: Plain) -> dict[str, Any]:
    tokenizer = AutoTokenizer.from_pretrained(fetched / "base")
    return {
        task: tokenizer.pad([{key: row[key][0] for key in row} for row in rows], return_tensors="pt")
        for task, rows in plain.rows.items()
    }


@pytest.mark.parametrize("per", ["layer", "tensor", "task"])
@pytest.mark.parametrize("protocol", ["reference", "linear"])
def test_the_gradient_of_adamerging_is_that_of_the_whole_merged_model(
    fetched: Path, rows_of_tasks: dict[str, Path], per: str, protocol: str
) -> None:
    given, plain = objective(fetched, rows_of_tasks, per, protocol), Plain(fetched, rows_of_tasks, protocol)
    torch.manual_seed(0)
    coefficients = torch.rand(2, given.count, dtype=torch.float64)
    batches = padded(fetched, plain)
    entropy, gradient = given.gradient(coefficients, batches)

    free = coefficients.clone().requires_grad_(True)
    body = dict(plain.base)
    for name in plain.base:
        if plain.protocol.merges(name, plain.shapes[name]):
            for row, task in enumerate(sorted(LABELS)):
                change = plain.experts[task][name] - plain.base[name]
                body[name] = body[name] + free[row, given.groups[name]] * change
    wanted = torch.zeros((), dtype=torch.float64)
    for task, batch in batches.items():
        probabilities = plain.run(task, body, batch).softmax(-1)
        wanted = wanted - (probabilities * probabilities.log()).sum(-1).mean()
    wanted.backward()
    assert entropy == pytest.approx(wanted.item(), rel=1e-4)
    assert free.grad is not None
    torch.testing.assert_close(gradient, free.grad, rtol=1e-3, atol=1e-5)


def test_the_first_step_moves_each_coefficient_by_the_learning_rate_against_its_slope(
    fetched: Path, rows_of_tasks: dict[str, Path]
) -> None:
    """Adam's first step is g / (|g| + 1e-8) times the learning rate; 0 and 1 are the limits."""
    given, plain = objective(fetched, rows_of_tasks, "layer"), Plain(fetched, rows_of_tasks, "reference")
    batches = padded(fetched, plain)
    _, slopes = given.gradient(torch.full((2, given.count), 0.3), batches)
    assert (slopes.abs() > 1e-5).all()
    drawn = {task: iter([batch]) for task, batch in batches.items()}
    options = {"start": 0.3, "steps": 1, "learning_rate": 0.01}
    torch.testing.assert_close(learnt(given, drawn, options), 0.3 - 0.01 * slopes.sign(), rtol=0, atol=1e-4)
    drawn = {task: iter([batch]) for task, batch in batches.items()}
    limited = learnt(given, drawn, {**options, "learning_rate": 5.0})
    assert limited.tolist() == (slopes < 0).double().tolist()


def test_adamerging_makes_the_merged_model_surer_of_its_answers(
    fetched: Path, rows_of_tasks: dict[str, Path], tmp_path: Path
) -> None:
    options = {"steps": 10, "learning_rate": 0.05, "rows": 12, "batch_size": 12}
    files = gathered(fetched, rows_of_tasks, tmp_path / "statistics", "adamerging", "strict", **options)
    out = open_directory(merged(fetched, tmp_path / "out", "adamerging", options, "strict", statistics=files))
    plain = Plain(fetched, rows_of_tasks, "strict")
    at_first = {
        name: plain.base[name] + 0.3 * sum(own[name] - plain.base[name] for own in plain.experts.values())
        for name in plain.base
    }
    batches = padded(fetched, plain)

    def entropy(body: Mapping[str, torch.Tensor]) -> float:
        with torch.no_grad():
            return sum(float(entropy_of(plain.run(task, body, batch))) for task, batch in batches.items())

    assert entropy({name: out[name].double() for name in plain.base}) < entropy(at_first) - 1e-3
    for name in merged_names(open_directory(fetched / "base"), PROTOCOLS["strict"]):
        shares = {task: float(Checkpoint(files[task])[name]) for task in LABELS}
        wanted = plain.base[name] + sum(
            share * (plain.experts[task][name] - plain.base[name]) for task, share in shares.items()
        )
        torch.testing.assert_close(out[name].double(), wanted, rtol=1e-5, atol=1e-6)


def test_what_has_a_coefficient_of_its_own() -> None:
    names = [
        "embeddings.word_embeddings.weight",
        "encoder.layer.0.attention.self.query.weight",
        "encoder.layer.0.output.LayerNorm.bias",
        "encoder.layer.1.output.dense.weight",
    ]
    assert list(groups_of(names, "layer").values()) == [0, 1, 1, 2]
    assert sorted(groups_of(names, "tensor").values()) == [0, 1, 2, 3]
    assert set(groups_of(names, "task").values()) == {0}
    with pytest.raises(UserError, match="coefficients: tensor"):
        groups_of(["embeddings.weight", "norm.weight"], "layer")


def test_rows_are_drawn_by_the_seed_and_the_tasks_name(fetched: Path, rows_of_tasks: dict[str, Path]) -> None:
    config = AutoModelForSequenceClassification.from_pretrained(fetched / "experts" / "one").config
    rows = TrainingRows(rows_of_tasks, TASKS, ROWS, AutoTokenizer.from_pretrained(fetched / "base"), config, 64)

    def drawn(task: str, seed: int, batches: int = 4) -> list[str]:
        found = rows.drawn(task, 12, 5, seed)
        return [str(row.tolist()) for _ in range(batches) for row in next(found)["input_ids"]]

    first = drawn("one", 0)
    assert len(first) == 5 + 5 + 2 + 5  # twelve rows, and again from the beginning
    assert drawn("one", 0) == first
    assert drawn("one", 1) != first


def test_a_regression_has_no_entropy(fetched: Path, tiny: Path, tmp_path: Path, rows_of_tasks: dict[str, Path]) -> None:
    """It is left out of the objective, and alone it is an error."""
    base: Any = AutoModelForSequenceClassification.from_pretrained(tiny / "base", num_labels=1)
    expert_of(base, "roberta", 1, 7).save_pretrained(tmp_path / "raw")
    places = {"base": fetched / "base", **{task: fetched / "experts" / task for task in LABELS}}
    places["number"] = tmp_path / "number"
    fetch_expert({"path": str(tmp_path / "raw")}, Classifier(1), fetched / "base", places["number"])
    vectors = {task: fetched / "task_vectors" / f"{task}.safetensors" for task in LABELS}
    vectors["number"] = tmp_path / "number.safetensors"
    extract_task_vector(fetched / "base", places["number"], vectors["number"])
    tasks = {**TASKS, "number": Labelled(text=("sentence",), labels=1)}
    options = complete_options(merging_methods()["adamerging"], {"steps": 1}, sorted(tasks), seed=0)

    def gather(names: list[str]) -> None:
        gather_joint_statistics(
            "coefficients",
            options=options,
            protocol=PROTOCOLS["strict"],
            base=places["base"],
            task_vectors={task: vectors[task] for task in names},
            experts={task: places[task] for task in names},
            data={**rows_of_tasks, "number": rows_of_tasks["one"]},
            tasks={task: tasks[task] for task in names},
            rows=ROWS,
            max_length=64,
            output=tmp_path / "out",
        )

    gather(["one", "number"])
    coefficients = {float(tensor) for tensor in Checkpoint(tmp_path / "out" / "number.safetensors").values()}
    assert coefficients
    assert coefficients != {0.3}  # the other task's entropy depends on them
    with pytest.raises(UserError, match="no task has labels; use another method"):
        gather(["number"])


def test_the_order_of_tasks_and_of_runs_changes_no_byte(
    fetched: Path, rows_of_tasks: dict[str, Path], tmp_path: Path
) -> None:
    one = gathered(fetched, rows_of_tasks, tmp_path / "one", "adamerging", "reference", steps=2)
    turned = dict(reversed(TASKS.items()))
    two = gathered(fetched, rows_of_tasks, tmp_path / "two", "adamerging", "reference", turned, steps=2)
    assert all(one[task].read_bytes() == two[task].read_bytes() for task in LABELS)
