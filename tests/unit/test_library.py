"""merge() on model directories as they come: what it accepts, what it refuses, and in which words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.random_models import BUFFER, SHAPES, write_model, write_models
from twin_merging import merge
from twin_merging.errors import UserError
from twin_merging.io.files import read_json
from twin_merging.io.tensors import WEIGHTS, Checkpoint, open_directory

QUERY = "encoder.layer.0.attention.self.query.weight"
WORDS = "embeddings.word_embeddings.weight"


def change(directory: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Edit a model's tensors in place."""
    tensors = load_file(directory / WEIGHTS)
    edit(tensors)
    save_file(tensors, directory / WEIGHTS, {"format": "pt"})


def test_mixed_types_are_summed_in_fp32_and_written_in_the_bases(tmp_path: Path) -> None:
    types = {"base": torch.bfloat16, "cola": torch.float16, "sst2": torch.float32, "mnli": torch.bfloat16}
    base, experts = write_models(tmp_path, types)
    out = merge("task_arithmetic", base=base, experts=experts, output=tmp_path / "out", scaling=0.5)
    start, body = open_directory(base), open_directory(out)
    for name in SHAPES:
        taus = [
            open_directory(experts[task])[f"roberta.{name}"].float() - start[name].float()
            for task in sorted(types)
            if task != "base"
        ]
        wanted = start[name].float()
        for tau in taus:
            wanted = wanted + 0.5 * tau
        assert body.dtype(name) == torch.bfloat16
        torch.testing.assert_close(body[name], wanted.to(torch.bfloat16), rtol=0, atol=1e-2)
        assert (body[name] == wanted.to(torch.bfloat16)).float().mean() > 0.999


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda t: t.__setitem__(f"roberta.{QUERY}", torch.zeros(700, 301)), ["[700, 301]", "[700, 300]", QUERY]),
        (lambda t: t.pop(f"roberta.{QUERY}"), [f"no tensor '{QUERY}'", "which the base has"]),
        (lambda t: t[f"roberta.{QUERY}"].__setitem__((3, 4), torch.nan), [QUERY, "NaN or infinity"]),
        (lambda t: t[f"roberta.{QUERY}"].__setitem__((699, 299), -torch.inf), [QUERY, "NaN or infinity"]),
        (
            lambda t: t.__setitem__(f"roberta.{WORDS}", torch.zeros(2600, 64)),
            [WORDS, "2600 rows", "2500 in the base", "vocabularies differ", "resize_token_embeddings"],
        ),
    ],
    ids=["shape", "missing", "nan", "infinity", "vocabulary"],
)
@pytest.mark.parametrize("method", ["weight_average", "ties", "breadcrumbs", "tsv_m"])
def test_an_expert_that_does_not_fit_is_named_with_the_tensor(
    tmp_path: Path, edit: Callable[[Any], Any], words: list[str], method: str
) -> None:
    base, experts = write_models(tmp_path / "models")
    change(experts["sst2"], edit)
    with pytest.raises(UserError) as error:
        merge(method, base=base, experts=experts, output=tmp_path / "out", threads=2)
    assert str(experts["sst2"]) in str(error.value)
    assert all(word in str(error.value) for word in words), error.value
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_a_base_with_nan_is_named_as_the_base(tmp_path: Path) -> None:
    base, experts = write_models(tmp_path / "models")
    change(base, lambda tensors: tensors[QUERY].fill_(torch.nan))
    with pytest.raises(UserError, match=rf"base: tensor '{QUERY}' holds NaN or infinity"):
        merge("weight_average", base=base, experts=experts, output=tmp_path / "out")


def test_a_result_that_overflows_the_bases_type_is_refused(tmp_path: Path) -> None:
    base, experts = write_models(tmp_path / "models", {"base": torch.float16})
    with pytest.raises(UserError, match=r"does not fit float16, the base's type; lower the scaling"):
        merge("task_arithmetic", base=base, experts=experts, output=tmp_path / "out", scaling=1e7)
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_truncated_foreign_and_missing_files_are_named(tmp_path: Path) -> None:
    base, experts = write_models(tmp_path / "models")
    whole = (experts["cola"] / WEIGHTS).read_bytes()
    (experts["cola"] / WEIGHTS).write_bytes(whole[:-10])
    with pytest.raises(UserError, match=r"cola/model\.safetensors: not a whole safetensors file"):
        merge("ties", base=base, experts=experts, output=tmp_path / "out")
    (experts["cola"] / WEIGHTS).unlink()
    with pytest.raises(UserError, match=r"cola: no model\.safetensors"):
        merge("ties", base=base, experts=experts, output=tmp_path / "out")
    (base / "config.json").unlink()
    with pytest.raises(UserError, match=r"base: no config\.json"):
        merge("ties", base=base, experts=experts, output=tmp_path / "out")


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("tiess", {}, "method: unknown method 'tiess' (did you mean 'ties'?)"),
        ("twin", {}, "method: 'twin' needs a router; make it with twin_merge, or with the workflow"),
        ("ties", {"densty": 0.2}, "unknown key 'densty' (did you mean 'density'?)"),
        ("ties", {"elect": "most"}, "elect: unknown value 'most'"),
        ("dare", {}, "key 'drop_rate' is missing"),
        ("dare", {"drop_rate": 1, "then": {"method": "ties"}}, "drop_rate: 1 must be less than 1"),
        ("dare", {"drop_rate": 0.5, "then": {"method": "wudi"}}, "then.method: unknown method 'wudi'"),
        ("dare", {"drop_rate": 0.5, "then": {"density": 1}}, "then: key 'method' is missing"),
        ("dare", {"drop_rate": 0.5, "then": {"method": "ties", "density": 3}}, "then.density: 3 must be at most 1"),
        ("della", {"density": 0.1, "epsilon": 0.1}, "density - epsilon must be more than 0"),
        ("della", {"density": 0.9, "epsilon": 0.1}, "density + epsilon less than 1"),
        ("breadcrumbs", {"density": 0.9, "gamma": 0.2}, "density 0.9 and gamma 0.2 sum to more than 1"),
        ("slerp", {}, "slerp merges two experts, not 3 (cola, mnli, sst2)"),
        ("weight_average", {"weights": {"cola": 1, "sst2": -1, "mnli": 0}}, "the weights sum to 0"),
        ("weight_average", {"weights": {"cola": 1}}, "weights: no value for task 'mnli'"),
        ("task_arithmetic", {"scaling": {"col": 1}}, "scaling: unknown task 'col' (did you mean 'cola'?)"),
        ("task_arithmetic", {"lora_space": "factor"}, "lora_space: factor is for LoRA experts, but no expert is one"),
        ("task_arithmetic", {"protocol": "loose"}, "protocol: unknown protocol 'loose'"),
        ("fisher", {}, "statistics: fisher needs training statistics of each expert"),
        ("ties", {"statistics": {"cola": "x"}}, "statistics: ties takes no training statistics"),
        ("regmean", {"statistics": {"cola": "x"}}, "statistics: none for expert 'mnli'"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, method: str, options: dict[str, Any], message: str
) -> None:
    base, experts = write_models(tmp_path / "models")
    with pytest.raises(UserError) as error:
        merge(method, base=base, experts=experts, output=tmp_path / "out", **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_an_output_is_never_replaced_unasked_and_what_is_no_merged_model_never(tmp_path: Path) -> None:
    base, experts = write_models(tmp_path / "models")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="precious: exists and is no merged model"):
        merge("ties", base=base, experts=experts, output=precious, overwrite=True)
    assert (precious / "thesis.txt").read_text() == "mine"
    (tmp_path / "out").mkdir()
    out = merge("ties", base=base, experts=experts, output=tmp_path / "out")
    with pytest.raises(UserError, match="out: holds a merged model"):
        merge("task_arithmetic", base=base, experts=experts, output=out)
    merge("task_arithmetic", base=base, experts=experts, output=out, overwrite=True)
    assert read_json(out / "merge.json")["method"] == "task_arithmetic"


def test_the_record_tells_method_options_and_the_hash_of_every_file(tmp_path: Path) -> None:
    base, experts = write_models(tmp_path / "models", shards=2)
    out = merge("ties", base=base, experts=experts, output=tmp_path / "out", density=0.3)
    record = read_json(out / "merge.json")
    assert (record["method"], record["protocol"], record["options"]["density"]) == ("ties", "strict", 0.3)
    assert list(record["tasks"]) == ["cola", "mnli", "sst2"]
    files = [f"{place}/model-0000{n}-of-00002.safetensors" for place in ("base", "experts/cola") for n in (1, 2)]
    assert set(files) < set(record["inputs"])
    assert all(len(entry["sha256"]) == 64 for entry in record["inputs"].values())
    quick = merge("ties", base=base, experts=experts, output=tmp_path / "quick", record_hashes=False)
    assert {entry["sha256"] for entry in read_json(quick / "merge.json")["inputs"].values()} == {None}


def test_pretraining_heads_of_the_base_are_left_out_and_its_pooler_where_experts_have_none(tmp_path: Path) -> None:
    base, experts = write_models(tmp_path / "models")
    extra = {"lm_head.dense.weight": torch.ones(4, 4), "pooler.dense.weight": torch.ones(4, 4)}
    change(base, lambda tensors: tensors.update(extra))
    out = merge("weight_average", base=base, experts=experts, output=tmp_path / "out")
    assert set(open_directory(out)) == {*SHAPES, BUFFER}


def test_a_base_that_has_a_head_of_the_experts_names_keeps_it_and_so_does_each_expert(tmp_path: Path) -> None:
    base, experts = write_models(tmp_path / "models")
    change(
        base, lambda tensors: tensors.update({"classifier.weight": torch.ones(5, 64), "classifier.bias": torch.ones(5)})
    )
    out = merge("weight_average", base=base, experts=experts, output=tmp_path / "out")
    assert torch.equal(open_directory(out)["classifier.weight"], torch.ones(5, 64))
    assert Checkpoint(out / "private" / "mnli.safetensors").shape("classifier.weight") == (3, 64)


def language_model(folder: Path, seed: int, tied_copy: bool, tie: bool = True) -> Path:
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        "model.embed_tokens.weight": torch.randn(50, 8, generator=generator),
        "model.layers.0.self_attn.q_proj.weight": torch.randn(8, 8, generator=generator),
        "model.norm.weight": torch.randn(8, generator=generator),
    }
    if tied_copy:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    elif not tie:
        tensors["lm_head.weight"] = torch.randn(50, 8, generator=generator)
    write_model(folder, tensors)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "tie_word_embeddings": tie}))
    return folder


def test_a_tied_copy_of_the_embedding_is_merged_once_wherever_it_is_stored(tmp_path: Path) -> None:
    plain = language_model(tmp_path / "base", 0, tied_copy=False)
    copied = language_model(tmp_path / "base-with-copy", 0, tied_copy=True)
    experts = {"a": language_model(tmp_path / "a", 1, tied_copy=True), "b": language_model(tmp_path / "b", 2, False)}
    for number, base in enumerate((plain, copied)):
        out = merge("weight_average", base=base, experts=experts, output=tmp_path / f"out{number}")
        assert "lm_head.weight" not in open_directory(out)
        assert all(len(Checkpoint(out / "private" / f"{name}.safetensors")) == 0 for name in experts)


def test_an_output_layer_that_is_not_tied_is_merged(tmp_path: Path) -> None:
    base = language_model(tmp_path / "base", 0, tied_copy=False, tie=False)
    experts = {name: language_model(tmp_path / name, seed, False, tie=False) for seed, name in enumerate("ab", 1)}
    out = merge("weight_average", base=base, experts=experts, output=tmp_path / "out")
    wanted = sum(open_directory(path)["lm_head.weight"] for path in experts.values()) / 2
    torch.testing.assert_close(open_directory(out)["lm_head.weight"], wanted)
