"""Fisher information and Gram matrices against gradients and inputs taken by hand, and the methods that use them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.tiny import LABELS, merged, sentences
from twin_merging.__main__ import main
from twin_merging.checkpoints.experts import Expert
from twin_merging.checkpoints.groups import group_of
from twin_merging.checkpoints.kinds import Classifier
from twin_merging.io.tensors import Checkpoint
from twin_merging.io.weights import open_directory
from twin_merging.task_vectors.statistics import gather_statistics
from twin_merging.tasks.classification import Labelled
from twin_merging.tasks.rows import read_rows

TEXT = {"one": ["sentence"], "two": ["premise", "hypothesis"]}
ROWS = 12


@pytest.fixture(scope="module")
def statistics(fetched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fisher/ and gram-matrices/ of both tasks, and data/ with their rows."""
    root = tmp_path_factory.mktemp("statistics")
    (root / "data").mkdir()
    for seed, (task, labels) in enumerate(LABELS.items()):
        sentences(seed, 20, labels, tuple(TEXT[task])).to_parquet(root / "data" / f"{task}.parquet")
        for kind in ("fisher", "gram-matrices"):
            output = root / kind / f"{task}.safetensors"
            data = root / "data" / f"{task}.parquet"
            gather_statistics(
                kind,
                base=fetched / "base",
                expert=fetched / "experts" / task,
                data=data,
                task=Labelled(text=tuple(TEXT[task]), labels=labels),
                rows=ROWS,
                max_length=64,
                output=output,
            )
    return root


def rows_of(statistics: Path, fetched: Path, task: str) -> list[Any]:
    tokenizer = AutoTokenizer.from_pretrained(fetched / "base")
    table = read_rows(statistics / "data" / f"{task}.parquet", ROWS)
    return [tokenizer(*row, return_tensors="pt") for row in zip(*(table[column] for column in TEXT[task]), strict=True)]


def test_fisher_information_is_the_mean_of_squared_gradients_under_the_models_own_labels(
    fetched: Path, statistics: Path
) -> None:
    model: Any = AutoModelForSequenceClassification.from_pretrained(fetched / "experts" / "two").eval()
    total = {name: torch.zeros_like(parameter) for name, parameter in model.roberta.named_parameters()}
    for row in rows_of(statistics, fetched, "two"):
        for label in range(3):
            model.zero_grad()
            log_probabilities = model(**row).logits[0].log_softmax(-1)
            log_probabilities[label].backward()
            for name, parameter in model.roberta.named_parameters():
                total[name] += log_probabilities[label].exp().detach() * parameter.grad.square() / ROWS
    norm = torch.cat([tensor.flatten() for tensor in total.values()]).double().norm()
    found = Checkpoint(statistics / "fisher" / "two.safetensors")
    assert set(found) == set(open_directory(fetched / "base"))
    for name in found:
        torch.testing.assert_close(found[name], (total[name] / norm).float(), rtol=1e-3, atol=1e-7)


def test_the_fisher_information_of_a_regression_is_that_of_unit_variance(
    fetched: Path, tiny: Path, tmp_path: Path
) -> None:
    from tests.tiny import expert_of
    from twin_merging.fetching.models import fetch_expert

    base: Any = AutoModelForSequenceClassification.from_pretrained(tiny / "base", num_labels=1)
    expert_of(base, "roberta", 1, 7).save_pretrained(tmp_path / "raw")
    fetch_expert({"path": str(tmp_path / "raw")}, Classifier(1), fetched / "base", tmp_path / "expert")
    sentences(0, 3, 2, ("sentence",)).to_parquet(tmp_path / "rows.parquet")
    gather_statistics(
        "fisher",
        base=fetched / "base",
        expert=tmp_path / "expert",
        data=tmp_path / "rows.parquet",
        task=Labelled(text=("sentence",), labels=1),
        rows=1,
        max_length=64,
        output=tmp_path / "fisher.safetensors",
    )
    model: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path / "expert").eval()
    row = AutoTokenizer.from_pretrained(fetched / "base")(
        read_rows(tmp_path / "rows.parquet", 1)["sentence"].tolist(), return_tensors="pt"
    )
    model(**row).logits[0, 0].backward()
    squares = {name: parameter.grad.square() for name, parameter in model.roberta.named_parameters()}
    norm = torch.cat([square.flatten() for square in squares.values()]).double().norm()
    found = Checkpoint(tmp_path / "fisher.safetensors")
    for name in found:
        torch.testing.assert_close(found[name], (squares[name] / norm).float(), rtol=1e-3, atol=1e-7)


def test_the_command_gathers_the_same(
    fetched: Path, statistics: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = statistics / "data" / "two.parquet", tmp_path / "gram.safetensors"
    command = [
        "statistics",
        "gram-matrices",
        "--base",
        str(fetched / "base"),
        "--expert",
        str(fetched / "experts" / "two"),
    ]
    command += ["--data", str(data), "--rows", str(ROWS), "--max-length", "64", "--output", str(output)]
    assert main([*command, "--text", *TEXT["two"], "--labels", "3"]) == 0
    assert output.read_bytes() == (statistics / "gram-matrices" / "two.safetensors").read_bytes()
    assert main([*command, "--text", *TEXT["two"], "--labels", "0"]) == 1
    assert "--labels: 0 must be at least 1" in capsys.readouterr().err


def test_gram_matrices_are_of_each_linear_layers_own_inputs_without_padding(fetched: Path, statistics: Path) -> None:
    model: Any = AutoModelForSequenceClassification.from_pretrained(fetched / "experts" / "one").eval()
    seen: dict[str, list[torch.Tensor]] = {}
    for name, layer in model.roberta.named_modules():
        if isinstance(layer, torch.nn.Linear):
            layer.register_forward_pre_hook(
                lambda _, inputs, name=name: seen.setdefault(f"{name}.weight", []).append(inputs[0][0])
            )
    with torch.no_grad():
        for row in rows_of(statistics, fetched, "one"):
            model(**row)
    found = Checkpoint(statistics / "gram-matrices" / "one.safetensors")
    assert set(found) == set(seen)
    assert all(group_of(name) == "matrix" for name in found)
    for name, inputs in seen.items():
        X = torch.cat(inputs).double()
        torch.testing.assert_close(found[name].double(), X.T @ X / ROWS, rtol=1e-4, atol=1e-5)


def vectors(fetched: Path) -> tuple[Any, dict[str, dict[str, torch.Tensor]]]:
    base = open_directory(fetched / "base")
    experts = {task: Expert(fetched / "experts" / task, base) for task in LABELS}
    return base, {task: {n: expert.parameter(n).double() for n in base} for task, expert in experts.items()}


def test_fisher_merging_equals_its_dense_oracle(fetched: Path, statistics: Path, tmp_path: Path) -> None:
    files = {task: statistics / "fisher" / f"{task}.safetensors" for task in LABELS}
    out = merged(fetched, tmp_path / "out", "fisher", {}, "strict", statistics=files, workers=2)
    base, experts = vectors(fetched)
    for name in base:
        F = {task: Checkpoint(files[task])[name].double().clamp(min=1e-6) for task in LABELS}
        wanted = sum(F[task] * experts[task][name] for task in LABELS) / sum(F.values())
        torch.testing.assert_close(open_directory(out)[name].double(), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.9, 1.0])
def test_regmean_equals_its_dense_oracle(fetched: Path, statistics: Path, tmp_path: Path, alpha: float) -> None:
    files = {task: statistics / "gram-matrices" / f"{task}.safetensors" for task in LABELS}
    out = merged(fetched, tmp_path / "out", "regmean", {"alpha": alpha}, "strict", statistics=files, workers=2)
    base, experts = vectors(fetched)
    for name in base:
        wanted = sum(experts[task][name] for task in LABELS) / len(LABELS)
        if name in Checkpoint(files["one"]):
            G = {}
            for task in LABELS:
                gram = Checkpoint(files[task])[name].double()
                G[task] = alpha * gram + (1 - alpha) * torch.diag(gram.diagonal())
            wanted = sum(experts[task][name] @ G[task] for task in LABELS) @ torch.linalg.inv(sum(G.values()))
        torch.testing.assert_close(open_directory(out)[name].double(), wanted, rtol=1e-4, atol=1e-5)


def test_regmean_answers_as_the_experts_do_on_their_own_inputs_better_than_the_average() -> None:
    """The property that defines it: the least summed squared error over the layers' own inputs."""
    from twin_merging.merging.methods.regression import regmean
    from twin_merging.merging.registry import Parameter

    torch.manual_seed(0)
    X = {task: torch.randn(50, 12) @ torch.randn(12, 12) for task in "ab"}
    W = {task: torch.randn(9, 12) for task in "ab"}
    grams = {task: x.T @ x for task, x in X.items()}
    parameter = Parameter("layer.weight", torch.zeros(9, 12), W, (9, 12), statistics=grams)

    def error(merged: torch.Tensor) -> float:
        return sum(float((X[task] @ (merged - W[task]).T).square().sum()) for task in "ab")

    best = error(regmean(parameter, alpha=1.0))
    for _ in range(20):
        assert best < error(regmean(parameter, alpha=1.0) + 0.01 * torch.randn(9, 12))
    assert best < error((W["a"] + W["b"]) / 2)


def test_a_singular_gram_matrix_leaves_the_average_where_no_input_ever_was() -> None:
    from twin_merging.merging.methods.regression import regmean
    from twin_merging.merging.registry import Parameter

    torch.manual_seed(0)
    W = {task: torch.randn(3, 4) for task in "ab"}
    seen = torch.diag(torch.tensor([1.0, 1.0, 0.0, 0.0]))
    found = regmean(Parameter("w", torch.zeros(3, 4), W, (3, 4), statistics={"a": seen, "b": 3 * seen}), alpha=1.0)
    torch.testing.assert_close(found[:, :2], (W["a"] + 3 * W["b"])[:, :2] / 4)
    torch.testing.assert_close(found[:, 2:], (W["a"] + W["b"])[:, 2:] / 2)
