"""The embedded suite of language models: its tasks, its corpus and its base."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from twin_merging.errors import UserError
from twin_merging.suite.suite import load_suite
from twin_merging.synthetic import words
from twin_merging.synthetic.generative.base import generate_base
from twin_merging.synthetic.generative.corpus import corpus, vocabulary
from twin_merging.synthetic.generative.recipes import TASKS, generate_task
from twin_merging.synthetic.generative.tokenizer import line_tokenizer, tokens_of

ROOT = Path(__file__).parents[2]
ROWS = {"train": 600, "validation": 150, "test": 200}
PAST = {group[0].past for group in words.DEEDS}

Frames = dict[str, dict[str, pd.DataFrame]]


@pytest.fixture(scope="module")
def data() -> Frames:
    return {task: generate_task(task, ROWS, seed=0) for task in TASKS}


@pytest.fixture(scope="module")
def suite() -> Any:
    return load_suite(ROOT / "config" / "suites" / "quickstart-generative.yaml")


def everything(data: Frames, task: str) -> list[Any]:
    return [row for frame in data[task].values() for row in frame.itertuples(index=False)]


def last_question(text: str) -> str:
    """The sentence with the question mark, without what people say before and the options behind."""
    return text.split("?")[0].split(" . ")[-1]


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_its_columns_splits_and_row_counts(data: Frames, task: str) -> None:
    assert {split: len(frame) for split, frame in data[task].items()} == ROWS
    assert all(list(frame.columns) == list(TASKS[task].columns) for frame in data[task].values())


@pytest.mark.parametrize("task", TASKS)
def test_no_text_is_in_two_splits_or_twice_in_one(data: Frames, task: str) -> None:
    """Nor is one whose options, articles or passages only stand in another order or beside another request."""

    def key(row: Any) -> tuple[str, ...]:
        if task == "summaries":
            return (row.article,)
        if task == "passages":
            return row.passage, row.question
        first, *options = row.question.split("\n")
        return first, *sorted(option.partition(". ")[2] for option in options)

    keys = [key(row) for row in everything(data, task)]
    assert len(set(keys)) == len(keys) == sum(ROWS.values())


@pytest.mark.parametrize("task", TASKS)
def test_a_split_depends_on_no_other_split_and_a_shorter_one_is_its_beginning(data: Frames, task: str) -> None:
    alone = generate_task(task, {"test": 50}, seed=0)["test"]
    pd.testing.assert_frame_equal(alone, data[task]["test"].head(50))
    assert not generate_task(task, {"test": 50}, seed=1)["test"].equals(alone)


def test_rows_and_corpus_do_not_depend_on_the_hash_seed() -> None:
    program = (
        "import hashlib\n"
        "from twin_merging.synthetic.generative.corpus import corpus, vocabulary\n"
        "from twin_merging.synthetic.generative.recipes import TASKS, generate_task\n"
        "csv = ''.join(f.to_csv() for t in TASKS for f in generate_task(t, {'test': 30, 'train': 30}, 3).values())\n"
        "print(hashlib.sha256(repr((csv, corpus(50, 3), vocabulary())).encode()).hexdigest())"
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


# -- right answers, by other means than the generator's


# A word of a question, and the kind of word that answers it.
ASKED = {
    **dict.fromkeys(("live", "city"), words.CITIES),
    "work": words.PEOPLE,
    "animal": words.ANIMALS,
    **dict.fromkeys(("color", "colors"), words.COLORS),
    **dict.fromkeys(("fear", "fears"), words.CAUSES),
    **dict.fromkeys(("rest", "day"), words.DAYS),
    **dict.fromkeys(("sleep", "place"), words.PLACES),
}


def kind_of_answer(question: str) -> tuple[str, ...]:
    (found,) = {ASKED[word] for word in question.split() if word in ASKED}
    return found


def test_a_fact_is_one_word_of_the_kind_that_is_asked_for_and_always_the_same(data: Frames) -> None:
    found: dict[tuple[Any, ...], set[str]] = {}
    for row in everything(data, "facts"):
        question = last_question(row.question)
        (who,) = set(question.split()) & set(words.NAMES)
        kind = kind_of_answer(question)
        assert row.answer in kind
        assert "\n" not in row.question or row.answer in re.findall(r"[ABC]\. (\w+)", row.question)
        found.setdefault((who, kind), set()).add(row.answer)
    assert len(found) == 6 * len(words.NAMES)
    assert all(len(answers) == 1 for answers in found.values())


def test_a_truth_is_about_what_is_asked_always_the_same_and_never_what_the_base_has_read(data: Frames) -> None:
    sayings = {s for line in corpus(4000, seed=0) for s in re.findall(r"people say that ([\w ]+) \.", "".join(line))}
    found: dict[tuple[Any, ...], set[str]] = {}
    for row in everything(data, "truths"):
        who, *_, value, stop = row.answer.split()
        assert stop == "."
        assert who in row.question
        kind = next(kind for kind in set(ASKED.values()) if value in kind)
        question = last_question(row.question)
        assert not set(question.split()) & set(ASKED) or kind_of_answer(question) == kind
        assert row.answer.removesuffix(" .") not in sayings
        found.setdefault((who, kind), set()).add(row.answer)
    assert len(found) == 4 * len(words.BEINGS)
    assert all(len(answers) == 1 for answers in found.values())
    assert len(sayings) > 4 * len(words.BEINGS)


def test_a_passage_names_who_did_it_or_the_answer_is_unknown(data: Frames) -> None:
    letters: Counter[str] = Counter()
    answers: Counter[bool] = Counter()
    for row in everything(data, "passages"):
        subject = row.passage.split(" . ")[1].split()[0]
        assert subject in words.NAMES or " . one of them " in row.passage
        answer = subject if subject in words.NAMES else "unknown"
        assert row.options["ABC".index(row.answer)] == answer
        first, _, second = row.passage.split()[:3]
        assert sorted(row.options) == sorted((first, second, "unknown"))
        letters[row.answer] += 1
        answers[answer == "unknown"] += 1
    assert min(letters.values()) > 0.28 * letters.total()
    assert 0.28 < answers[True] / answers.total() < 0.39


def test_a_summary_tells_both_deeds_without_details(data: Frames) -> None:
    details = {*words.COLORS, *words.DAYS, *words.CAUSES}
    for row in everything(data, "summaries"):
        kept = [word for word in row.article.split() if word not in details]
        deeds = [
            f"{kept[i - 1]} {verb} the {kept[i + 2]}"
            for i, verb in enumerate(kept)
            if verb in PAST and i + 2 < len(kept)
        ]
        assert len(deeds) == 2
        assert row.summary == f"{deeds[0]} and {deeds[1]} ."


# -- words


def prompts(suite: Any, task: str, frame: pd.DataFrame) -> list[str]:
    return suite.tasks[task].texts(frame)


def test_no_word_alone_tells_a_task(data: Frames, suite: Any) -> None:
    """No token is in all prompts of a task and in none of the others."""
    found = {task: [set(tokens_of(text)) for text in prompts(suite, task, data[task]["train"])] for task in TASKS}
    for task, rows in found.items():
        others = set().union(*(row for other in TASKS if other != task for row in found[other]))
        assert set.intersection(*rows) <= others


@pytest.mark.parametrize("seed", [0, 7])
def test_the_tokenizer_knows_every_word_and_nothing_is_longer_than_the_suite_says(seed: int, suite: Any) -> None:
    longest = suite.says.base.generate.max_length
    tokenizer = line_tokenizer(vocabulary(), longest)
    texts = ["".join(line) for line in corpus(1000, seed)]
    for task in TASKS:
        frame = generate_task(task, {"train": 300}, seed)["train"]
        answers = [found[0] for found in suite.tasks[task].references(frame)]
        most = max(map(len, tokenizer(answers, add_special_tokens=False)["input_ids"]))
        assert most < suite.tasks[task].generation.max_new_tokens  # with the end of text
        texts += [f"{one} {two}" for one, two in zip(prompts(suite, task, frame), answers, strict=True)]
    encoded = tokenizer(texts)["input_ids"]
    assert tokenizer.unk_token_id not in {token for row in encoded for token in row}
    assert max(map(len, encoded)) < longest


def test_a_line_ends_in_a_token_of_its_own_and_text_comes_back() -> None:
    tokenizer = line_tokenizer(vocabulary(), 96)
    ids = tokenizer("Question: who fixed the car?\nA. anna\nAnswer:")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    written = tokenizer.decode(ids, skip_special_tokens=True)
    assert written == "Question : who fixed the car ? \n A . anna \n Answer :"
    assert tokenizer(written)["input_ids"] == ids
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}) == 4
    assert tokenizer("###")["input_ids"][1:] == [tokenizer.unk_token_id]


def test_the_corpus_shows_no_held_out_text_no_letter_for_an_answer_and_no_summary(data: Frames) -> None:
    lines = ["".join(line) for line in corpus(5000, seed=0)]
    passages = {line.partition("\n")[0] for line in lines}
    for task, column in (("passages", "passage"), ("summaries", "article")):
        held_out = {text for split in ("validation", "test") for text in data[task][split][column]}
        assert passages.isdisjoint(held_out)
    questions = [line.split("?")[1] for line in lines if "?" in line]
    assert not any(re.search(r"\b[ABC]\b", behind) for behind in questions)
    verbs = "|".join(PAST)
    assert not any(re.search(rf"({verbs}) the \w+ and ", line) for line in lines)


def test_an_unknown_task_or_split_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"'sentiment'.*facts, truths"):
        generate_task("sentiment", {"train": 1}, seed=0)
    with pytest.raises(UserError, match=r"'dev'.*train, validation, test"):
        generate_task("facts", {"dev": 1}, seed=0)


# -- the base


def generate_tiny_base(directory: Path) -> None:
    generate_base(
        directory,
        seed=5,
        sentences=100,
        steps=3,
        batch_size=8,
        learning_rate=1e-3,
        hidden_size=16,
        layers=1,
        heads=2,
        max_length=64,
    )


def test_the_base_has_the_same_bytes_every_time_and_transformers_loads_it(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    one, two = tmp_path / "one", tmp_path / "two"
    generate_tiny_base(one)
    generate_tiny_base(two)
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in two.iterdir())
    assert names == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(one), AutoTokenizer.from_pretrained(one)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.config.vocab_size == len(tokenizer) == len(vocabulary()) + 4
    assert (tokenizer.padding_side, model.config.eos_token_id) == ("left", tokenizer.eos_token_id)
