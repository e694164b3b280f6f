"""A full fine-tune as a PEFT LoRA: close at a rank, exact at full rank, with the errors that it says."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel

from tests.messages import one_sentence
from tests.tiny import config_of, perturbed
from tests.tiny_decoders import language_model
from twin_merging import UserError, extract_lora, merge
from twin_merging.api.commands import main
from twin_merging.checkpoints.architectures import heads_of
from twin_merging.io.files import file_hashes, read_json

IDS = torch.tensor([[5, 6, 7, 8, 9]])
ALL = ("norm", "bias", "embedding", "other")


def causal(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def write_decoder(folder: Path, kind: str, tied: bool) -> Any:
    """A base and a fine-tune of it, which is given."""
    base = perturbed(language_model(kind, tied, 0), 9, 0.5)
    base.save_pretrained(folder / "base")
    model = perturbed(copy.deepcopy(base), 3, 0.1).eval()
    model.save_pretrained(folder / "model")
    return model


def changes(folder: Path) -> dict[str, torch.Tensor]:
    base, model = (dict(causal(folder / name).named_parameters()) for name in ("base", "model"))
    return {name: (model[name] - base[name]).detach() for name in base}


@pytest.mark.parametrize(("kind", "tied"), [("llama", False), ("gpt2", True), ("qwen2", True)])
def test_at_full_rank_peft_gives_the_fine_tune(kind: str, tied: bool, tmp_path: Path) -> None:
    model = write_decoder(tmp_path, kind, tied)
    found = extract_lora(tmp_path / "base", tmp_path / "model", tmp_path / "lora", fraction=1, save=ALL, threads=1)
    assert found.error < 1e-6
    adapted = PeftModel.from_pretrained(causal(tmp_path / "base"), str(tmp_path / "lora")).eval()
    torch.testing.assert_close(adapted(IDS).logits, model(IDS).logits, rtol=1e-4, atol=1e-4)
    again = merge("task_arithmetic", scaling=1, base=tmp_path / "base", experts={"a": tmp_path / "lora"},
                  output=tmp_path / "merged", threads=1)  # fmt: skip
    torch.testing.assert_close(causal(again)(IDS).logits, model(IDS).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["roberta", "bert"])
def test_a_classifier_keeps_its_head(kind: str, tmp_path: Path) -> None:
    config = config_of(kind)
    base: Any = transformers.AutoModel.from_config(config)
    base.save_pretrained(tmp_path / "base")
    config.num_labels = 3
    model: Any = transformers.AutoModelForSequenceClassification.from_config(config)
    getattr(model, model.base_model_prefix).load_state_dict(base.state_dict(), strict=False)
    model = perturbed(model, 3, 0.1).eval()
    model.save_pretrained(tmp_path / "model")
    differences = []
    asked: list[dict[str, Any]] = [{"fraction": 1.0, "save": ALL}, {"fraction": 1.0}, {"rank": 1}]
    for number, sizes in enumerate(asked):
        output = tmp_path / str(number)
        extract_lora(tmp_path / "base", tmp_path / "model", output, threads=1, **sizes)
        start = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=3)
        adapted = PeftModel.from_pretrained(start, str(output)).eval()
        assert set(heads_of(model)) <= set(read_json(output / "adapter_config.json")["modules_to_save"])
        differences.append(float((adapted(IDS).logits - model(IDS).logits).abs().max()))
        assert read_json(output / "config.json")["id2label"].keys() == {"0", "1", "2"}
    assert differences[0] < 1e-5 < differences[1]
    assert differences[0] < 1e-5 < differences[2]


def test_the_errors_are_those_of_the_best_cut(tmp_path: Path) -> None:
    write_decoder(tmp_path, "llama", False)
    found = extract_lora(tmp_path / "base", tmp_path / "model", tmp_path / "lora", rank=3, save=["norm"], threads=1)
    record, dense = read_json(tmp_path / "lora" / "extraction.json"), changes(tmp_path)
    left = 0.0
    for name, layer in record["layers"].items():
        values = torch.linalg.svdvals(dense[name].double())
        assert layer["rank"] == 3
        assert layer["relative_error"] == pytest.approx(float(values[3:].norm() / values.norm()), rel=1e-3)
        left += float(values[3:].square().sum())
    linear = {name for name in dense if dense[name].dim() == 2 and "embed" not in name}
    assert set(record["layers"]) == linear
    assert set(record["others"]) == set(dense) - linear
    whole = sum(float(value.double().square().sum()) for value in dense.values())
    embedding = record["others"]["model.embed_tokens.weight"]
    share = float(dense["model.embed_tokens.weight"].double().square().sum()) / whole
    assert embedding == {"group": "embedding", "share": pytest.approx(share), "saved": False}
    assert record["others"]["model.norm.weight"]["saved"]
    assert record["relative_error"] == pytest.approx(math.sqrt(left / whole + share), rel=1e-3)
    assert found.error == record["relative_error"]
    config = read_json(tmp_path / "lora" / "adapter_config.json")
    assert (config["r"], config["task_type"], config["bias"]) == (3, "CAUSAL_LM", "none")
    assert "model.norm" in config["modules_to_save"]


def test_an_energy_gives_each_layer_its_rank(tmp_path: Path) -> None:
    write_decoder(tmp_path, "llama", True)
    extract_lora(tmp_path / "base", tmp_path / "model", tmp_path / "lora", energy=0.8, threads=1)
    dense = changes(tmp_path)
    for name, layer in read_json(tmp_path / "lora" / "extraction.json")["layers"].items():
        shares = torch.linalg.svdvals(dense[name].double()).square().cumsum(0)
        assert layer["rank"] == int((shares / shares[-1] < 0.8).sum()) + 1
        assert layer["relative_error"] <= math.sqrt(0.2) + 1e-6


def test_the_command_says_the_errors_and_processes_change_no_byte(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_decoder(tmp_path, "llama", True)
    for name, threads in (("one", "1"), ("two", "2")):
        given = [str(tmp_path / "base"), str(tmp_path / "model"), "--rank", "2", "--threads", threads]
        assert main(["extract-lora", *given, "--output", str(tmp_path / name)]) == 0
    assert file_hashes(tmp_path / "one", ".") == file_hashes(tmp_path / "two", ".")
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("model.layers.0.self_attn.q_proj.weight: rank 2, relative error 0.") for line in lines)
    assert any(line.startswith("embedding: 1 parameters") and "left out: model.embed_tokens" in line for line in lines)
    assert lines[-1].startswith("everything together: relative error 0.")


def test_wrong_inputs(tmp_path: Path) -> None:
    write_decoder(tmp_path, "llama", True)
    base, model, output = (tmp_path / name for name in ("base", "model", "out"))
    wrong: list[tuple[dict[str, Any], list[str]]] = [
        ({}, ["exactly one"]),
        ({"rank": 2, "energy": 0.5}, ["exactly one"]),
        ({"rank": 0}, ["rank: 0", "from 1"]),
        ({"energy": 1.5}, ["energy: 1.5", "at most 1"]),
        ({"rank": 2, "save": ["norms"]}, ["did you mean 'norm'?"]),
    ]
    for given, words in wrong:
        with pytest.raises(UserError) as caught:
            extract_lora(base, model, output, **given)
        one_sentence(caught.value, *words)
    with pytest.raises(UserError) as caught:
        extract_lora(base, base, output, rank=2)
    one_sentence(caught.value, str(base), "nothing to extract")
    extract_lora(base, model, output, rank=2, threads=1)
    for places, word in (((base, model, output), "exists"), ((base, output, tmp_path / "x"), "adapter already")):
        with pytest.raises(UserError) as caught:
            extract_lora(*places, rank=2)
        one_sentence(caught.value, str(output), word)
    assert not (tmp_path / "x").exists()
