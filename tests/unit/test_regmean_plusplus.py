"""RegMean++ against whole forward passes of the partly merged model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.joint import ROWS, TASKS, Plain, gathered
from tests.tiny import LABELS, merged
from twin_merging.checkpoints.groups import PROTOCOLS, merged_names
from twin_merging.io.tensors import Checkpoint
from twin_merging.io.weights import open_directory
from twin_merging.task_vectors.statistics import gram_matrices


def regmean_plusplus(plain: Plain, alpha: float) -> dict[str, torch.Tensor]:
    """Whole forward passes of the partly merged model for each layer, with the task's own layer in its place."""
    mean = {name: torch.stack([own[name] for own in plain.experts.values()]).mean(0) for name in plain.base}
    body = dict(mean)
    layers = plain.models["one"].config.num_hidden_layers
    for number in range(layers):
        inside = [name for name in plain.base if name.startswith(f"encoder.layer.{number}.")]
        grams: dict[str, dict[str, torch.Tensor]] = {name: {} for name in inside}
        for task, model in plain.models.items():
            seen: dict[str, list[torch.Tensor]] = {}
            hooks = [
                model.roberta.get_submodule(name.removesuffix(".weight")).register_forward_pre_hook(
                    lambda _, inputs, name=name, seen=seen: seen.setdefault(name, []).append(inputs[0][0])
                )
                for name in inside
                if name.endswith(".weight") and "LayerNorm" not in name
            ]
            own = {**body, **{name: plain.experts[task][name] for name in inside}}
            with torch.no_grad():
                for row in plain.rows[task]:
                    plain.run(task, own, row)
            for hook in hooks:
                hook.remove()
            for name, found in seen.items():
                gram = torch.cat(found).T @ torch.cat(found) / ROWS
                grams[name][task] = alpha * gram + (1 - alpha) * torch.diag(gram.diagonal())
        for name in inside:
            if grams[name] and plain.protocol.merges(name, plain.shapes[name]):
                weighted = sum(plain.experts[task][name] @ gram for task, gram in grams[name].items())
                body[name] = weighted @ torch.linalg.inv(sum(grams[name].values()))
    return body


@pytest.mark.parametrize(("protocol", "alpha"), [("reference", 0.9), ("strict", 0.9), ("linear", 0.5)])
def test_regmean_plusplus_equals_whole_passes_of_the_partly_merged_model(
    fetched: Path, rows_of_tasks: dict[str, Path], tmp_path: Path, protocol: str, alpha: float
) -> None:
    files = gathered(fetched, rows_of_tasks, tmp_path / "statistics", "regmean_plusplus", protocol, alpha=alpha)
    options = {"alpha": alpha}
    out = merged(fetched, tmp_path / "out", "regmean_plusplus", options, protocol, statistics=files, workers=2)
    plain = Plain(fetched, rows_of_tasks, protocol)
    wanted, found = regmean_plusplus(plain, alpha), open_directory(out)
    for name in merged_names(open_directory(fetched / "base"), PROTOCOLS[protocol]):
        torch.testing.assert_close(found[name].double(), wanted[name], rtol=1e-4, atol=2e-5)


def test_the_first_layer_is_as_in_regmean_where_the_embeddings_are_the_experts_own_and_later_ones_are_not(
    fetched: Path, rows_of_tasks: dict[str, Path], tmp_path: Path
) -> None:
    """Under `linear` nothing is merged before the first layer, and every expert has the base's embeddings there."""
    files = gathered(fetched, rows_of_tasks, tmp_path / "statistics", "regmean_plusplus", "linear")
    plain = Plain(fetched, rows_of_tasks, "linear")
    model: Any = AutoModelForSequenceClassification.from_pretrained(fetched / "experts" / "one").eval()
    model.roberta.load_state_dict(
        {name: tensor.float() for name, tensor in plain.of_task("one", plain.experts["one"]).items()}, strict=False
    )
    alone = gram_matrices(model, iter(plain.rows["one"]), ROWS)
    found = Checkpoint(files["one"])
    for name in found:
        same = torch.allclose(found[name], alone[f"roberta.{name}"], rtol=1e-3, atol=1e-5)
        assert same == name.startswith("encoder.layer.0."), name


def test_the_order_of_tasks_and_of_runs_changes_no_byte(
    fetched: Path, rows_of_tasks: dict[str, Path], tmp_path: Path
) -> None:
    one = gathered(fetched, rows_of_tasks, tmp_path / "one", "regmean_plusplus", "reference")
    turned = dict(reversed(TASKS.items()))
    two = gathered(fetched, rows_of_tasks, tmp_path / "two", "regmean_plusplus", "reference", turned)
    assert all(one[task].read_bytes() == two[task].read_bytes() for task in LABELS)
