"""RegMean++ against whole forward passes of the partly merged model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.joint import ROWS, TASKS, Plain, gathered
from tests.tiny import LABELS, merged, perturbed
from tests.tiny_decoders import language_model, prompts_of, tokenizer
from twin_merging.checkpoints.groups import PROTOCOLS, merged_names
from twin_merging.errors import UserError
from twin_merging.io.tensors import Checkpoint
from twin_merging.io.validation import validate
from twin_merging.io.weights import open_directory
from twin_merging.joint_statistics.forward import _before_layers, _check_way
from twin_merging.joint_statistics.gather import gather_joint_statistics
from twin_merging.task_vectors.statistics import gram_matrices
from twin_merging.task_vectors.vectors import extract_task_vector
from twin_merging.tasks.generation import FAMILY


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


@pytest.mark.parametrize(("model_type", "tied"), [("llama", True), ("llama", False)])
def test_language_models_are_merged_on_their_prompts(tmp_path: Path, model_type: str, tied: bool) -> None:
    """Against plain passes of whole models: every layer but the first reads what merged layers before it give."""
    prompts = {task: prompts_of(task, seed, ROWS) for seed, task in enumerate(("echo", "next"))}
    base = perturbed(language_model(model_type, tied, 0), 9, 0.2)
    base.save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    models, vectors, data = {}, {}, {}
    experts: dict[str, Path] = {}
    for seed, (task, (table, _)) in enumerate(prompts.items(), start=1):
        models[task] = perturbed(copy.deepcopy(base), seed, 0.2)
        models[task].save_pretrained(experts.setdefault(task, tmp_path / task))
        vectors[task] = tmp_path / f"{task}.safetensors"
        extract_task_vector(tmp_path / "base", experts[task], vectors[task])
        data[task] = tmp_path / f"{task}.parquet"
        table.to_parquet(data[task])
    texts = {"echo": "{word} {other} after", "next": "after {word}"}
    gather_joint_statistics(
        "merged-grams",
        options={"alpha": 0.9},
        protocol=PROTOCOLS["strict"],
        base=tmp_path / "base",
        task_vectors=vectors,
        experts=experts,
        data=data,
        tasks={task: validate(FAMILY.answers, {"prompt": text}) for task, text in texts.items()},
        rows=ROWS,
        max_length=24,
        output=tmp_path / "out",
    )
    found = {task: Checkpoint(tmp_path / "out" / f"{task}.safetensors") for task in texts}

    body = copy.deepcopy(base.model).double()
    states = {task: model.model.double().state_dict() for task, model in models.items()}
    mean = {name: (states["echo"][name] + states["next"][name]) / 2 for name in states["echo"]}
    for number in range(body.config.num_hidden_layers):
        start = f"layers.{number}."
        grams: dict[str, dict[str, torch.Tensor]] = {}
        for task, state in states.items():
            own = {name: tensor for name, tensor in state.items() if name.startswith(start)}
            body.load_state_dict({**mean, **own})
            seen: dict[str, list[torch.Tensor]] = {}
            hooks = [
                part.register_forward_pre_hook(
                    lambda _, inputs, name=name, seen=seen: seen.setdefault(name, []).append(inputs[0][0])
                )
                for name, part in body.named_modules()
                if isinstance(part, torch.nn.Linear) and name.startswith(start)
            ]
            with torch.no_grad():
                for text in prompts[task][1]:
                    body(**tokenizer()(text, return_tensors="pt", return_token_type_ids=False))
            for hook in hooks:
                hook.remove()
            for name, inputs in seen.items():
                gram = torch.cat(inputs).T @ torch.cat(inputs) / ROWS
                torch.testing.assert_close(found[task][f"model.{name}.weight"].double(), gram, rtol=1e-3, atol=1e-4)
                grams.setdefault(name, {})[task] = 0.9 * gram + 0.1 * torch.diag(gram.diagonal())
        for name, own in grams.items():
            weighted = sum(states[task][f"{name}.weight"] @ gram for task, gram in own.items())
            mean[f"{name}.weight"] = weighted @ torch.linalg.inv(sum(own.values()))
    assert set(found["echo"]) == {f"model.{name}" for name in mean if name.endswith("proj.weight")}


def test_layers_that_are_called_in_different_ways_are_refused(fetched: Path, rows_of_tasks: dict[str, Path]) -> None:
    """What is found by the layers one after the other must be what a whole pass gives."""
    plain = Plain(fetched, rows_of_tasks, "strict")
    model, batch = plain.models["one"], plain.rows["one"][0]
    with torch.no_grad():
        (passing,) = _before_layers(model, "roberta.encoder.layer", [batch])
        for layer in model.roberta.encoder.layer:
            passing.hidden = passing.through(layer)
        _check_way(model, "roberta.encoder.layer.1", batch, passing)
        passing.hidden = passing.hidden + 0.1
        with pytest.raises(UserError, match="model type 'roberta': its layers are not all called in the same way"):
            _check_way(model, "roberta.encoder.layer.1", batch, passing)
