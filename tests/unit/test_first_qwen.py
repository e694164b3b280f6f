"""The first Qwen is fetched as the Qwen2 that computes the same, its experts too; what differs is one sentence."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.first_qwen import (
    CONFIG,
    SEQ_LENGTH,
    Tensors,
    logits,
    merged,
    random_adapter,
    random_tensors,
    write_adapter,
    write_model,
)
from tests.messages import one_sentence
from twin_merging.checkpoints.experts import Expert
from twin_merging.checkpoints.fused import read_fused
from twin_merging.checkpoints.kinds import LanguageModel
from twin_merging.checkpoints.tokenizers import load_tokenizer
from twin_merging.errors import UserError
from twin_merging.fetching.models import fetch_adapter, fetch_base, fetch_expert
from twin_merging.io.files import read_json
from twin_merging.io.tensors import WEIGHTS, Checkpoint
from twin_merging.io.weights import open_directory
from twin_merging.task_vectors.vectors import TaskVector, extract_task_vector
from twin_merging.tasks.lengths import longest

WHOLE = LanguageModel()
SIZE = 0.12
TENSORS = random_tensors(CONFIG, size=SIZE)
IDS = torch.randint(0, CONFIG["vocab_size"], (3, SEQ_LENGTH), generator=torch.Generator().manual_seed(5))
EVERY = ("attn.c_attn", "attn.c_proj", "mlp.w1", "mlp.w2", "mlp.c_proj")
LAYER = "transformer.h.1"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("first")
    write_model(root / "source", CONFIG, TENSORS)
    fetch_base({"path": str(root / "source")}, root / "base", whole=WHOLE)
    return root / "base"


@torch.no_grad()
def computed(directory: Path, ids: torch.Tensor = IDS, adapter: Path | None = None) -> torch.Tensor:
    """Logits by transformers, and PEFT."""
    model: Any = AutoModelForCausalLM.from_pretrained(directory).eval()
    if adapter:
        model = PeftModel.from_pretrained(model, adapter).eval()
    return model(ids).logits


def test_the_logits_are_the_first_qwens_up_to_the_length_that_it_was_trained_on(base: Path) -> None:
    wanted = logits(CONFIG, TENSORS, IDS)
    torch.testing.assert_close(computed(base), wanted, rtol=0, atol=1e-5)
    assert wanted.std() > 0.1
    longer = torch.cat([IDS, IDS[:, :1]], dim=1)
    assert (computed(base, longer) - logits(CONFIG, TENSORS, longer)).abs().max() > 0.01
    swapped = {
        name.replace("w1", "w0").replace("w2", "w1").replace("w0", "w2"): value for name, value in TENSORS.items()
    }
    assert (wanted - logits(CONFIG, swapped, IDS)).abs().max() > 0.1


def test_every_number_is_there_as_it_was(base: Path) -> None:
    found, wanted = open_directory(base), TENSORS[f"{LAYER}.attn.c_attn.weight"]
    parts = [found[f"model.layers.1.self_attn.{part}_proj.weight"] for part in "qkv"]
    assert torch.cat(parts).equal(wanted)
    assert found.numbers == sum(tensor.numel() for tensor in TENSORS.values())
    config = read_json(base / "config.json")
    assert config["model_type"] == "qwen2"
    assert "auto_map" not in config
    assert config["max_position_embeddings"] == SEQ_LENGTH
    assert config["eos_token_id"] == config["pad_token_id"] == load_tokenizer(base).eos_token_id == 400


@pytest.mark.parametrize("form", ["shards", "pickled"])
def test_a_base_is_the_same_in_every_form(base: Path, tmp_path: Path, form: str) -> None:
    buffers = {"transformer.rotary_emb.inv_freq": torch.ones(4), f"{LAYER}.attn.rotary_emb.inv_freq": torch.ones(4)}
    write_model(tmp_path / "source", CONFIG, {**TENSORS, **buffers}, form)
    fetch_base({"path": str(tmp_path / "source")}, tmp_path / "base", whole=WHOLE)
    assert (tmp_path / "base" / WEIGHTS).read_bytes() == (base / WEIGHTS).read_bytes()
    assert read_json(tmp_path / "base" / "source.json")["left_out"] == sorted(buffers)


def test_numbers_of_half_the_size_stay_as_they_are(tmp_path: Path) -> None:
    halves = {name: tensor.bfloat16() for name, tensor in TENSORS.items()}
    write_model(tmp_path / "source", CONFIG, halves)
    fetch_base({"path": str(tmp_path / "source")}, tmp_path / "base", whole=WHOLE)
    found = open_directory(tmp_path / "base")
    assert found["model.layers.1.self_attn.v_proj.bias"].equal(halves[f"{LAYER}.attn.c_attn.bias"][-32:])
    assert read_json(tmp_path / "base" / "config.json")["dtype"] == "bfloat16"


@pytest.mark.parametrize("kind", ["base", "expert"])
def test_a_model_is_written_tensor_by_tensor(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """No more than a tensor and what is computed of it is in memory at once, and each is read once."""
    write_model(tmp_path / "source", CONFIG, TENSORS, "shards")
    read: list[weakref.ref[torch.Tensor]] = []
    most = 0
    rows = Checkpoint.rows

    def counted(self: Checkpoint, *bounds: Any) -> torch.Tensor:
        nonlocal most
        tensor = rows(self, *bounds)
        read.append(weakref.ref(tensor))
        most = max(most, sum(one() is not None for one in read))
        return tensor

    monkeypatch.setattr(Checkpoint, "rows", counted)
    source = {"path": str(tmp_path / "source")}
    if kind == "base":
        fetch_base(source, tmp_path / "out", whole=WHOLE)
    else:
        fetch_expert(source, WHOLE, base, tmp_path / "out")
    assert most == 1
    assert len(read) == len(open_directory(base))


def test_inputs_that_do_not_fit_with_their_answer_are_an_error(base: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    assert longest(None, model.config, load_tokenizer(base)).tokens == SEQ_LENGTH
    found = longest(2048, model.config, load_tokenizer(base), new=5)
    assert found.tokens == SEQ_LENGTH - 5
    assert found.why == f"the model has {SEQ_LENGTH} positions, of which it may write 5"


# -- experts


@pytest.mark.parametrize("modules", [("attn.c_attn",), ("mlp.w1", "lm_head"), EVERY], ids=len)
@pytest.mark.parametrize("pickled", [True, False])
def test_an_adapter_changes_the_logits_as_it_does_on_the_first_qwen(
    base: Path, tmp_path: Path, modules: tuple[str, ...], pickled: bool
) -> None:
    adapter = random_adapter(CONFIG, modules, size=0.1)
    write_adapter(tmp_path / "source", adapter, pickled)
    fetch_adapter({"path": str(tmp_path / "source")}, base, tmp_path / "out", WHOLE)
    wanted = logits(CONFIG, merged(TENSORS, adapter, 2.0), IDS)
    assert (wanted - logits(CONFIG, TENSORS, IDS)).abs().max() > 0.1
    torch.testing.assert_close(computed(base, adapter=tmp_path / "out"), wanted, rtol=0, atol=1e-5)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "source.json"
    ]  # fmt: skip


def test_ranks_and_scales_of_single_modules_go_with_them(base: Path, tmp_path: Path) -> None:
    adapter = random_adapter(CONFIG, ["mlp.c_proj"]) | random_adapter(CONFIG, ["attn.c_proj"], rank=2)
    patterns: dict[str, Any] = {
        "rank_pattern": {"attn.c_proj": 2},
        "alpha_pattern": {"h.1.mlp.c_proj": 9},
        "use_rslora": True,
    }
    write_adapter(tmp_path / "source", adapter, target_modules=".*c_proj", **patterns)
    fetch_adapter({"path": str(tmp_path / "source")}, base, tmp_path / "out", WHOLE)
    expert = Expert(tmp_path / "out", open_directory(base))
    for module, scale in {"attn.c_proj": 6 / 2**0.5, "mlp.c_proj": 9 / 3**0.5}.items():
        down, up = (adapter[f"base_model.model.{LAYER}.{module}.lora_{part}.weight"] for part in "AB")
        name = {"attn.c_proj": "self_attn.o_proj", "mlp.c_proj": "mlp.down_proj"}[module]
        found = expert.factors[f"model.layers.1.{name}.weight"]
        torch.testing.assert_close(found.product(), scale * up @ down)


def test_modules_that_are_trained_whole_go_with_the_factors(base: Path, tmp_path: Path) -> None:
    adapter = random_adapter(CONFIG, ["attn.c_attn"])
    new = random_tensors(CONFIG, seed=7, size=SIZE)
    names = ["transformer.wte.weight", "lm_head.weight", "transformer.ln_f.weight", f"{LAYER}.ln_1.weight"]
    adapter |= {f"base_model.model.{name}": new[name] for name in names}
    write_adapter(tmp_path / "source", adapter, modules_to_save=["wte", "lm_head", "ln_f", "ln_1"])
    fetch_adapter({"path": str(tmp_path / "source")}, base, tmp_path / "out", WHOLE)
    wanted = merged({**TENSORS, **{name: new[name] for name in names}}, adapter, 2.0)
    found = computed(base, adapter=tmp_path / "out")
    torch.testing.assert_close(found, logits(CONFIG, wanted, IDS), rtol=0, atol=3e-5)


def test_what_was_one_matrix_is_told_beside_the_expert_and_in_its_task_vector(base: Path, tmp_path: Path) -> None:
    adapter = random_adapter(CONFIG, EVERY)
    write_adapter(tmp_path / "source", adapter)
    fetch_adapter({"path": str(tmp_path / "source")}, base, tmp_path / "out", WHOLE)
    found = read_fused(tmp_path / "out")
    assert list(found) == ["transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_attn"]
    parts = found[f"{LAYER}.attn.c_attn"]
    assert parts == tuple(f"model.layers.1.self_attn.{part}_proj.weight" for part in "qkv")
    expert = Expert(tmp_path / "out", open_directory(base))
    assert expert.fused == found
    downs = [expert.factors[part].down for part in parts]
    assert all(down.equal(downs[0]) for down in downs)
    up = torch.cat([expert.factors[part].up for part in parts])
    assert up.equal(2 * adapter[f"base_model.model.{LAYER}.attn.c_attn.lora_B.weight"])
    extract_task_vector(base, tmp_path / "out", tmp_path / "vector.safetensors")
    assert TaskVector(tmp_path / "vector.safetensors").fused == found


def test_a_whole_expert_is_converted_too(base: Path, tmp_path: Path) -> None:
    tensors = random_tensors(CONFIG, seed=3, size=SIZE)
    write_model(tmp_path / "source", CONFIG, tensors, "pickled")
    fetch_expert({"path": str(tmp_path / "source")}, WHOLE, base, tmp_path / "out")
    torch.testing.assert_close(computed(tmp_path / "out"), logits(CONFIG, tensors, IDS), rtol=0, atol=1e-5)
    other = {**CONFIG, "rotary_emb_base": 6000}
    write_model(tmp_path / "other", other, tensors)
    with pytest.raises(UserError) as caught:
        fetch_expert({"path": str(tmp_path / "other")}, WHOLE, base, tmp_path / "refused")
    one_sentence(caught.value, "rope_theta is 6000.0, but 5000.0 in the base")


# -- what is refused


def without(name: str) -> Callable[[Tensors], Any]:
    return lambda tensors: tensors.pop(name)


def put(name: str, tensor: torch.Tensor) -> Callable[[Tensors], Any]:
    return lambda tensors: tensors.update({name: tensor})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without(f"{LAYER}.mlp.w2.weight"), ("no tensor", f"{LAYER}.mlp.w2.weight")),
        (without("lm_head.weight"), ("no tensor", "lm_head.weight")),
        (put(f"{LAYER}.mlp.c_proj.weight", torch.ones(24, 32)), ("mlp.c_proj.weight", "[24, 32]", "[32, 24]")),
        (put(f"{LAYER}.attn.c_attn.weight", torch.ones(32, 96)), ("attn.c_attn.weight", "[32, 96]", "[96, 32]")),
        (put(f"{LAYER}.mlp.w1.bias", torch.ones(24)), ("mlp.w1.bias", "fits no parameter of a first Qwen")),
        (put("transformer.visual.proj", torch.ones(3)), ("transformer.visual.proj", "fits no parameter")),
        (put(f"{LAYER}.mlp.w1.qweight", torch.ones(3, dtype=torch.int32)), ("w1.qweight", "quantised")),
        (put(f"{LAYER}.mlp.w1.weight", torch.ones(24, 32, dtype=torch.int8)), ("w1.weight", "int8")),
        (lambda tensors: tensors[f"{LAYER}.ln_1.weight"].fill_(float("nan")), ("input_layernorm", "NaN")),
    ],
    ids=["missing", "no output", "turned", "turned c_attn", "bias", "foreign", "quantised", "integers", "NaN"],
)  # fmt: skip
def test_a_wrong_tensor_is_one_sentence(tmp_path: Path, change: Callable[[Tensors], Any], words: Any) -> None:
    tensors = {name: tensor.clone() for name, tensor in TENSORS.items()}
    change(tensors)
    refused(write_model(tmp_path / "source", CONFIG, tensors), *words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seq_length": None}, ("key 'seq_length' is missing",)),
        ({"hidden_size": "32"}, ("hidden_size is '32'", "whole number")),
        ({"layer_norm_epsilon": 0}, ("layer_norm_epsilon is 0", "above 0")),
        ({"kv_channels": 16}, ("hidden_size 32 is not 4 heads of kv_channels 16",)),
        ({"intermediate_size": 49}, ("intermediate_size 49 is odd",)),
        ({"no_bias": False}, ("no_bias is False", "True alone")),
        ({"scale_attn_weights": False}, ("scale_attn_weights is False",)),
        ({"rotary_pct": 0.5}, ("rotary_pct is 0.5",)),
        ({"emb_dropout_prob": 0.1}, ("emb_dropout_prob is 0.1",)),
        ({"visual": {"layers": 48}}, ("visual is {'layers': 48}",)),
        ({"num_hidden_layers": 10**9}, ("num_hidden_layers is 1000000000", "19 tensors")),
        ({"quantization_config": {"quant_method": "gptq"}}, ("gptq",)),
        ({"vocab_size": 500}, ("wte.weight", "[640, 32]", "[500, 32]")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_configuration_that_is_no_qwen2s_is_one_sentence(tmp_path: Path, change: Any, words: Any) -> None:
    config = {key: value for key, value in {**CONFIG, **change}.items() if value is not None}
    refused(write_model(tmp_path / "source", config, TENSORS), *words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put(f"base_model.model.{LAYER}.attn.c_attn.lora_B.weight", torch.ones(95, 3)), ("c_attn.lora_B", "95 rows")),
        (put("base_model.model.transformer.x.lora_A.weight", torch.ones(3, 3)), ("transformer.x", "no module")),
        (without(f"base_model.model.{LAYER}.attn.c_attn.lora_A.weight"), ("no lora_A", "self_attn.k_proj")),
        (put(f"base_model.model.{LAYER}.attn.c_attn.lora_B.weight", torch.full((96, 3), float("inf"))), ("infinity",)),
    ],
    ids=["rows", "foreign", "half a pair", "infinity"],
)
def test_a_wrong_adapter_is_one_sentence(
    base: Path, tmp_path: Path, change: Callable[[Tensors], Any], words: Any
) -> None:
    adapter = random_adapter(CONFIG, ["attn.c_attn", "mlp.w1"])
    change(adapter)
    write_adapter(tmp_path / "source", adapter)
    with pytest.raises(UserError) as caught:
        fetch_adapter({"path": str(tmp_path / "source")}, base, tmp_path / "out", WHOLE)
    one_sentence(caught.value, str(tmp_path / "source"), *words)
    assert not (tmp_path / "out").exists()


def refused(source: Path, *words: str) -> None:
    output = source.with_name("refused")
    with pytest.raises(UserError) as caught:
        fetch_base({"path": str(source)}, output, whole=WHOLE)
    one_sentence(caught.value, str(source), *words)
    assert not output.exists()
