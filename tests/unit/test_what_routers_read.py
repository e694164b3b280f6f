"""What a router reads beside plain hidden states: two texts apart, n-grams of raw text, the base's first layers."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.routing import SETTINGS
from tests.tiny import WORDS, tokenizer
from tests.unit.test_building import language_models, texts_of
from twin_merging import TwinModel, UserError, twin_merge
from twin_merging.io.files import read_json, sha256
from twin_merging.io.tensors import Checkpoint, save_tensors
from twin_merging.model.loading import load_body
from twin_merging.routing.features import features_of
from twin_merging.routing.kinds import build_router
from twin_merging.routing.layers import features_name, features_named, normal_form, of_one_body
from twin_merging.routing.ngrams import BUCKETS, bucket_of, counts_of, ngrams_of
from twin_merging.routing.raw_texts import packed, stored_as, unpacked
from twin_merging.routing.read_features import cross_fitted, trained
from twin_merging.routing.reading import ngram_logits
from twin_merging.routing.segments import MARKS, apart, marks_of, masks
from twin_merging.routing.training import make_router

TASKS = ["a", "b", "c"]
ALL = {"of": "base", "layer": 1, "segments": True, "text": True}
PAIRS = [("w1 w2", "w3"), ("w4", ""), ("w5 w6 w7", "w8 w9")]


@pytest.mark.parametrize(
    ("features", "name"),
    [
        ({"of": "base"}, "base-last"),
        ({"of": "shared", "layer": 0, "text": False}, "embedding"),
        ({"of": "base", "layer": 0}, "base-embedding"),
        ({"layers": [2, 0], "segments": True}, "layers-0-2-segments"),
        (ALL, "base-layer-1-segments-text"),
        ({"text": True}, "last-text"),
    ],
)
def test_a_name_stands_for_its_features(features: Any, name: str) -> None:
    assert features_name(features) == name
    assert features_named(name) == normal_form(features)
    assert features_name(of_one_body(features)) == name.removeprefix("base-")


def test_hashes_of_ngrams_are_the_same_everywhere() -> None:
    assert list(ngrams_of("Ab c")) == ["wAb", "wc", "vAb c", "cAb", "cb ", "c c", "cAb ", "cb c", "cAb c"]
    found = {ngram: bucket_of(ngram) for ngram in ("wAb", "wab", "vAb c", "cb ", "c\u00e9\u00e9", "w\ud800")}
    wanted = {"wAb": 10072, "wab": 1018, "vAb c": 34615, "cb ": 31529, "c\u00e9\u00e9": 4949, "w\ud800": 43908}
    assert found == wanted
    assert BUCKETS == 2**16


def test_counts_are_those_of_a_loop() -> None:
    rows = [("to be or", "to be"), "", "a"]
    counts = counts_of(rows)
    assert counts.starts.tolist()[0] == 0
    assert len(counts.buckets) == len(counts.weights)
    every: dict[int, int] = {}
    for number, text in enumerate(rows[0]):
        for ngram in ngrams_of(text):
            bucket = bucket_of(ngram, number)
            every[bucket] = every.get(bucket, 0) + 1
    assert bucket_of("wto", 0) != bucket_of("wto", 1)
    norm = math.sqrt(sum((1 + math.log(count)) ** 2 for count in every.values()))
    size = len(every)
    first = dict(zip(counts.buckets[:size].tolist(), counts.weights[:size].tolist(), strict=True))
    for bucket, count in every.items():
        assert first[bucket] == pytest.approx((1 + math.log(count)) / norm, rel=1e-6)
    assert counts.starts.tolist() == [0, size, size], "an empty text has no n-grams"
    some = counts.rows(torch.tensor([2, 1, 0]))
    assert some.starts.tolist() == [0, 1, 1]
    assert some.buckets.tolist() == [bucket_of("wa"), *every]
    weight, bias = torch.randn(BUCKETS, 2), torch.randn(2)
    wanted = sum(value * weight[bucket] for bucket, value in first.items()) + bias
    found = ngram_logits(weight, bias, counts)
    torch.testing.assert_close(found[0], wanted)
    assert torch.equal(found[1], bias)


def test_two_texts_are_told_apart_by_their_ids() -> None:
    own = tokenizer()
    marks = marks_of(own)
    assert marks.tolist() == [2, 0, 1]
    batch = own([a for a, _ in PAIRS], [b for _, b in PAIRS], padding=True, return_tensors="pt")
    hidden = torch.randn(*batch["input_ids"].shape, 3)
    found = apart([hidden], masks(batch["input_ids"], batch["attention_mask"], marks))
    for row, pair in enumerate(PAIRS):
        lengths = [len(own(text, add_special_tokens=False)["input_ids"]) for text in pair]
        first = hidden[row, 1 : 1 + lengths[0]].mean(0)
        start = 3 + lengths[0]  # <s> A </s> </s> B </s>
        second = hidden[row, start : start + lengths[1]].mean(0) if lengths[1] else torch.zeros(3)
        sizes = torch.tensor([math.log1p(length) for length in lengths])
        wanted = torch.cat([first, second, (first - second).abs(), first * second, sizes])
        torch.testing.assert_close(found[row], wanted)
    alone = own("w1 w2", return_tensors="pt")
    _, second = masks(alone["input_ids"], alone["attention_mask"], marks)
    assert not second.any()


def test_a_tokenizer_without_a_separator_is_one_sentence() -> None:
    own = tokenizer()
    own.sep_token = own.eos_token = None
    with pytest.raises(UserError, match=r"puts no separator between two texts.*leave segments out of router\.features"):
        marks_of(own)


def texts(task: int, rows: int, seed: int) -> list[list[str]]:
    generator = torch.Generator().manual_seed(100 * task + seed)
    words = [WORDS[int(n)] for n in torch.randint(10 * task, 10 * task + 20, (rows * 4,), generator=generator)]
    return [[" ".join(words[4 * row : 4 * row + 4])] for row in range(rows)]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of three tasks that say little, and texts that say more."""
    generator, found = torch.Generator().manual_seed(0), {MARKS: torch.tensor([2, 0, 1])}
    for number, task in enumerate(TASKS):
        for seed, (split, rows) in enumerate((("train", 40), ("validation", 20))):
            found[f"{task}/{split}"] = 5 + 0.3 * number + torch.randn(rows, 6, generator=generator)
            found[stored_as(task, split)] = packed(texts(number, rows, seed))
    path = tmp_path_factory.mktemp("read") / "features.safetensors"
    save_tensors(path, found)
    return path


@pytest.mark.parametrize("beside", ["segments", "text"])
@pytest.mark.parametrize("kind", ["mlp", "mahalanobis", "neighbours"])
def test_every_kind_of_router_reads_all_features(kind: str, beside: str, file: Path, tmp_path: Path) -> None:
    settings = {**SETTINGS[kind], "features": normal_form({"layer": 1, beside: True})}
    for name in ("one", "two"):
        make_router(
            features=file, tasks=TASKS, settings=settings, seed=0, output=tmp_path / name, metrics=tmp_path / "metrics"
        )
    assert sha256(tmp_path / "one") == sha256(tmp_path / "two")
    router = build_router(settings, TASKS, Checkpoint(tmp_path / "one"))
    router.save(tmp_path / "saved")
    again = build_router(
        read_json(tmp_path / "saved/config.json"), TASKS, Checkpoint(tmp_path / "saved/model.safetensors")
    )
    stored, right = Checkpoint(file), []
    for number, task in enumerate(TASKS):
        raw = unpacked(stored[stored_as(task, "validation")])
        found = router.weights(router.read(stored[f"{task}/validation"], raw))
        assert torch.equal(found, again.weights(again.read(stored[f"{task}/validation"], raw)))
        right.append((found.argmax(-1) == number).double().mean())
    metrics = read_json(tmp_path / "metrics")
    assert metrics["held_out_accuracy"] == pytest.approx(float(torch.stack(right).mean()))
    assert router.reads_text == (beside == "text")
    assert (router.marks is None) == (beside == "text")
    if beside == "text":
        assert metrics["ngrams_accuracy"] > 0.8, "the texts say which task it is"
        assert kind == "mlp" or metrics["held_out_accuracy"] > 0.6
        with pytest.raises(ValueError, match="reads raw text: give texts"):
            router.read(stored["a/validation"])
        with pytest.raises(ValueError, match="1 texts for 20 rows"):
            router.read(stored["a/validation"], ["w1"])


def test_what_ngrams_say_of_a_train_row_comes_from_a_layer_without_it() -> None:
    rows = counts_of([row for number in range(3) for row in texts(number, 12, 0)])
    y = torch.arange(3).repeat_interleave(12)
    said, layer = cross_fitted(rows, y, 3)
    torch.testing.assert_close(layer[0], trained(rows, y, torch.arange(36), 3)[0])
    inside = torch.tensor([row for row in range(36) if row % 12 % 4 != 1])
    other = ngram_logits(*trained(rows, y, inside, 3), rows)
    torch.testing.assert_close(said[[1, 5, 13, 33]], other[[1, 5, 13, 33]])


def merged(tiny: Path, folder: Path, features: Any, **options: Any) -> Path:
    given: dict[str, Any] = {
        "one": [row[0] for row in texts(0, 30, 0)],
        "two": [(row[0], "w1 w2") for row in texts(1, 30, 0)],
    }
    return twin_merge(
        base=tiny / "base",
        experts={task: tiny / "experts" / task for task in given},
        texts=given,
        output=folder,
        rank=2,
        router={"features": features, "kind": "mahalanobis"},
        **options,
    )


def test_a_saved_model_reads_the_base_and_stands_alone(tiny: Path, tmp_path: Path) -> None:
    for name in ("base", "experts"):
        shutil.copytree(tiny / name, tmp_path / "inputs" / name)
    output = merged(tmp_path / "inputs", tmp_path / "out", ALL)
    base = load_body(tmp_path / "inputs/base")
    shutil.rmtree(tmp_path / "inputs")
    stored = Checkpoint(output / "router/base/model.safetensors")
    assert not any(".layer.1." in name or name.startswith("pooler") for name in stored)
    assert any(".layer.0." in name for name in stored)
    model: Any = TwinModel.from_pretrained(output)
    own = tokenizer()
    batch = own(["w1 w2 w3", "w4"], ["w5", "w6 w7"], padding=True, return_tensors="pt")
    given = [("w1 w2 w3", "w5"), ("w4", "w6 w7")]
    with torch.no_grad():
        hidden = features_of(base, {"layer": 1, "segments": True}, marks=model.router.marks, **batch)
        wanted = model.router.weights(model.router.read(hidden, given))
        output_of_batch = model(**batch, texts=given)
    torch.testing.assert_close(output_of_batch.weights, wanted)
    with pytest.raises(ValueError, match="reads raw text: give texts"):
        model(**batch)
    assert model(**batch, weights=wanted).logits.shape == output_of_batch.logits.shape
    model.save_pretrained(tmp_path / "again")
    again: Any = TwinModel.from_pretrained(tmp_path / "again")
    assert torch.equal(again(**batch, texts=given).logits, output_of_batch.logits)
    assert sha256(tmp_path / "again/router/base/model.safetensors") == sha256(output / "router/base/model.safetensors")


def test_what_the_shared_expert_has_from_the_base_is_not_stored_again(tiny: Path, tmp_path: Path) -> None:
    output = merged(tiny, tmp_path / "out", {"of": "base", "layer": 1}, protocol="reference")
    stored = Checkpoint(output / "router/base/model.safetensors")
    assert stored
    assert not any(name.endswith("bias") for name in stored)
    model: Any = TwinModel.from_pretrained(output)
    name = "encoder.layer.0.output.dense.bias"
    assert model.reader.get_parameter(name) is model.body.get_parameter(name)
    batch = tokenizer()(["w1 w2 w3", "w4"], padding=True, return_tensors="pt")
    wanted = features_of(load_body(tiny / "base"), {"layer": 1}, **batch)
    torch.testing.assert_close(model.route(**batch), model.router.weights(wanted))


def test_a_one_pass_model_reads_segments_and_text_on_its_way(tiny: Path, tmp_path: Path) -> None:
    features = {"layer": 1, "segments": True, "text": True}
    output = merged(tiny, tmp_path / "out", features, onepass=True)
    model: Any = TwinModel.from_pretrained(output)
    batch = tokenizer()(["w1 w2 w3", "w4"], ["w5", "w6 w7"], padding=True, return_tensors="pt")
    given = [("w1 w2 w3", "w5"), ("w4", "w6 w7")]
    torch.testing.assert_close(model(**batch, texts=given).weights, model.route(**batch, texts=given))
    with pytest.raises(UserError, match="onepass: its router must read the shared expert"):
        merged(tiny, tmp_path / "no", ALL, onepass=True)


@pytest.mark.parametrize("model_type", ["gpt2", "qwen2"])
def test_a_language_models_router_reads_the_base(model_type: str, tmp_path: Path) -> None:
    base, experts, _ = language_models(model_type, tmp_path, tied=True)
    given = texts_of(experts)
    options: dict[str, Any] = {"base": base, "experts": experts, "texts": given, "rank": 2}
    output = twin_merge(
        **options, output=tmp_path / "out", router={"features": {"of": "base", "layer": 1}, "epochs": 2}
    )
    model: Any = TwinModel.from_pretrained(output)
    batch = tokenizer()(["w1 w2 w3", "w4 w5 w6"], return_tensors="pt", return_token_type_ids=False)
    wanted = model.router.weights(features_of(load_body(base), {"layer": 1}, **batch))
    torch.testing.assert_close(model.route(**batch), wanted)
    with pytest.raises(UserError, match=r"router\.features: text is for classifiers"):
        twin_merge(**options, output=tmp_path / "no", router={"features": {"text": True}})


@pytest.mark.parametrize("name", ["reading.centre", "reading.marks", "reading.ngrams"])
def test_a_router_without_what_it_reads_by_is_one_sentence(name: str, file: Path, tmp_path: Path) -> None:
    settings = {"kind": "mahalanobis", "features": {"layer": 1, "segments": True, "text": True}}
    make_router(features=file, tasks=TASKS, settings=settings, seed=0, output=tmp_path / "r", metrics=tmp_path / "m")
    state = dict(Checkpoint(tmp_path / "r"))
    missing = {key: value for key, value in state.items() if key != name}
    with pytest.raises(UserError, match=f"tensor '{name}' is missing; make the router again"):
        build_router(settings, TASKS, missing)
    if name == "reading.ngrams":
        with pytest.raises(UserError, match=r"'reading.ngrams' has shape \(65536, 3\), but 2 tasks need \(65536, 2\)"):
            build_router(settings, TASKS[:2], state)
