"""Prompts as texts, equal to stored ones; in-context examples; and what a row of a prompt must hold."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tokenizers.processors import TemplateProcessing

from tests.messages import one_sentence
from tests.tiny_decoders import tokenizer
from twin_merging.errors import UserError
from twin_merging.fetching.data import fetch_data
from twin_merging.io.validation import validate
from twin_merging.tasks.asking import prompt_of
from twin_merging.tasks.choices import checked_places
from twin_merging.tasks.generation import Asked, Generation
from twin_merging.tasks.lengths import warn_of_cut
from twin_merging.tasks.multiple_choice import rotated
from twin_merging.tasks.rows import checked_rows, read_rows
from twin_merging.tasks.shots import drawn
from twin_merging.tasks.task import Longest

STORED = Path(__file__).with_name("prompts")
LETTER = {"answer": "letter", "metric": "exact_match"}
CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>\n{% endif %}"
)

MMLU: dict[str, Any] = {
    "prompt": {
        "template": "multiple_choice",
        "fields": {"options": "choices", "subject": "subject"},
        "instruction": "The following are multiple choice questions (with answers) about {subject}.",
        "shots": 2,
    },
    **LETTER,
}
MMLU_ROWS = [
    {
        "question": "Which of these is a vector?",
        "subject": "high_school_physics",
        "choices": ["speed", "energy", "time", "velocity"],
        "answer": 3,
    }
]
MMLU_SHOTS = [
    {"question": "Who wrote Emma?", "subject": "english", "choices": ["Austen", "Eliot"], "answer": 0},
    {
        "question": "What is the unit of force?",
        "subject": "high_school_physics",
        "choices": ["joule", "watt", "newton", "volt"],
        "answer": 2,
    },
    {
        "question": "What does a scale show?",
        "subject": "high_school_physics",
        "choices": ["mass", "weight", "volume", "density"],
        "answer": 1,
    },
]
BBQ: dict[str, Any] = {
    "prompt": {
        "template": "multiple_choice",
        "fields": {"passage": "context", "options": ["ans0", "ans1", "ans2"], "answer": "label"},
        "instruction": "The following are multiple choice questions (with answers).",
        "shots": 1,
    },
    **LETTER,
}
BBQ_ROWS = [
    {
        "context": "Cy and Di play chess. Di won the last game.",
        "question": "Who lost the last game?",
        "ans0": "Di",
        "ans1": "Cy",
        "ans2": "Cannot be determined",
        "label": 1,
        "category": "Age",
    }
]
BBQ_SHOTS = [
    {
        "context": "Ann met Bo at the station.",
        "question": "Who was late?",
        "ans0": "Ann",
        "ans1": "Not known",
        "ans2": "Bo",
        "label": 1,
        "category": "SES",
    }
]
TRUTHFULQA: dict[str, Any] = {
    "prompt": {
        "template": "multiple_choice",
        "fields": {"best": "best_answer", "incorrect": "incorrect_answers"},
        "shots": 1,
    },
    **LETTER,
}
TRUTHFULQA_ROWS = [
    {
        "question": "What is in the box? ",
        "best_answer": "Nothing is in the box",  # ord("N") % 4 = 2
        "incorrect_answers": ["I have no comment.", "", "A cat is in the box", " A dog "],
    }
]
TRUTHFULQA_SHOTS = [
    {
        "question": "Can pigs fly?",
        "best_answer": "No, pigs cannot fly.",  # ord("N") % 3 = 0
        "incorrect_answers": ["Pigs fly at night", "Pigs can fly if they try."],
    }
]
CNN: dict[str, Any] = {
    "prompt": {"template": "summary", "fields": {"summary": "highlights"}, "words": 7, "shots": 1},
    "answer": "summary",
    "metric": "rouge2",
}
CNN_ROWS = [{"article": "A new\nbridge was opened by the  mayor on Sunday.", "highlights": "A bridge opened ."}]
CNN_SHOTS = [
    {
        "article": "The river rose on Monday. Two streets were flooded.",
        "highlights": "Two streets were flooded\non Monday .",
    }
]
TEXT: dict[str, Any] = {
    "prompt": {"text": "Q: Capital of {country}?\nA:", "shots": 2, "separator": "\n--\n"},
    "target": "capital",
    "metric": "exact_match",
}
TEXT_ROWS = [{"country": "Chad", "capital": "N'Djamena"}]
TEXT_SHOTS = [{"country": "Peru", "capital": " Lima"}, {"country": "Norway", "capital": "Oslo"}]


def data(folder: Path, task: dict[str, Any], **splits: list[dict[str, Any]]) -> tuple[Generation, Path]:
    """A task beside its data, which is checked and stored as the fetch does it."""
    spec = validate(Generation, task)
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        checked_rows(pd.DataFrame(rows), spec, split).to_parquet(folder / f"{split}.parquet", index=False)
    return spec.beside(folder), folder


STORED_PROMPTS: dict[str, tuple[Any, Any, Any, list[str]]] = {
    "mmlu": (MMLU, MMLU_ROWS, MMLU_SHOTS, ["D"]),
    "bbq": (BBQ, BBQ_ROWS, BBQ_SHOTS, ["B"]),
    "truthfulqa": (TRUTHFULQA, TRUTHFULQA_ROWS, TRUTHFULQA_SHOTS, ["B"]),
    "cnn_dailymail": (CNN, CNN_ROWS, CNN_SHOTS, ["A bridge opened ."]),
    "text": (TEXT, TEXT_ROWS, TEXT_SHOTS, ["N'Djamena"]),
}


@pytest.mark.parametrize("name", STORED_PROMPTS)
def test_a_prompt_is_the_stored_text(name: str, tmp_path: Path) -> None:
    task, rows, shots, right = STORED_PROMPTS[name]
    spec, folder = data(tmp_path, task, test=rows, shots=shots)
    stored = read_rows(folder / "test.parquet")
    assert spec.texts(stored) == [(STORED / f"{name}.txt").read_text().removesuffix("\n")]
    assert spec.references(stored).tolist() == [right]
    assert validate(Generation, spec.plain()).plain() == spec.plain()


def test_a_chat_is_the_stored_text(tmp_path: Path) -> None:
    shots, rows = (
        [{"question": f"Two and {n}?", "options": ["4", "5"], "answer": a}] for n, a in (("two", "4"), ("three", 1))
    )
    prompt = {"template": "multiple_choice", "fields": {"options": "options"}, "instruction": "Choose one.", "shots": 1}
    spec, folder = data(tmp_path, {"prompt": {**prompt, "chat": True}, **LETTER}, test=rows, shots=shots)
    own = tokenizer()
    (question,) = spec.questions(read_rows(folder / "test.parquet"))
    with pytest.raises(UserError) as caught:
        prompt_of(question, spec.prompt, own)
    one_sentence(caught.value, "prompt.chat", "no chat template")
    own.chat_template = CHAT
    assert prompt_of(question, spec.prompt, own) == (STORED / "chat.txt").read_text()


def test_options_are_rotated_by_the_best_answers_first_character() -> None:
    assert rotated("Bats", ["a;b", "c."]) == ("a;b.", "c.", "Bats.")  # B is 66 = 22 * 3
    assert rotated("Cats", "a; b ;;c.") == ("Cats.", "a.", "b.", "c.")  # C is 67 = 16 * 4 + 3


# -- in-context examples


def test_labels_are_covered_in_turn_the_most_frequent_first() -> None:
    labels = ["x"] * 5 + ["y"] * 7 + ["z"] * 2
    found = drawn(labels, 8, 3)
    assert [labels[place] for place in found] == ["y", "x", "z", "y", "x", "z", "y", "x"]
    assert len(set(found)) == 8
    assert drawn(labels, 5, 3) == found[:5]
    assert sorted(drawn(labels, 99, 0)) == list(range(14))
    assert len({tuple(drawn(labels, 4, seed)) for seed in range(5)}) > 1


def test_a_draw_of_rows_that_all_differ_is_helms() -> None:
    """By hand what random.seed(0) gives: equal numbers of rows are shuffled, and of each one row is drawn."""
    labels = [f"summary {number:02}" for number in range(30)]
    chance, order = random.Random(0), sorted(labels)
    chance.shuffle(order)
    assert [labels[place] for place in drawn(labels, 5, 0)] == order[:5]


def test_examples_are_of_the_rows_subject_and_never_the_row_itself(tmp_path: Path) -> None:
    subjects = ["a"] * 4 + ["b"] * 4
    train = [
        {"question": f"{subject}{number}?", "subject": subject, "choices": ["yes", "no"], "answer": number % 2}
        for number, subject in enumerate(subjects)
    ]
    spec, folder = data(tmp_path, MMLU, train=train, test=[{**train[0], "subject": "c", "question": "new?"}])
    rows = read_rows(folder / "train.parquet")
    for question, subject, own in zip(spec.questions(rows), subjects, rows["question"], strict=True):
        shown = [example.block.split("\n")[0].removeprefix("Question: ") for example in question.examples]
        assert len(set(shown)) == 2
        assert all(text.startswith(subject) for text in shown)
        assert own not in shown
    (question,) = spec.questions(read_rows(folder / "test.parquet"))
    assert len(question.examples) == 2  # of all subjects, where a subject has none
    with pytest.raises(UserError) as caught:
        data(tmp_path / "few", {**TEXT}, train=TEXT_SHOTS[:1])
    one_sentence(caught.value, "1 rows to draw 2 examples from")


def test_articles_of_examples_may_be_of_some_lengths_alone(tmp_path: Path) -> None:
    rows = [{"article": "w " * count, "highlights": f"{count}"} for count in range(1, 9)]
    task = {**CNN, "prompt": {**CNN["prompt"], "shots": 3, "example_words": [4, 6]}}
    spec, _ = data(tmp_path / "some", task, train=rows)
    (question,) = spec.questions(pd.DataFrame(CNN_ROWS))
    assert {example.answer for example in question.examples} == {"\n4", "\n5", "\n6"}
    with pytest.raises(UserError) as caught:
        data(tmp_path / "few", {**task, "prompt": {**task["prompt"], "example_words": [7, 90]}}, train=rows)
    one_sentence(caught.value, "2 rows to draw 3 examples from")
    with pytest.raises(ValueError, match=r"prompt\.example_words: .* needs more entries"):
        validate(Generation, {**CNN, "prompt": {**CNN["prompt"], "example_words": [4]}})


def test_examples_come_from_the_named_split(tmp_path: Path) -> None:
    train = [{"country": f"x{number}", "capital": "y"} for number in range(4)]
    spec, folder = data(tmp_path / "data", TEXT, train=train)
    rows = pd.DataFrame(TEXT_ROWS)
    assert "Oslo" not in spec.texts(rows)[0]
    data(folder, TEXT, shots=TEXT_SHOTS)
    assert "Oslo" in validate(Generation, TEXT).beside(folder).texts(rows)[0]
    for split in ("train", "test", "validation"):
        pd.DataFrame(train).to_json(tmp_path / f"{split}.jsonl", orient="records", lines=True)
    pd.DataFrame(TEXT_SHOTS).to_json(tmp_path / "dev.jsonl", orient="records", lines=True)
    source = {"path": str(tmp_path), "splits": {"shots": "dev"}}
    fetch_data(source, validate(Asked, {"prompt": TEXT["prompt"], "target": "capital"}), tmp_path / "out")
    assert read_rows(tmp_path / "out/shots.parquet")["capital"].tolist() == [" Lima", "Oslo"]
    fetch_data({"path": str(tmp_path)}, validate(Asked, {"prompt": "{country}", "target": "capital"}), tmp_path / "out")
    assert not (tmp_path / "out/shots.parquet").exists()


# -- right answers


AMBIGUOUS = "two options"


def places(values: list[Any], options: list[list[str]]) -> Any:
    try:
        return checked_places(pd.DataFrame({"right": values}), options, "right", "t.csv")
    except UserError as error:
        one_sentence(error, "t.csv: row", "'right'")
        return AMBIGUOUS if "and the" in str(error) else None


@pytest.mark.parametrize(
    ("value", "options", "wanted"),
    [
        (2, ["x", "y", "z"], 2),
        (2.0, ["x", "y", "z"], 2),
        (3, ["x", "y", "z"], None),
        (True, ["x", "y"], None),
        (math.inf, ["x", "y"], None),
        ("B", ["x", "y"], 1),
        ("b", ["x", "y"], None),
        ("1", ["x", "y"], 1),
        ("C", ["x", "y"], None),
        (" y ", ["x", "y"], 1),
        ("7", ["5", "7"], 1),
        ("y", ["y", "y"], None),
        ("2", ["1", "2", "3"], AMBIGUOUS),
        (2, ["1", "2", "3"], 2),
        ("1", ["0", "1", "2"], 1),
        ("A", ["B", "A", "O"], AMBIGUOUS),
        ("O", ["B", "A", "O"], 2),
    ],
)
def test_an_option_is_named_by_number_letter_or_text(value: Any, options: list[str], wanted: Any) -> None:
    assert places([value], [options]) == (wanted if wanted in (None, AMBIGUOUS) else [wanted])


def test_a_column_says_in_one_way_which_option_is_right() -> None:
    numbers = ["1", "2", "3"]
    assert places(["2", "0"], [numbers, ["x", "y", "z"]]) == [2, 0]  # the second is no text, so all are numbers
    assert places(["2", "y"], [numbers, ["x", "y", "z"]]) == [1, 1]  # and here all are texts
    assert places(["2", "1"], [numbers, numbers]) == AMBIGUOUS
    assert places(["B", 0, "z"], [["x", "y", "z"]] * 3) == [1, 0, 2]
    assert places(["B", 0, "2"], [["x", "y", "z"]] * 2 + [numbers]) == AMBIGUOUS


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"answer": 4}, ("row 5", "'answer'", "none of 4 options", "0 to 3")),
        ({"choices": ["one"]}, ("row 5 has 1 options", "2 to 26")),
        ({"choices": "speed"}, ("row 5 has 1 options",)),
        ({"choices": []}, ("row 5", "'choices'")),
        ({"choices": ["a", None]}, ("row 5 has no value in column 'choices'",)),
        ({"answer": None}, ("row 5 has no value in column 'answer'",)),
        ({"question": ["a", "b"]}, ("row 5 has a list in column 'question'",)),
    ],
)
def test_a_row_that_names_no_right_option_is_refused(change: dict[str, Any], words: tuple[str, ...]) -> None:
    rows = pd.DataFrame([{**MMLU_ROWS[0], **change}], index=[5])
    with pytest.raises(UserError) as caught:
        checked_rows(rows, validate(Generation, MMLU), "test.jsonl")
    one_sentence(caught.value, "test.jsonl", *words)


def test_a_right_answer_may_be_any_of_a_list(tmp_path: Path) -> None:
    lines = '{"q": "x", "answer": ["1.50", 2.50]}\n{"q": "y", "answer": 3.0}\n'
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.jsonl").write_text(lines)
    fetch_data({"path": str(tmp_path)}, validate(Asked, {"prompt": "{q}"}), tmp_path / "out")
    spec = validate(Generation, {"prompt": "{q}", "metric": "exact_match"})
    assert spec.references(read_rows(tmp_path / "out/test.parquet")).tolist() == [["1.50", "2.50"], ["3.0"]]


# -- tokens

WORDS = {"prompt": {"text": "{word} after", "shots": 3, "separator": " "}, "metric": "exact_match"}
WORD_ROWS = [{"word": f"w{number}", "answer": f"w{number + 1} w{number + 2}"} for number in range(1, 8)]


def test_examples_are_dropped_from_the_last_then_it_is_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"word": "w1 w1 w1 w1", "answer": "w2"}, {"word": "w1", "answer": "w2"}]
    spec, folder = data(tmp_path, WORDS, shots=WORD_ROWS, test=rows)
    table, own = read_rows(folder / "test.parquet"), tokenizer()
    questions = spec.questions(table)
    limit = Longest(10, "inference.max_length is 10")  # an example has 4 tokens
    found = spec.encode(table, own, limit)
    shown = [f"{one.block}{one.answer}" for one in questions[0].examples]
    assert own.decode(found[0].features["input_ids"]) == f"{shown[0]} w1 w1 w1 w1 after"
    assert own.decode(found[1].features["input_ids"]) == f"{shown[0]} {shown[1]} w1 after"
    assert [one.lost_examples for one in found] == [2, 1]
    warn_of_cut("mine", found, limit)
    assert "task mine: 2 of 2 prompts do not fit 10 tokens" in caplog.text
    assert "lost 1 to 2 of them: inference.max_length is 10" in caplog.text
    with pytest.raises(UserError) as caught:
        spec.encode(table.set_index(pd.Index([7, 8])), own, Longest(4, "inference.max_length is 4"))
    one_sentence(caught.value, "row 7", "without in-context examples has 5 tokens", "inference.max_length is 4")


def test_what_is_trained_is_what_is_asked_with_the_answer_behind_it(tmp_path: Path) -> None:
    spec, folder = data(tmp_path, WORDS, train=WORD_ROWS)
    rows, own, limit = read_rows(folder / "train.parquet"), tokenizer(), Longest(40, "forty")
    asked, trained = spec.encode(rows, own, limit), spec.examples(rows, own, limit)
    for one, other, text in zip(asked, trained, rows["answer"], strict=True):
        prompt, answer = one.features["input_ids"], [*own(text)["input_ids"], own.eos_token_id]
        assert other.features["input_ids"] == prompt + answer
        assert other.features["labels"] == [-100] * len(prompt) + answer
        assert other.features["attention_mask"] == [1] * len(other)
    (shorter,) = spec.examples(rows.head(1), own, Longest(len(trained[0]) - 1, "less"))
    assert shorter.lost_examples == 1
    with pytest.raises(UserError) as caught:
        spec.examples(rows.head(1), own, Longest(4, "finetune.max_length is 4"))
    one_sentence(caught.value, "row 0", "with its longest answer has 5 tokens", "finetune.max_length is 4")


def test_no_end_of_text_stands_behind_a_prompt(tmp_path: Path) -> None:
    spec, folder = data(tmp_path, WORDS, train=WORD_ROWS)
    rows, plain, ending, limit = read_rows(folder / "train.parquet"), tokenizer(), tokenizer(), Longest(40, "forty")
    ending.backend_tokenizer.post_processor = TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 2)])
    assert ending("w1")["input_ids"] == [*plain("w1")["input_ids"], 2]
    for view in (spec.encode, spec.examples):
        assert view(rows, ending, limit) == view(rows, plain, limit)


def test_options_are_the_tokens_behind_the_prompt(tmp_path: Path) -> None:
    told = {"prompt": "{word} after", "options": ["one", "two"], "target": "right", "answer": "likelihood"}
    rows = [{"word": "w1", "one": "w2", "two": "w3 w4", "right": right} for right in (1, "A", "w3 w4")]
    spec, folder = data(tmp_path, {**told, "metric": "exact_match"}, test=rows)
    table, own = read_rows(folder / "test.parquet"), tokenizer()
    assert spec.choices(table) == [("w2", "w3 w4")] * 3
    assert spec.references(table).tolist() == [["w3 w4"], ["w2"], ["w3 w4"]]
    assert table["right"].tolist() == ["B", "A", "B"]
    assert spec.new_tokens == 0
    found = spec.encode(table, own, Longest(4, "four"))
    assert [one.options for one in found] == [tuple(tuple(own(text)["input_ids"]) for text in ("w2", "w3 w4"))] * 3
    with pytest.raises(UserError) as caught:
        spec.encode(table, own, Longest(3, "three"))
    one_sentence(caught.value, "row 0", "with its longest answer has 4 tokens")
    letters = validate(Generation, {**MMLU, "prompt": {**MMLU["prompt"], "shots": 0}, "answer": "likelihood"})
    assert letters.choices(pd.DataFrame(MMLU_ROWS)) == [("A", "B", "C", "D")]


# -- what does not fit together

WRONG: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "a template that is none": ({"prompt": {"template": "multiple_choices"}}, ("prompt.template", "did you mean")),
    "neither text nor template": ({"prompt": {"shots": 1}}, ("prompt: give text", "multiple_choice or summary")),
    "a number": ({"prompt": 3}, ("prompt: 3 is not text or a mapping",)),
    "a text of a template": ({"prompt": {**CNN["prompt"], "text": "{a}"}}, ("prompt: unknown key 'text'",)),
    "no options": (
        {"prompt": {"template": "multiple_choice", "fields": {}}},
        ("prompt.fields: give options, or both",),
    ),
    "best without incorrect": (
        {"prompt": {"template": "multiple_choice", "fields": {"best": "x"}}},
        ("prompt.fields: give options, or both",),
    ),
    "best and an answer": (
        {"prompt": {**TRUTHFULQA["prompt"], "fields": {**TRUTHFULQA["prompt"]["fields"], "answer": "x"}}},
        ("prompt.fields.answer: best is the right answer",),
    ),
    "an instruction of no column": (
        {"prompt": {**MMLU["prompt"], "instruction": "of {0}"}},
        ("prompt.instruction: 'of {0}' names no column",),
    ),
    "a target of a template": ({"prompt": MMLU["prompt"], "answer": "letter", "target": "x"}, ("target: a template",)),
    "a text of a question with options": (
        {"prompt": MMLU["prompt"]},
        ("answer: template multiple_choice", "letter or"),
    ),
    "options of a text that is written": ({"options": "x"}, ("options: answer: likelihood needs options",)),
    "a likelihood without options": ({"answer": "likelihood"}, ("options: answer: likelihood needs options",)),
    "a quasi-exact letter": (
        {**MMLU, "metric": "quasi_exact_match"},
        ("metric: quasi_exact_match scores answers of kind text, not letter; use exact_match",),
    ),
    "an exact summary": ({**CNN, "metric": "exact_match"}, ("metric: exact_match", "not summary; use rouge2")),
    "a strict text": ({"generation": {"helm": "strict"}}, ("generation.helm: helm: strict is of answers by letter",)),
    "a strict answer that ends": (
        {**MMLU, "generation": {"helm": "strict", "stop": ["."]}},
        ("generation.stop: helm: strict has no text that ends an answer",),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_together_is_one_sentence(name: str) -> None:
    changes, words = WRONG[name]
    with pytest.raises(ValueError, match=words[0].split()[0]) as caught:
        validate(Generation, {"prompt": "{word}", "metric": "exact_match", **changes})
    one_sentence(UserError(str(caught.value)), *words)


def test_an_answers_usual_ending_is_written_out() -> None:
    def ending(**told: Any) -> dict[str, Any]:
        return validate(Generation, {"prompt": "{word}", "metric": "exact_match", **told}).plain()["generation"]

    assert ending() == {"max_new_tokens": 16, "stop": []}
    assert ending(answer="letter") == {"max_new_tokens": 5, "stop": ["\n"]}
    assert ending(answer="letter", generation={"stop": []}) == {"max_new_tokens": 5, "stop": []}
    assert ending(answer="letter", generation={"helm": "strict"}) == {"max_new_tokens": 5, "stop": [], "helm": "strict"}
    assert ending(answer="summary", metric="rouge2") == {"max_new_tokens": 128, "stop": ["###"]}
    cut = validate(Generation, {"prompt": "{word}", **LETTER}).generation.cut
    assert cut(" A\nBecause") == "A"
    assert validate(Generation, {**MMLU, "generation": {"helm": "strict"}}).generation.cut(" A\nB ") == "A\nB"


def test_letters_of_right_answers_are_stored(tmp_path: Path) -> None:
    rows = [{**MMLU_ROWS[0], "answer": answer} for answer in (3, "B", "time")]
    _, folder = data(tmp_path, MMLU, shots=MMLU_SHOTS, test=rows)
    stored = read_rows(folder / "test.parquet")
    assert stored["answer"].tolist() == ["D", "B", "C"]
    assert Counter(type(cell).__name__ for cell in stored["choices"]) == {"ndarray": 3}


def test_rows_may_be_those_that_helm_draws(tmp_path: Path) -> None:
    pd.DataFrame({"row": range(50)}).to_parquet(tmp_path / "test.parquet")
    np.random.seed(0)
    wanted = np.random.choice(np.arange(50).astype(object), 7, replace=False).tolist()
    assert read_rows(tmp_path / "test.parquet", 7, "helm")["row"].tolist() == wanted
    assert read_rows(tmp_path / "test.parquet", 7)["row"].tolist() == list(range(7))
    assert read_rows(tmp_path / "test.parquet", 50, "helm")["row"].tolist() == list(range(50))
