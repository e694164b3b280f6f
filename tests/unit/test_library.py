"""merge() on model directories as they come: what it accepts, what it refuses, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.random_models import SHAPES, write_model, write_models
from twin_merging import merge
from twin_merging.errors import UserError
from twin_merging.io.files import read_json
from twin_merging.io.tensors import WEIGHTS
from twin_merging.io.weights import open_directory

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
        (lambda t: t.pop(f"roberta.{QUERY}"), [f"no tensor '{QUERY}'", "which its architecture has"]),
        (lambda t: t[f"roberta.{QUERY}"].__setitem__((3, 4), torch.nan), [QUERY, "NaN or infinity"]),
        (lambda t: t[f"roberta.{QUERY}"].__setitem__((699, 299), -torch.inf), [QUERY, "NaN or infinity"]),
    ],
    ids=["shape", "missing", "nan", "infinity"],
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


def test_an_expert_of_another_vocabulary_is_named_with_the_remedy(tmp_path: Path) -> None:
    base, experts = write_models(tmp_path / "models")
    tensors = {name.removeprefix("roberta."): tensor for name, tensor in load_file(experts["sst2"] / WEIGHTS).items()}
    other = write_model(tmp_path / "models" / "other", {**tensors, WORDS: torch.zeros(2600, 64)}, "roberta.")
    with pytest.raises(UserError) as error:
        merge("ties", base=base, experts={"other": other}, output=tmp_path / "out", allow_differences=["words"])
    for word in (str(other), WORDS, "2600 rows", "2500 in the base", "vocabularies differ", "resize_token_embeddings"):
        assert word in str(error.value)


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
