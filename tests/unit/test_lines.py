"""LiNeS: how deep parameters lie, and what is scaled by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers

from tests.oracles import METHODS
from tests.random_models import SHAPES, write_models
from tests.suites import edited, load, refused
from tests.tiny import config_of, merged
from tests.unit.test_methods import dense
from twin_merging.checkpoints.architectures import depths
from twin_merging.errors import UserError
from twin_merging.io.tensors import Checkpoint
from twin_merging.io.weights import open_directory
from twin_merging.merging.inputs import Inputs
from twin_merging.merging.options import complete_options
from twin_merging.merging.registry import merging_methods
from twin_merging.merging.scales import scale_of
from twin_merging.plan.modules import method_modules

SUM: dict[str, Any] = {"method": "task_arithmetic", "scaling": 0.7}
OWN: dict[str, Any] = {"alpha": 0.2, "beta": 0.5}


@pytest.mark.parametrize(
    ("model_type", "auto", "first", "middle", "last"),
    [
        ("roberta", "AutoModel", "embeddings.LayerNorm.weight", "encoder.layer.1.output.dense.weight", None),
        ("gpt2", "AutoModelForCausalLM", "transformer.wpe.weight", "transformer.h.1.ln_1.bias",
         "transformer.ln_f.bias"),
        ("llama", "AutoModelForCausalLM", "model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight",
         "lm_head.weight"),
        ("llama", "AutoModel", "embed_tokens.weight", "layers.1.self_attn.q_proj.weight", "norm.weight"),
    ],
)  # fmt: skip
def test_depths_go_from_the_embeddings_to_what_lies_behind(
    model_type: str, auto: str, first: str, middle: str, last: str | None
) -> None:
    config = config_of(model_type)
    config.num_hidden_layers, config.tie_word_embeddings = 3, False
    model: Any = getattr(transformers, auto).from_config(config)
    found = depths(name for name, _ in model.named_parameters())
    assert set(found) == {name for name, _ in model.named_parameters()}
    assert found[first] == found[middle.replace(".1.", ".0.")] == 0
    assert found[middle] == 0.5
    assert found[middle.replace(".1.", ".2.")] == 1
    assert last is None or found[last] == 1
    assert {depth for name, depth in found.items() if "embed" in name} <= {0.0}


def test_numbers_within_a_layer_are_no_layers() -> None:
    names = ["layers.0.a", *(f"layers.{at}.experts.{number}.w" for at in (0, 1) for number in range(9)), "out.3"]
    found = depths(names)
    assert [found[name] for name in ("layers.0.a", "layers.0.experts.8.w", "layers.1.experts.0.w", "out.3")] == [
        0,
        0,
        1,
        1,
    ]
    assert depths(["a.weight", "b.weight"]) == {}
    assert depths(["h.0.w", "embeddings.w"]) == {"h.0.w": 1, "embeddings.w": 0}


@pytest.mark.parametrize(
    "then", [SUM, {"method": "ties", "density": 0.5}, {"method": "tsv_m"}], ids=lambda own: own["method"]
)
def test_what_was_merged_of_two_layers_is_scaled(fetched: Path, tmp_path: Path, then: dict[str, Any]) -> None:
    out = merged(fetched, tmp_path / "out", "lines", {**OWN, "then": then}, "strict")
    base, body = open_directory(fetched / "base"), open_directory(out)
    vectors = {task: dict(Checkpoint(fetched / f"task_vectors/{task}.safetensors")) for task in ("one", "two")}
    names = [
        name for name in base if name in vectors["one"] and "pooler" not in name and base[name].is_floating_point()
    ]
    assert any("layer.1." in name for name in names)
    taus = {task: {name: vector[name] for name in names} for task, vector in vectors.items()}
    wanted = METHODS["lines"]({name: base[name] for name in names}, taus, **OWN, then=then)
    for name in names:
        error = (body[name].double() - wanted[name].double()).abs()
        assert float(error.max()) <= 1e-6 * float(wanted[name].abs().max()), name


def test_factors_are_found_whatever_is_merged(tmp_path: Path) -> None:
    base, experts = write_models(tmp_path)
    start, _ = dense(base, experts)
    prepare = merging_methods()["lines"].prepare
    assert prepare is not None
    found = prepare(Inputs(open_directory(base), {}, tuple(SHAPES)), **OWN, then=SUM)
    assert set(found) == set(start)
    with pytest.raises(UserError, match="no parameter's name has the number of a layer"):
        prepare(Inputs(open_directory(base), {}, ("embeddings.word_embeddings.weight",)), **OWN, then=SUM)


def test_an_entry_names_all_that_makes_it(tmp_path: Path) -> None:
    then = {"method": "dare", "drop_rate": 0.5, "then": SUM}
    entry = {"method": "lines", **OWN, "then": then}
    suite = load(tmp_path, edited({"methods/own": entry}))
    modules = [module.rpartition(".")[2] for module in method_modules(suite, "own")]
    assert modules == ["lines", "pruning", "arithmetic"]
    assert suite.methods["own"].options["then"]["then"] == SUM
    options = complete_options(merging_methods()["lines"], {**OWN, "then": then}, ["one"], 0)
    assert scale_of(merging_methods()["lines"], options) == "then.then.scaling"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({**OWN}, "methods.own: key 'then' is missing"),
        ({**OWN, "then": {"method": "fisher"}}, "methods.own.then.method: unknown method 'fisher'"),
        ({**OWN, "alpha": -1, "then": SUM}, "methods.own.alpha: -1 must be at least 0"),
        ({**OWN, "then": SUM, "lora_space": "factor"}, "methods.own: lora_space: factor cannot be scaled by layers"),
    ],
)
def test_a_wrong_entry_is_told_in_one_sentence(entry: dict[str, Any], words: str, tmp_path: Path) -> None:
    refused(tmp_path, edited({"methods/own": {"method": "lines", **entry}}), words)
