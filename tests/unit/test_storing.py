"""Exclusive vectors in each number format: files, sizes, answers, and what is said of damaged files."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from tests.dense_twin import LABELS, DenseLanguageModel, DenseTwin, mixed_batch, router_of
from tests.messages import one_sentence
from tests.tiny import LABELS as TINY
from tests.tiny import config_of
from tests.unit.test_building import texts_of
from twin_merging import TwinModel, UserError, register, twin_merge
from twin_merging.api.export import export
from twin_merging.compression.numbers import GROUP, LARGEST
from twin_merging.io.files import read_json, write_json
from twin_merging.io.tensors import Checkpoint
from twin_merging.model.adapters import AdapterForm, ExclusiveVector
from twin_merging.model.exclusive_files import QUANTISED, STORES, load_vector, save_vector
from twin_merging.model.loading import load_vectors
from twin_merging.reporting.storage import write_storage

SHORT = STORES[1:]
LIKE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


def saved(dense: Any, folder: Path, store: str, **options: Any) -> Any:
    """A model of the format as it is loaded again."""
    router = router_of(config_of("roberta").hidden_size, "embedding" if options.get("onepass") else "last")
    if isinstance(dense, DenseLanguageModel):
        router.tasks = dense.tasks
    record = {"options": {"store": store, "onepass": bool(options.get("onepass"))}}
    dense.twin(router, record=record, **options).save_pretrained(folder)
    return TwinModel.from_pretrained(folder)


def dequantised(dense: Any, folder: Path) -> Any:
    """The same dense model with the exclusive vectors that lie in a folder."""
    own = copy.copy(dense)
    tasks = list(dense.exclusive)
    found = load_vectors(folder, read_json(folder / "merge.json"), tasks)
    own.exclusive = {task: found[task].without_prefix(f"{dense.prefix}.") for task in tasks}
    return own


@pytest.mark.parametrize("store", SHORT)
@pytest.mark.parametrize("protocol", ["reference", "strict"])
def test_a_gated_forward_equals_explicit_merging_of_what_is_stored(protocol: str, store: str, tmp_path: Path) -> None:
    dense = DenseTwin("roberta", protocol, fraction=0.5)
    model = saved(dense, tmp_path, store)
    stored = dequantised(dense, tmp_path)
    batch, weights, tasks = mixed_batch()
    with torch.no_grad():
        found = model(**batch, weights=weights, tasks=tasks).logits
        exact = dense.twin()(**batch, weights=weights, tasks=tasks).logits
        for row, task in enumerate(tasks):
            own = {name: value[row : row + 1] for name, value in batch.items()}
            wanted = stored.explicit(weights[row], task, **own)
            torch.testing.assert_close(found[row, : LABELS[task]], wanted, **LIKE)
    assert not torch.equal(found, exact)
    assert torch.allclose(found, exact, atol={"bfloat16": 0.02, "int8": 0.02, "int4": 0.5}[store])


@pytest.mark.parametrize("store", SHORT)
@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_language_models_tied_embeddings_and_transposed_matrices(model_type: str, store: str, tmp_path: Path) -> None:
    dense = DenseLanguageModel(model_type, 0.5)
    model = saved(dense, tmp_path, store)
    stored = dequantised(dense, tmp_path)
    ids = torch.randint(5, 45, (3, 6), generator=torch.Generator().manual_seed(1))
    weights = torch.tensor([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    with torch.no_grad():
        found = model(ids, weights=weights).logits
        for row in range(3):
            torch.testing.assert_close(found[row], stored.merged(weights[row])(ids[row : row + 1]).logits[0], **LIKE)
        register()
        assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path)(ids, weights=weights).logits, found)
    (names,) = {tuple(sorted(load_file(tmp_path / "exclusive" / task / _file(store)))) for task in dense.tasks}
    assert any("wte" in name or "embed_tokens" in name for name in names)


def _file(store: str) -> str:
    return QUANTISED if store in LARGEST else "adapter_model.safetensors"


@pytest.mark.parametrize("store", STORES)
def test_a_model_that_is_loaded_and_written_again_has_the_same_bytes(store: str, tmp_path: Path) -> None:
    model = saved(DenseTwin("roberta", "strict", fraction=0.5), tmp_path / "one", store, onepass=True)
    model.save_pretrained(tmp_path / "two")
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.safetensors"))
    assert Path("exclusive/a") / _file(store) in files
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    register()
    batch, _, _ = mixed_batch()
    auto = AutoModelForSequenceClassification.from_pretrained(tmp_path / "two")
    with torch.no_grad():
        assert torch.equal(auto(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize("in_factors", [False, True])
def test_each_format_takes_its_share_of_the_bytes(in_factors: bool, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    down, up = torch.randn(16, 512, generator=generator), torch.randn(257, 16, generator=generator)
    ends = (".lora_A", ".lora_B") if in_factors else ("",)
    vector = ExclusiveVector(
        {f"layer.{number}.weight{end}": (down, up) for number in range(8) for end in ends},
        {} if in_factors else {"norm.weight": torch.randn(512, generator=generator)},
    )
    sizes = {}
    for store in STORES:
        save_vector(vector, tmp_path / store, AdapterForm(), store, in_factors)
        sizes[store] = sum(file.stat().st_size for file in (tmp_path / store).glob("*.safetensors"))
        loaded = load_vector(tmp_path / store, store, in_factors)
        assert loaded.factors.keys() == vector.factors.keys()
        assert loaded.vectors.keys() == vector.vectors.keys()
        for name, pair in loaded.factors.items():
            assert [part.dtype for part in pair] == [torch.float32] * 2
            step = {"float32": 0.0, "bfloat16": 2**-8}.get(store, 0.51 / LARGEST.get(store, 1))
            for part, exact in zip(pair, vector.factors[name], strict=True):
                assert (part - exact).abs().max() <= step * exact.abs().max()
    header = 8192
    scales = 2 / GROUP  # bytes of scales for each number
    for store, bytes_each in {"float32": 4, "bfloat16": 2, "int8": 1 + scales, "int4": 0.5 + scales}.items():
        assert sizes[store] == pytest.approx(vector.numbers * bytes_each, abs=header), store


@pytest.mark.parametrize("store", ["float32", "bfloat16"])
def test_peft_loads_the_formats_of_floating_point(store: str, tmp_path: Path) -> None:
    from peft import PeftModel

    dense = DenseTwin("roberta", "reference", fraction=0.25)
    vector = dense.exclusive["b"]
    vector.factors = {name: pair for name, pair in vector.factors.items() if "embeddings" not in name}
    save_vector(vector, tmp_path, AdapterForm.of(dense.body), store, in_factors=False)
    stored = load_vector(tmp_path, store, in_factors=False)
    adapted: Any = PeftModel.from_pretrained(copy.deepcopy(dense.body), str(tmp_path)).eval()
    wanted = copy.deepcopy(dense.body)
    batch, _, _ = mixed_batch()
    with torch.no_grad():
        for name, (down, up) in stored.factors.items():
            wanted.get_parameter(name).add_(up @ down)
        torch.testing.assert_close(adapted(**batch)[0], wanted(**batch)[0], **LIKE)


@pytest.mark.parametrize("form", ["dense", "lora"])
def test_a_fixed_mixture_of_whole_numbers_is_exported_as_a_plain_model_or_a_lora(form: str, tmp_path: Path) -> None:
    dense = DenseTwin("roberta", "strict", fraction=0.5)
    saved(dense, tmp_path / "twin", "int8")
    stored = dequantised(dense, tmp_path / "twin")
    weights = torch.tensor([0.25, 0.75, 0.0])
    out = export(tmp_path / "twin", {"a": 0.25, "b": 0.75}, tmp_path / "out", form=form)
    wanted = stored.merged(weights, "b")
    if form == "dense":
        found: Any = AutoModelForSequenceClassification.from_pretrained(out).eval()
        batch, _, _ = mixed_batch(1)
        with torch.no_grad():
            torch.testing.assert_close(found(**batch).logits, wanted(**batch).logits, **LIKE)
    else:
        down, up = load_vector(out, "float32", in_factors=False).factors["encoder.layer.0.output.dense.weight"]
        change = (
            wanted.base_model.encoder.layer[0].output.dense.weight - dense.body.encoder.layer[0].output.dense.weight
        )
        torch.testing.assert_close(up @ down, change, **LIKE)


# -- the whole way


def build(tiny: Path, output: Path, tasks: list[str], **options: Any) -> Path:
    experts = {task: tiny / "experts" / task for task in tasks}
    return twin_merge(base=tiny / "base", experts=experts, output=output, threads=1, **options)


WAY: dict[str, Any] = {"texts": texts_of(TINY), "router": {"kind": "mahalanobis"}, "fraction": 0.5, "store": "int4"}


@pytest.fixture(scope="module")
def built(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in int4 as it is assembled."""
    return build(tiny, tmp_path_factory.mktemp("built") / "twin", list(TINY), **WAY)


def test_one_call_writes_a_format_whatever_the_order_of_tasks(tiny: Path, built: Path, tmp_path: Path) -> None:
    turned = build(tiny, tmp_path / "turned", list(TINY)[::-1], **WAY)
    assert read_json(built / "merge.json")["options"]["store"] == "int4"
    for task in TINY:
        names = sorted(file.name for file in (built / "exclusive" / task).iterdir())
        assert names == [QUANTISED, "vectors.safetensors"]
        for name in names:
            files = [folder / "exclusive" / task / name for folder in (built, turned)]
            assert files[0].read_bytes() == files[1].read_bytes()
    batch, weights, _ = mixed_batch(4)
    with torch.no_grad():
        one = TwinModel.from_pretrained(built)(**batch, weights=weights[:, :2], tasks=["one"] * 4)
        two = TwinModel.from_pretrained(turned)(**batch, weights=weights[:, :2].flip(1), tasks=["one"] * 4)
    torch.testing.assert_close(one.logits, two.logits, **LIKE)


def test_the_table_of_storage_counts_numbers_and_bytes(tiny: Path, built: Path, tmp_path: Path) -> None:
    experts = {task: tiny / "experts" / task for task in TINY}
    said = {"kind": "dynamic", "store": "int4", "tasks": list(TINY)}
    output = tmp_path / "storage.csv"
    write_storage(tiny / "base", experts, [], {"twin": built}, {"twin": said}, output)
    line = pd.read_csv(output).set_index("model").loc["twin"]
    vectors = load_vectors(built, read_json(built / "merge.json"), list(TINY)).values()
    rest = [file for file in built.rglob("*.safetensors") if "exclusive" not in file.parts]
    numbers = sum(vector.numbers for vector in vectors) + sum(Checkpoint(file).numbers for file in rest)
    ranks = [len(down) for vector in vectors for down, _ in vector.factors.values()]
    assert (line["store"], line["rank"], line["parameters"]) == ("int4", max(ranks), numbers)
    files = (built / "exclusive").rglob("*.safetensors")
    assert line["exclusive_bytes"] == sum(file.stat().st_size for file in files)


def test_weights_that_no_router_gives_need_no_texts(tiny: Path, tmp_path: Path) -> None:
    models: dict[str, Any] = {}
    for weights in ("uniform", "oracle"):
        folder = build(tiny, tmp_path / weights, list(TINY), rank=2, weights=weights)
        assert not (folder / "router" / "metrics.json").exists()
        models[weights] = TwinModel.from_pretrained(folder)
        models[weights].save_pretrained(tmp_path / "again")
        again = tmp_path / "again" / "router"
        assert {file.name: file.read_bytes() for file in again.iterdir()} == {
            file.name: file.read_bytes() for file in (folder / "router").iterdir()
        }
        shutil.rmtree(tmp_path / "again")
    batch, _, _ = mixed_batch(4)
    tasks = ["two", "one", "two", "one"]
    with torch.no_grad():
        for model, wanted in (
            (models["uniform"], torch.full((4, 2), 0.5)),
            (models["oracle"], torch.eye(2)[[1, 0, 1, 0]]),
        ):
            found = model(**batch, tasks=tasks)
            assert torch.equal(found.weights, wanted)
            same = model(**batch, tasks=tasks, weights=wanted)
            assert torch.equal(found.logits, same.logits)
            with pytest.raises(ValueError, match="does not know its inputs' tasks: give tasks, a name a row"):
                model(**batch)
            with pytest.raises(ValueError, match="unknown task 'None'"):
                model(**batch, tasks=[None, *tasks[1:]])
    with pytest.raises(UserError) as caught:
        build(tiny, tmp_path / "none", list(TINY), rank=2, weights="oracle", top_k=1)
    one_sentence(caught.value, "top_k is of a router", "weights: oracle")
    with pytest.raises(UserError) as caught:
        build(tiny, tmp_path / "none", list(TINY), rank=2, weights="router")
    one_sentence(caught.value, "texts: expert 'one' needs two texts or more")


@pytest.mark.parametrize("spec", ["embedding", {"layer": 1}])
def test_a_one_pass_model_of_fixed_weights_keeps_its_first_layers_shared(tiny: Path, tmp_path: Path, spec: Any) -> None:
    folder = build(tiny, tmp_path / "out", list(TINY), fraction=1.0, weights="oracle", onepass=True,
                   router={"features": spec})  # fmt: skip
    model: Any = TwinModel.from_pretrained(folder)
    batch, _, _ = mixed_batch(2)
    with torch.no_grad():
        found = model(**batch, tasks=["one", "one"])
        assert torch.equal(found.logits, model(**batch, tasks=["one", "one"], weights=torch.eye(2)[[0, 0]]).logits)
    stored = load_vectors(folder, model.record, ["one"])["one"]
    assert not any("embeddings" in name for name in stored.factors)


def test_full_rank_and_one_hot_weights_still_give_the_expert(tiny: Path, tmp_path: Path) -> None:
    folder = build(tiny, tmp_path / "out", list(TINY), fraction=1.0, weights="oracle", store="float32")
    model: Any = TwinModel.from_pretrained(folder)
    batch, _, _ = mixed_batch(3)
    for task, labels in TINY.items():
        expert = AutoModelForSequenceClassification.from_pretrained(tiny / "experts" / task).eval()
        with torch.no_grad():
            found = model(**batch, tasks=[task] * 3).logits[:, :labels]
            torch.testing.assert_close(found, expert(**batch).logits, rtol=1e-4, atol=1e-4)


# -- damaged files


def _without(name: str) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors.__delitem__(name)


def _with(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors.update({name: change(tensors[name]).contiguous()})


NAME = "encoder.layer.0.output.dense.weight"
DAMAGES = {
    "missing-scale": (_without(f"{NAME}.up.scales"), f"tensor '{NAME}.up.scales' is missing"),
    "missing-half": (_without(f"{NAME}.up"), f"tensor '{NAME}.up' is missing"),
    "left-over": (_without(f"{NAME}.down"), f"tensor '{NAME}.down.scales' belongs to no matrix"),
    "shape": (_with(f"{NAME}.up", lambda codes: codes[:1]), "has scales that are bfloat16"),
    "rank": (
        lambda tensors: [_with(f"{NAME}.up{end}", lambda part: part[:1])(tensors) for end in ("", ".scales")],
        f"tensor '{NAME}.up' has 1 rows, but '{NAME}.down' 4",
    ),
    "nan": (
        _with(f"{NAME}.down.scales", lambda scales: scales * torch.nan),
        "a scale that is no positive finite number",
    ),
    "dtype": (_with(f"{NAME}.down", lambda codes: codes.view(torch.uint8)), "holds uint8"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_with_the_tensor(damage: str, tmp_path: Path) -> None:
    dense = DenseTwin("roberta", "strict", fraction=0.25)
    form = AdapterForm.of(dense.body)
    save_vector(dense.exclusive["a"], tmp_path, form, "int8", in_factors=False)
    act, message = DAMAGES[damage]
    tensors = load_file(tmp_path / QUANTISED)
    act(tensors)
    save_file(tensors, tmp_path / QUANTISED)
    with pytest.raises(UserError) as caught:
        load_vector(tmp_path, "int8", in_factors=False)
    one_sentence(caught.value, f"{tmp_path / QUANTISED}: ", message, "; assemble the model again")


def test_a_file_of_another_format_or_an_unknown_one_is_named(tmp_path: Path) -> None:
    saved(DenseTwin("roberta", "strict", fraction=0.25), tmp_path, "int8")
    record = read_json(tmp_path / "merge.json")
    for store, words in (
        ("int4", "holds int8"),
        ("float32", "adapter_model.safetensors"),
        ("int2", "unknown store 'int2'"),
    ):
        record["options"]["store"] = store
        write_json(tmp_path / "merge.json", record)
        with pytest.raises(UserError) as caught:
            TwinModel.from_pretrained(tmp_path)
        one_sentence(caught.value, str(tmp_path), words)
