"""Fetching a base: any of the usual forms is written in one, and what is wrong stops with one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer

from tests.messages import one_sentence
from tests.originals import (
    Tensors,
    Tiny,
    clones,
    save,
    save_shards,
)
from tests.tiny import WORDS
from twin_merging.errors import UserError
from twin_merging.fetching.models import fetch_base
from twin_merging.io.files import read_json
from twin_merging.io.tensors import PICKLED, WEIGHTS
from twin_merging.io.weights import open_directory

QUERY = "encoder.layer.0.attention.self.query.weight"
IDS = torch.arange(5, 5 + len(WORDS)).reshape(4, 10)


def test_a_base_gets_the_names_of_auto_model_which_loads_it(model: Tiny) -> None:
    loaded, report = AutoModel.from_pretrained(model.base, output_loading_info=True)
    assert not report["unexpected_keys"]
    assert all(name.startswith("pooler.") for name in report["missing_keys"])
    with torch.inference_mode():
        got, wanted = loaded.eval()(IDS).last_hidden_state, model.body(IDS).last_hidden_state
    assert torch.equal(got, wanted)
    assert AutoTokenizer.from_pretrained(model.base)("w1 w2")["input_ids"] == [0, 6, 7, 2]


def test_what_no_classifier_has_is_listed_beside_the_hash_of_every_file(model: Tiny) -> None:
    record = read_json(model.base / "source.json")
    assert record["source"] == {"path": str(model.source)}
    assert {"config.json", WEIGHTS, "tokenizer.json"} <= set(record["files"])
    kept = set(open_directory(model.base))
    pooler = (
        {f"{model.prefix}.pooler.dense.{part}" for part in ("weight", "bias")} if model.kind == "roberta" else set()
    )
    left = {name for name in model.base_tensors if name.startswith(("lm_head.", "cls."))} | pooler
    assert set(record["left_out"]) == left
    assert kept == {n.removeprefix(f"{model.prefix}.") for n in model.base_tensors if n not in left}


@pytest.mark.parametrize("form", ["bare names", "shards", "pickled", "classifier"])
def test_a_base_is_the_same_in_every_form(model: Tiny, tmp_path: Path, form: str) -> None:
    folder = save(tmp_path / "base", model.body.config, with_tokenizer=True)
    if form == "bare names":
        save_file({n: t.clone() for n, t in model.body.state_dict().items()}, folder / WEIGHTS)
    elif form == "shards":
        save_shards(folder, model.base_tensors)
    elif form == "pickled":
        torch.save(model.base_tensors, folder / PICKLED)
    else:
        save_file(
            {**clones(model.base_tensors), "classifier.weight": torch.ones(2, 16), "qa_outputs.bias": torch.ones(2)},
            folder / WEIGHTS,
        )
    fetch_base({"path": str(folder)}, tmp_path / "out")
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (model.base / WEIGHTS).read_bytes()


def test_a_base_without_a_tokenizer_is_refused_and_nothing_is_written(roberta: Tiny, tmp_path: Path) -> None:
    folder = save(tmp_path / "base", roberta.body.config, roberta.base_tensors)
    with pytest.raises(UserError) as caught:
        fetch_base({"path": str(folder)}, tmp_path / "out")
    one_sentence(caught.value, str(folder), "tokenizer")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop(f"roberta.{QUERY}"), ("no tensor", QUERY)),
        (lambda tensors: tensors.update({f"roberta.{QUERY}": torch.zeros(4, 4)}), (QUERY, "[4, 4]", "[16, 16]")),
        (lambda tensors: tensors[f"roberta.{QUERY}"].fill_(float("nan")), (QUERY, "NaN")),
        (lambda tensors: tensors.update({"roberta.extra.weight": torch.zeros(2)}), ("roberta.extra.weight", "fits no")),
    ],
    ids=["missing", "misshapen", "NaN", "foreign"],
)
def test_a_base_with_a_wrong_tensor_is_refused(
    roberta: Tiny, tmp_path: Path, change: Callable[[Tensors], Any], words: tuple[str, ...]
) -> None:
    tensors = clones(roberta.base_tensors)
    change(tensors)
    folder = save(tmp_path / "base", roberta.body.config, tensors, with_tokenizer=True)
    with pytest.raises(UserError) as caught:
        fetch_base({"path": str(folder)}, tmp_path / "out")
    one_sentence(caught.value, str(folder), *words)
    assert not (tmp_path / "out").exists()
