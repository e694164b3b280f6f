"""Static methods and task vectors, against dense arithmetic on whole state dicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import LABELS, merged
from twin_merging.checkpoints.experts import Expert
from twin_merging.checkpoints.groups import PROTOCOLS, group_of, protocol_of
from twin_merging.checkpoints.kinds import Classifier
from twin_merging.io.files import read_json
from twin_merging.io.tensors import WEIGHTS, Checkpoint
from twin_merging.io.weights import open_directory
from twin_merging.task_vectors.vectors import TaskVector, extract_task_vector

METHODS: dict[str, tuple[dict[str, Any], Any]] = {
    "weight_average": ({"weights": None}, lambda base, taus: base + sum(taus) / len(taus)),
    "task_arithmetic": ({"scaling": 0.29}, lambda base, taus: base + 0.29 * sum(taus)),
}


def test_a_task_vector_is_the_difference_of_every_body_parameter_and_has_no_head(fetched: Path) -> None:
    base = open_directory(fetched / "base")
    for task in LABELS:
        vector = Checkpoint(fetched / "task_vectors" / f"{task}.safetensors")
        expert = Expert(fetched / "experts" / task, base)
        assert set(vector) == {name for name in base if group_of(name) != "head"}
        for name in vector:
            assert torch.equal(vector[name], expert.parameter(name) - base[name])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("method", METHODS)
def test_a_merged_model_equals_dense_arithmetic(fetched: Path, tmp_path: Path, method: str, protocol: str) -> None:
    options, oracle = METHODS[method]
    output = merged(fetched, tmp_path / "model", method, options, protocol)
    base = open_directory(fetched / "base")
    experts = [Expert(fetched / "experts" / task, base) for task in LABELS]
    body = open_directory(output)
    assert set(body) == set(base)
    for name in base:
        taus = [expert.parameter(name).double() - base[name].double() for expert in experts]
        is_merged = PROTOCOLS[protocol].merges(name, base.shape(name))
        wanted = oracle(base[name].double(), taus) if is_merged else base[name].double()
        torch.testing.assert_close(body[name].double(), wanted, rtol=1e-6, atol=1e-7)


def test_unmerged_groups_keep_the_base_in_the_body_and_lie_whole_in_private(fetched: Path, tmp_path: Path) -> None:
    output = merged(fetched, tmp_path / "model", "task_arithmetic", {"scaling": 0.29}, "reference")
    base, body = open_directory(fetched / "base"), open_directory(output)
    biases = [name for name in base if "bias" in name]
    assert biases
    assert "encoder.layer.0.attention.output.LayerNorm.bias" in biases
    for task in LABELS:
        expert = Expert(fetched / "experts" / task, base)
        private = Checkpoint(output / "private" / f"{task}.safetensors")
        assert set(private) == {*biases, *expert.head}
        for name in biases:
            assert torch.equal(body[name], base[name])
            assert torch.equal(private[name], expert.parameter(name))


def test_the_order_of_tasks_changes_no_byte_of_the_body(fetched: Path, tmp_path: Path) -> None:
    one = merged(fetched, tmp_path / "a", "task_arithmetic", {"scaling": 0.29}, "strict")
    other = merged(fetched, tmp_path / "b", "task_arithmetic", {"scaling": 0.29}, "strict", reversed(LABELS))
    assert (one / WEIGHTS).read_bytes() == (other / WEIGHTS).read_bytes()


def test_scaling_and_weights_can_be_given_for_each_task(fetched: Path, tmp_path: Path) -> None:
    alone = merged(fetched, tmp_path / "a", "task_arithmetic", {"scaling": {"one": 1.0, "two": 0.0}}, "strict")
    average = merged(fetched, tmp_path / "b", "weight_average", {"weights": {"one": 5.0, "two": 0.0}}, "strict")
    base = open_directory(fetched / "base")
    expert = Expert(fetched / "experts" / "one", base)
    for name in base:
        for model in (alone, average):
            torch.testing.assert_close(open_directory(model)[name], expert.parameter(name), rtol=1e-6, atol=1e-6)


def test_weights_that_sum_to_0_are_an_error(fetched: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="weights sum to 0"):
        merged(fetched, tmp_path / "model", "weight_average", {"weights": {"one": 1.0, "two": -1.0}}, "strict")
    assert list(tmp_path.glob("model/*.safetensors")) == []


def test_scaling_0_gives_the_base(fetched: Path, tmp_path: Path) -> None:
    output = merged(fetched, tmp_path / "model", "task_arithmetic", {"scaling": 0.0}, "strict")
    base, body = open_directory(fetched / "base"), open_directory(output)
    assert all(torch.equal(base[name], body[name]) for name in base)


def test_the_record_names_method_options_protocol_and_the_hash_of_every_input(fetched: Path, tmp_path: Path) -> None:
    output = merged(fetched, tmp_path / "model", "task_arithmetic", {"scaling": 0.29}, "reference")
    record = read_json(output / "merge.json")
    assert (record["method"], record["options"], record["protocol"]) == (
        "task_arithmetic",
        {"scaling": 0.29, "lora_space": "product"},
        "reference",
    )
    assert record["tasks"] == {"one": {"labels": 2}, "two": {"labels": 3}}
    assert {"base", "task_vectors/one", "task_vectors/two", "experts/one", "experts/two"} == set(record["inputs"])
    assert all(len(entry["sha256"]) == 64 for entry in record["inputs"].values())


def test_a_lora_expert_is_merged_as_the_product_of_its_factors(tiny: Path, fetched: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    from twin_merging.fetching.models import fetch_adapter

    torch.manual_seed(1)
    whole: Any = AutoModelForSequenceClassification.from_pretrained(tiny / "base", num_labels=2)
    config = LoraConfig(task_type="SEQ_CLS", r=3, lora_alpha=12, target_modules=["query", "value"], use_rslora=True)
    model: Any = get_peft_model(whole, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2)
    model.save_pretrained(tmp_path / "adapter")
    fetch_adapter({"path": str(tmp_path / "adapter")}, fetched / "base", tmp_path / "expert", Classifier(2))
    extract_task_vector(fetched / "base", tmp_path / "expert", tmp_path / "vector.safetensors")
    vector, base = TaskVector(tmp_path / "vector.safetensors"), open_directory(fetched / "base")
    assert vector.is_lora
    tuned = model.merge_and_unload().state_dict()
    for name in base:
        change = vector.change(name, base[name])
        torch.testing.assert_close(change, tuned[f"roberta.{name}"] - base[name], rtol=1e-5, atol=1e-6)


def test_groups_follow_the_names() -> None:
    groups = {
        "embeddings.word_embeddings.weight": "embedding",
        "embeddings.LayerNorm.weight": "norm",
        "embeddings.LayerNorm.bias": "bias",
        "encoder.layer.0.attention.self.query.weight": "matrix",
        "encoder.layer.0.attention.self.query.bias": "bias",
        "encoder.layer.0.output.LayerNorm.weight": "norm",
        "pooler.dense.weight": "head",
        "pooler.dense.bias": "head",
        "h.0.ln_1.weight": "norm",
        "wte.weight": "embedding",
        "layers.0.input_layernorm.weight": "norm",
        "model.embed_tokens.weight": "embedding",
    }
    assert {name: group_of(name) for name in groups} == groups


def test_a_suite_can_define_a_protocol_of_its_own() -> None:
    protocol = protocol_of("mine", {"mine": {"norm": "expert", "embedding": "base"}})
    assert protocol.groups == {
        "head": "expert",
        "bias": "merge",
        "norm": "expert",
        "embedding": "base",
        "matrix": "merge",
    }
