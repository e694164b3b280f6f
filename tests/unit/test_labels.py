"""Labels are numbers in one order: as rows write them, and as an expert's configuration names them."""

from __future__ import annotations

import itertools
import json
import logging
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.fake_hub import FakeHub, used_here
from tests.messages import one_sentence
from tests.originals import Tiny, save
from tests.tiny import WORDS, classifier, config_of, expert_of
from twin_merging.checkpoints.adapters import ADAPTER
from twin_merging.checkpoints.experts import Expert
from twin_merging.checkpoints.kinds import Classifier, LanguageModel
from twin_merging.checkpoints.label_names import comparable, named, names_of, order_of, read_names
from twin_merging.checkpoints.labels import agreed, label_axes
from twin_merging.errors import UserError
from twin_merging.fetching.data import fetch_data
from twin_merging.fetching.models import fetch_adapter, fetch_expert
from twin_merging.io.files import read_json
from twin_merging.io.tensors import Checkpoint
from twin_merging.io.validation import validate
from twin_merging.io.weights import open_directory
from twin_merging.suite.models import EncoderTask
from twin_merging.tasks.classification import Labelled

NAMES = ("positive", "neutral", "negative")
IDS = torch.arange(5, 5 + len(WORDS)).reshape(4, 10)


def fetched(folder: Path, labels: list[Any], task: Labelled, features: datasets.Features | None = None) -> list[Any]:
    """The labels that a fetch writes of rows with these."""
    (folder / "data").mkdir(parents=True)
    rows = {"sentence": [f"w{number}" for number in range(len(labels))], "label": labels}
    for split in ("train", "validation", "test"):
        file = folder / "data" / f"{split}.{'parquet' if features else 'jsonl'}"
        if features:
            datasets.Dataset.from_dict(rows, features=features).to_parquet(str(file))
        else:
            file.write_text(
                "\n".join(json.dumps(dict(zip(rows, row, strict=True))) for row in zip(*rows.values(), strict=True))
            )
    fetch_data({"path": str(folder / "data")}, task, folder / "out")
    return pd.read_parquet(folder / "out" / "train.parquet")["label"].tolist()


def of(labels: int, *names: str) -> Labelled:
    return Labelled(text=("sentence",), labels=labels, **({"label_names": names} if names else {}))


@pytest.mark.parametrize(
    ("labels", "task", "wanted"),
    [
        (["2", "0", "1"], of(3), [2, 0, 1]),
        (["1.0", " 0 ", "1."], of(2), [1, 0, 1]),
        ([2.0, 1, "0"], of(3), [2, 1, 0]),
        ([False, True, True], of(2), [0, 1, 1]),
        (["true", "False", "TRUE"], of(2), [1, 0, 1]),
        (["negative", "Positive", "NEUTRAL"], of(3, *NAMES), [2, 0, 1]),
        (["2", "0", "1"], of(3, *NAMES), [2, 0, 1]),
        ([2, 0, 1], of(3, *NAMES), [2, 0, 1]),
        (["not equivalent", "Equivalent"], of(2, "equivalent", "not_equivalent"), [1, 0]),
        (["5", "1", "3"], of(3, "1", "3", "5"), [2, 0, 1]),
        (["-1", "1", "0"], of(3, "-1", "0", "1"), [0, 2, 1]),
        (["-", "+"], of(2, "+", "-"), [1, 0]),
        (["NA", "null"], of(2, "null", "NA"), [1, 0]),
    ],
)  # fmt: skip
def test_labels_become_the_numbers_that_they_stand_for(
    tmp_path: Path, labels: list[Any], task: Labelled, wanted: list[int]
) -> None:
    found = fetched(tmp_path, labels, task)
    assert found == wanted
    assert all(type(label) is int for label in found)
    assert read_names([tmp_path / "out" / "label_names.json"]) == task.label_names


@pytest.mark.parametrize(
    ("labels", "task", "words"),
    [
        (["0", "2"], of(2), ('row 1 has label "2"', "text for 2", "labels: 2 allows 0 to 1")),
        (["spam", "ham"], of(2), ('row 0 has label "spam"', "which is text", "label_names")),
        (["0", "ham"], of(2), ('row 1 has label "ham"', "which is text", "label_names")),
        (["neutral", "mixed"], of(3, *NAMES), ('row 1 has label "mixed"', "none of the labels' names", "positive")),
        (["neutral", "1"], of(3, *NAMES), ('row 1 has label "1"', "none of the labels' names")),
        (["1", "2"], of(3, "1", "3", "5"), ('row 1 has label "2"', "1, 3, 5")),
        ([0, 0.25], of(2), ("row 1 has label 0.25",)),
        ([0, -1], of(2), ("row 1 has label -1", "allows 0 to 1")),
        ([0, None], of(2), ("row 1 has no value in column 'label'",)),
        ([0, ""], of(2), ("row 1 has no value in column 'label'",)),
        ([0, [1]], of(2), ("row 1 has label [1]",)),
        ([0, 10**30], of(2), ("row 1 has label 1000",)),
        ([1.5, "high"], of(1), ('row 1 has label "high"', "text and no number", "regression")),
        ([1.5, float("inf")], of(1), ("row 1 has label inf", "finite numbers")),
        ([1.5, {"x": 1}], of(1), ("row 1 has label {'x': 1}", "finite numbers")),
    ],
)
def test_a_label_that_stands_for_no_number_is_refused(
    tmp_path: Path, labels: list[Any], task: Labelled, words: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as caught:
        fetched(tmp_path, labels, task)
    one_sentence(caught.value, "train.jsonl, split 'train'", *words)


def test_the_values_of_a_regression_may_be_written_as_text(tmp_path: Path) -> None:
    assert fetched(tmp_path, ["1.5", -2, "1e1", 0.1], of(1)) == [1.5, -2.0, 10.0, 0.1]


def features(*names: str) -> datasets.Features:
    return datasets.Features({"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=list(names))})


@pytest.mark.parametrize(
    ("data", "suite", "wanted"),
    [
        (NAMES, (), NAMES),
        (NAMES, NAMES, NAMES),
        (("0", "1", "2"), (), None),
        (("LABEL_0", "LABEL_1", "LABEL_2"), NAMES, NAMES),
        (NAMES, ("good", "so-so", "bad"), ("good", "so-so", "bad")),
        (NAMES, ("POSITIVE", "Neutral", "Negative"), ("POSITIVE", "Neutral", "Negative")),
    ],
    ids=["data", "both", "numbers", "suite", "other words", "other letters"],
)
def test_the_names_of_the_labels_are_kept_beside_the_rows(
    tmp_path: Path, data: tuple[str, ...], suite: tuple[str, ...], wanted: tuple[str, ...] | None
) -> None:
    assert fetched(tmp_path, [0, 2, 1], of(3, *suite), features(*data)) == [0, 2, 1]
    assert read_names([tmp_path / "out" / "label_names.json"]) == wanted


FEATURES = """---
dataset_info:
  features:
  - {name: sentence, dtype: string}
  - name: label
    dtype: {class_label: {names: {'0': positive, '1': neutral, '2': negative}}}
---
"""


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_the_names_that_a_data_set_of_the_hub_states_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "README.md").write_text(FEATURES)
    labels = [0, 2, 1] if form == "parquet" else ["positive", "Negative", "neutral"]
    rows = datasets.Dataset.from_dict({"sentence": ["1", "2", "NA"], "label": labels})
    for split in ("train", "validation", "test"):
        file = str(folder / f"{split}.{form}")
        {"parquet": rows.to_parquet, "csv": rows.to_csv, "jsonl": rows.to_json}[form](file)
    served = FakeHub()
    served.add("own/named", folder, "datasets")
    with used_here(served, tmp_path / "cache", monkeypatch):
        fetch_data({"hub": {"repo": "own/named", "revision": "main"}}, of(3), tmp_path / "out")
    found = pd.read_parquet(tmp_path / "out" / "test.parquet")
    assert found.to_dict("list") == {"sentence": ["1", "2", "NA"], "label": [0, 2, 1]}
    assert read_names([tmp_path / "out" / "label_names.json"]) == NAMES


def test_a_suite_cannot_put_the_data_s_names_in_another_order(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        fetched(tmp_path, [0, 1, 2], of(3, "negative", "neutral", "positive"), features(*NAMES))
    one_sentence(caught.value, "positive, neutral, negative", "negative, neutral, positive", "remove label_names")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a", "b"], "2 names for labels: 3"),
        (["a", "b", "A"], "two names are the same"),
        (["a"], "label_names"),
        ("a", "label_names"),
        (["a", 1, "c"], "label_names"),
    ],
)
def test_a_suite_names_each_label_once(names: Any, words: str) -> None:
    entry = {"data": {"path": "d"}, "labels": 3, "metric": "accuracy", "expert": {"path": "e"}, "label_names": names}
    with pytest.raises(ValueError, match="label_names") as caught:
        validate(EncoderTask, entry)
    assert words in str(caught.value)


# -- names


def test_names_are_the_same_but_for_case_and_separators() -> None:
    assert comparable("Not_Equivalent") == comparable("not equivalent") == comparable("NOT-EQUIVALENT")
    assert len({comparable(name) for name in ("-1", "1", "+1", "+", "-", "0-10", "010", "a/b", "ab")}) == 9
    assert order_of(("b", "A", "c d"), ("a", "B", "C_D")) == [1, 0, 2]
    assert order_of(("a", "b"), ("a", "c")) is None
    assert order_of(("a", "a"), ("a", "b")) is None


@pytest.mark.parametrize(
    ("id2label", "wanted"),
    [
        ({"0": "no", "1": "yes"}, ("no", "yes")),
        ({1: "yes", 0: "no"}, ("no", "yes")),
        ({"0": "LABEL_0", "1": "LABEL_1"}, None),
        ({"0": "label 0", "1": "label-1"}, None),
        ({"0": 0, "1": 1}, None),
        ({"0": "LABEL_1", "1": "LABEL_0"}, ("LABEL_1", "LABEL_0")),
        ({"0": "no", "2": "yes"}, None),
        ({"zero": "no"}, None),
        (["no", "yes"], None),
        (None, None),
        ({}, None),
    ],
)
def test_a_configuration_names_its_labels_or_does_not(id2label: Any, wanted: tuple[str, ...] | None) -> None:
    assert names_of(id2label) == wanted


def test_names_that_only_count_say_nothing() -> None:
    assert named(["LABEL_0", "LABEL_1"]) is None
    assert named([]) is None
    assert named(["1", "0"]) == ("1", "0")


@pytest.mark.parametrize("kind", ["roberta", "bert", "electra", "distilbert", "gpt2", "llama", "deberta-v2", "xlnet"])
def test_what_belongs_to_a_label_is_found_in_the_architecture(kind: str) -> None:
    import transformers

    config = (
        config_of(kind) if kind in ("roberta", "bert", "electra", "llama") else transformers.AutoConfig.for_model(kind)
    )
    for count in (2, 5):
        axes = label_axes(Classifier(count), config)
        shapes = Classifier(count).architecture(config).head
        assert axes
        assert all(shapes[name][axis] == count for name, axis in axes.items())
        assert any(name.endswith("weight") for name in axes)


# -- experts


def expert(tiny: Tiny, folder: Path, names: Any) -> Path:
    """The tiny expert with its labels' names in its configuration."""
    config = tiny.expert.config.__class__.from_dict(tiny.expert.config.to_dict())
    config.id2label, config.label2id = dict(enumerate(names)), {name: place for place, name in enumerate(names)}
    return save(folder, config, tiny.expert_tensors)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_an_expert_s_labels_are_put_in_the_data_s_order(model: Tiny, tmp_path: Path, order: tuple[int, ...]) -> None:
    own = [NAMES[place].upper() for place in order]
    fetch_expert(
        {"path": str(expert(model, tmp_path / "e", own))},
        Classifier(3),
        model.base,
        tmp_path / "out",
        label_names=NAMES,
    )
    loaded: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    with torch.inference_mode():
        before, after = model.expert(IDS).logits, loaded(IDS).logits
    assert loaded.config.id2label == dict(enumerate(NAMES))
    assert loaded.config.label2id == {name: place for place, name in enumerate(NAMES)}
    for place, name in enumerate(NAMES):
        torch.testing.assert_close(after[:, place], before[:, own.index(name.upper())])
    record = read_json(tmp_path / "out" / "source.json")
    assert record["label_names"] == list(NAMES)
    assert record.get("label_names_were") == (None if order == (0, 1, 2) else own)


def test_what_is_put_in_order_is_said(roberta: Tiny, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = expert(roberta, tmp_path / "e", NAMES[::-1])
    with caplog.at_level(logging.WARNING):
        fetch_expert({"path": str(folder)}, Classifier(3), roberta.base, tmp_path / "out", label_names=NAMES)
    (line,) = [record.getMessage() for record in caplog.records if "labels" in record.getMessage()]
    assert str(folder) in line
    assert "negative, neutral, positive" in line
    assert "positive, neutral, negative" in line


def test_an_expert_without_names_is_taken_to_be_in_the_data_s_order_with_a_warning(
    roberta: Tiny, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = save(tmp_path / "e", roberta.expert.config, roberta.expert_tensors)
    with caplog.at_level(logging.WARNING):
        fetch_expert({"path": str(folder)}, Classifier(3), roberta.base, tmp_path / "out", label_names=NAMES)
    assert [record.getMessage() for record in caplog.records if "id2label" in record.getMessage()]
    stored, own = open_directory(tmp_path / "out"), roberta.expert_tensors
    assert all(torch.equal(stored[name], own[name]) for name in stored)


@pytest.mark.parametrize(
    "names", [("yes", "no", "maybe"), ("positive", "neutral", "neutral "), ("LABEL_2", "LABEL_1", "LABEL_0")]
)
def test_names_that_contradict_the_data_s_are_refused(roberta: Tiny, tmp_path: Path, names: tuple[str, ...]) -> None:
    folder = expert(roberta, tmp_path / "e", names)
    with pytest.raises(UserError) as caught:
        fetch_expert({"path": str(folder)}, Classifier(3), roberta.base, tmp_path / "out", label_names=NAMES)
    one_sentence(caught.value, str(folder), ", ".join(names), ", ".join(NAMES), "label_names")
    assert not (tmp_path / "out").exists()


def test_where_the_data_names_nothing_an_expert_s_names_are_recorded(
    roberta: Tiny, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fetch_expert({"path": str(expert(roberta, tmp_path / "e", NAMES))}, Classifier(3), roberta.base, tmp_path / "out")
    assert read_json(tmp_path / "out" / "source.json")["label_names"] == list(NAMES)
    assert "label" not in caplog.text


def test_regressions_and_language_models_have_no_order_of_labels() -> None:
    assert agreed(("a",), ("b",), Classifier(1), "here").record == {}
    assert agreed(("a", "b"), ("c", "d"), LanguageModel(), "here").record == {}


@pytest.mark.parametrize("names", [NAMES, NAMES[::-1], ("neutral", "positive", "negative"), None], ids=str)
def test_an_adapter_s_head_is_put_in_the_data_s_order(model: Tiny, tmp_path: Path, names: Any) -> None:
    from peft import LoraConfig, get_peft_model

    whole = expert_of(model.body, model.kind, 3, seed=2)
    peft: Any = get_peft_model(whole, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"]))
    peft.save_pretrained(tmp_path / "a")
    if names:
        (tmp_path / "a" / "config.json").write_text(json.dumps({"id2label": dict(enumerate(names))}))
    fetch_adapter({"path": str(tmp_path / "a")}, model.base, tmp_path / "out", Classifier(3), label_names=NAMES)
    base = open_directory(model.base)
    before, after = Expert(tmp_path / "a", base).head, Expert(tmp_path / "out", base).head
    axes = label_axes(Classifier(3), model.body.config)
    order = [(names or NAMES).index(name) for name in NAMES]
    assert set(before) == set(after)
    assert set(axes) <= set(after)
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name][order] if name in axes else before[name])
    assert Checkpoint(tmp_path / "out" / ADAPTER).metadata == Checkpoint(tmp_path / "a" / ADAPTER).metadata


def test_the_head_of_another_size_is_refused_by_its_shape(roberta: Tiny, tmp_path: Path) -> None:
    other = classifier("roberta", 2, seed=0)
    other.config.id2label = {0: "no", 1: "yes"}
    folder = save(tmp_path / "e", other.config, other.state_dict())
    with pytest.raises(UserError) as caught:
        fetch_expert({"path": str(folder)}, Classifier(3), roberta.base, tmp_path / "out", label_names=NAMES)
    one_sentence(caught.value, str(folder), "labels: 3")
