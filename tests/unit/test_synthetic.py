"""The embedded suite's data and base model."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from twin_merging.errors import UserError
from twin_merging.synthetic.base import generate_base
from twin_merging.synthetic.corpus import corpus
from twin_merging.synthetic.recipes import TASKS, generate_task

ROWS = {"train": 1000, "validation": 150, "test": 400}
CLASSIFIED = [task for task, recipe in TASKS.items() if recipe.labels > 1]


@pytest.fixture(scope="module")
def data() -> dict[str, dict[str, pd.DataFrame]]:
    return {task: generate_task(task, ROWS, seed=0) for task in TASKS}


def texts(frame: pd.DataFrame, task: str) -> list[tuple[str, ...]]:
    return [tuple(sorted(row)) for row in frame[list(TASKS[task].text)].itertuples(index=False)]


def tokens(frame: pd.DataFrame, task: str) -> list[set[str]]:
    """A row's words, each marked with the column that it stands in."""
    columns = TASKS[task].text
    rows = frame[list(columns)].itertuples(index=False)
    return [{f"{i}:{word}" for i, text in enumerate(row) for word in text.split()} for row in rows]


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_its_columns_splits_and_row_counts(data, task):
    assert list(data[task]) == ["train", "validation", "test"]
    for split, frame in data[task].items():
        assert list(frame.columns) == [*TASKS[task].text, "label", "idx"]
        assert list(frame["idx"]) == list(range(ROWS[split]))


@pytest.mark.parametrize("task", CLASSIFIED)
def test_labels_are_integers_and_balanced(data, task):
    labels = data[task]["train"]["label"]
    assert set(labels) == set(range(TASKS[task].labels))
    shares = labels.value_counts(normalize=True)
    assert shares.min() > 0.8 / TASKS[task].labels
    assert shares.max() < 1.2 / TASKS[task].labels


def test_similarity_is_graded_from_0_to_5(data):
    labels = data["similarity"]["train"]["label"]
    assert (labels.min(), labels.max()) == (0.0, 5.0)
    assert labels.nunique() > 5
    assert 2 < labels.mean() < 3


@pytest.mark.parametrize("task", TASKS)
def test_no_text_is_in_two_splits_or_twice_in_one(data, task):
    seen = [text for frame in data[task].values() for text in texts(frame, task)]
    assert len(seen) == len(set(seen)) == sum(ROWS.values())


@pytest.mark.parametrize("task", TASKS)
def test_a_split_depends_on_no_other_split_and_a_shorter_one_is_its_beginning(data, task):
    alone = generate_task(task, {"test": 50}, seed=0)["test"]
    pd.testing.assert_frame_equal(alone, data[task]["test"].head(50))


def test_another_seed_gives_other_rows(data):
    other = generate_task("sentiment", {"test": 50}, seed=1)["test"]
    assert not other.equals(data["sentiment"]["test"].head(50))


def test_rows_do_not_depend_on_the_hash_seed():
    program = (
        "import hashlib; from twin_merging.synthetic.corpus import corpus\n"
        "from twin_merging.synthetic.recipes import TASKS, generate_task\n"
        "rows = {'test': 30, 'train': 30}\n"
        "csv = ''.join(f.to_csv(index=False) for t in TASKS for f in generate_task(t, rows, 3).values())\n"
        "print(hashlib.sha256((csv + ''.join(corpus(50, 3))).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1


def accuracy_of_best_keyword(train: list[set[str]], train_labels: list[int], test, test_labels) -> float:
    """The rule `class a where the word is, else class b` that does best on the training rows, on test rows."""
    totals = Counter(train_labels)
    with_word: dict[str, Counter[int]] = {}
    for row, label in zip(train, train_labels, strict=True):
        for word in row:
            with_word.setdefault(word, Counter())[label] += 1

    def rule(word: str) -> tuple[int, int, int]:
        inside, outside = with_word[word], totals - with_word[word]
        yes, no = max(sorted(totals), key=inside.__getitem__), max(sorted(totals), key=outside.__getitem__)
        return inside[yes] + outside[no], yes, no

    best = max(sorted(with_word), key=lambda word: rule(word)[0])
    _, yes, no = rule(best)
    hits = [(yes if best in row else no) == label for row, label in zip(test, test_labels, strict=True)]
    return sum(hits) / len(hits)


def accuracy_of_naive_bayes(train: list[set[str]], train_labels: list[int], test, test_labels) -> float:
    totals = Counter(train_labels)
    counts: dict[int, Counter[str]] = {label: Counter() for label in totals}
    for row, label in zip(train, train_labels, strict=True):
        counts[label].update(row)

    def score(row: set[str], label: int) -> float:
        words = sum(math.log((counts[label][word] + 1) / (totals[label] + 2)) for word in sorted(row))
        return math.log(totals[label]) + words

    guesses = [max(sorted(totals), key=lambda label: score(row, label)) for row in test]
    return sum(guess == label for guess, label in zip(guesses, test_labels, strict=True)) / len(guesses)


# At most this part of the rows is right without looking at the order of words; experts are well above.
WITHOUT_ORDER = dict.fromkeys(CLASSIFIED, 0.66)


@pytest.mark.parametrize("rule", [accuracy_of_best_keyword, accuracy_of_naive_bayes])
@pytest.mark.parametrize("task", CLASSIFIED)
def test_neither_one_word_nor_a_bag_of_words_solves_a_task(data, task, rule):
    train, test = data[task]["train"], data[task]["test"]
    reached = rule(tokens(train, task), list(train["label"]), tokens(test, task), list(test["label"]))
    assert reached <= WITHOUT_ORDER[task]


def test_a_words_presence_says_little_of_similarity(data):
    frame = data["similarity"]["train"]
    rows = tokens(frame, "similarity")
    for word in sorted(set().union(*rows)):
        present = pd.Series([float(word in row) for row in rows])
        if 0.02 < present.mean() < 1:
            assert abs(present.corr(frame["label"])) < 0.25


def test_an_unknown_task_or_split_is_refused_by_name():
    with pytest.raises(UserError, match=r"'sarcasm'.*acceptability, sentiment"):
        generate_task("sarcasm", {"train": 1}, seed=0)
    with pytest.raises(UserError, match=r"'dev'.*train, validation, test"):
        generate_task("sentiment", {"dev": 1}, seed=0)


def test_more_rows_than_there_are_texts_are_refused(monkeypatch):
    from twin_merging.synthetic import splits

    monkeypatch.setattr(splits, "PATIENCE", 1)
    with pytest.raises(UserError, match="distinct examples"):
        generate_task("sentiment", {"test": 100_000}, seed=0)


def test_the_corpus_holds_no_held_out_text(data):
    lines = set(corpus(3000, seed=0))
    for task, frames in data.items():
        if len(TASKS[task].text) == 2:
            for split in ("validation", "test"):
                assert lines.isdisjoint(" </s></s> ".join(pair) for pair in texts(frames[split], task))


MAX_LENGTH = 48


def generate_tiny_base(directory: Path) -> None:
    generate_base(
        directory,
        seed=5,
        sentences=200,
        steps=3,
        batch_size=8,
        learning_rate=1e-3,
        hidden_size=16,
        layers=1,
        heads=2,
        max_length=MAX_LENGTH,
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("base")
    generate_tiny_base(directory)
    return directory


def test_the_base_has_the_same_bytes_every_time(base, tmp_path):
    generate_tiny_base(tmp_path)
    names = sorted(path.name for path in base.iterdir())
    assert names == sorted(path.name for path in tmp_path.iterdir())
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= set(names)
    for name in names:
        assert (base / name).read_bytes() == (tmp_path / name).read_bytes()


def test_the_base_is_a_body_without_head_or_pooler_that_transformers_loads(base):
    from safetensors import safe_open
    from transformers import AutoModel

    with safe_open(base / "model.safetensors", "pt") as weights:
        names = set(weights.keys())
    assert not [name for name in names if name.startswith(("roberta.", "lm_head", "pooler")) or "position_ids" in name]
    model = AutoModel.from_pretrained(base, add_pooling_layer=False)
    assert set(model.state_dict()) == names


def test_the_tokenizer_frames_pairs_as_roberta_and_knows_every_word(base, data):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    pair = tokenizer("a dog laughed .", "a cat laughed .")
    assert list(pair) == ["input_ids", "attention_mask"]
    assert tokenizer.decode(pair["input_ids"]) == "<s> a dog laughed . </s></s> a cat laughed . </s>".replace(
        "</s></s>", "</s> </s>"
    )
    for task, frames in data.items():
        for column in TASKS[task].text:
            encoded = tokenizer(list(frames["train"][column]))["input_ids"]
            assert tokenizer.unk_token_id not in {token for row in encoded for token in row}
            assert max(map(len, encoded)) <= MAX_LENGTH
