"""What lm-eval finds of a routed model equals our own computation, each row with a model that is merged for it alone.

These tests run where lm-eval is installed (requirements-lm-eval.lock), and are skipped elsewhere."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

pytest.importorskip("lm_eval")

from tests.dense_twin import DenseLanguageModel, router_of
from tests.tiny import WORDS
from tests.tiny_decoders import tokenizer
from twin_merging.errors import UserError
from twin_merging.io.files import read_json
from twin_merging.prediction.lm_eval import evaluate_model
from twin_merging.prediction.lm_eval_model import SuiteModel

WRITTEN = """
task: written
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
output_type: generate_until
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["{stop}"], max_gen_toks: 5}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 3}}
"""
CHOSEN = """
task: chosen
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{options}}}}"
doc_to_target: right
metric_list: [{{metric: acc}}]
metadata: {{version: 1}}
"""
ASKED: dict[str, Any] = {"tasks": ["written", "chosen"], "limit": None, "batch_size": 5}


@dataclass
class Own:
    """Our own computation: transformers alone, with a model that is merged for one row from the router's weights of
    what stands before the text."""

    dense: DenseLanguageModel
    router: Any

    @torch.no_grad()
    def weights(self, context: list[int]) -> torch.Tensor:
        hidden = self.dense.shared.base_model(torch.tensor([context])).last_hidden_state[:, -1]
        return self.router.weights(hidden)[0]

    def merged(self, context: list[int]) -> Any:
        return self.dense.merged(self.weights(context))

    def likelihood(self, routed: list[int], context: list[int], option: list[int]) -> tuple[float, bool]:
        with torch.no_grad():
            logits = self.merged(routed)(torch.tensor([context + option])).logits[0, len(context) - 1 : -1]
        found = logits.double().log_softmax(-1)
        return (
            sum(found[place, token].item() for place, token in enumerate(option)),
            found.argmax(-1).tolist() == option,
        )

    def text(self, context: list[int], tokens: int, stop: str) -> str:
        ids = self.merged(context).generate(
            torch.tensor([context]), max_new_tokens=tokens, do_sample=False, pad_token_id=1
        )
        return tokenizer().decode(ids[0, len(context) :]).split(stop)[0]


@pytest.fixture(scope="module")
def own() -> Own:
    dense = DenseLanguageModel("qwen2", fraction=0.5)
    return Own(dense, router_of(dense.config.hidden_size, temperature=0.02))


def asked_alone(own: Own, batch_size: int) -> SuiteModel:
    return SuiteModel(own.dense.twin(own.router), tokenizer(), batch_size)


def requests(*arguments: tuple[Any, ...]) -> list[Any]:
    return [SimpleNamespace(args=each) for each in arguments]


def words(*numbers: int) -> str:
    return " ".join(WORDS[number] for number in numbers)


def ids(text: str) -> list[int]:
    return tokenizer()(text)["input_ids"]


QUESTIONS = [words(*range(row, row + 1 + row % 4)) + " after" for row in range(12)]
OPTIONS = [[words(row), words(row + 9), words(row + 3, row + 5), words(row + 3, row + 1, row)] for row in range(12)]


def test_likelihoods_are_those_of_explicit_merging_by_the_context_alone(own: Own) -> None:
    pairs = [
        (question, f" {option}") for question, options in zip(QUESTIONS, OPTIONS, strict=True) for option in options
    ]
    chosen = {own.weights(ids(question)).argmax().item() for question in QUESTIONS}
    assert len(chosen) > 1  # the router does not send all rows to one expert
    wanted = [own.likelihood(ids(context), ids(context), ids(option)) for context, option in pairs]
    for batch_size in (1, 5, 64):
        found = asked_alone(own, batch_size).loglikelihood(requests(*pairs))
        assert [greedy for _, greedy in found] == [greedy for _, greedy in wanted]
        assert max(abs(one - other) for (one, _), (other, _) in zip(found, wanted, strict=True)) < 2e-5


def test_a_greedy_option_is_known_as_one_and_an_empty_context_is_the_beginning_of_a_text(own: Own) -> None:
    text = own.text(ids(QUESTIONS[3]), 3, "none")
    found = asked_alone(own, 2).loglikelihood(requests((QUESTIONS[3], f" {text}"), ("", words(1, 2))))
    assert found[0][1]
    assert found[1][0] == pytest.approx(own.likelihood([0], [0], ids(words(1, 2)))[0], abs=2e-5)


def test_a_whole_text_is_scored_in_windows_each_routed_by_what_stands_before_it(own: Own) -> None:
    text = [(7 * place) % 40 for place in range(100)]
    tokens = ids(words(*text))
    most = own.dense.config.max_position_embeddings
    assert len(tokens) > 2 * most
    before = [0, *tokens]
    last = len(tokens) - 2 * most
    wanted = own.likelihood([0], [0], tokens[:most])[0]
    wanted += own.likelihood(before[1 : most + 1], before[most : most + 1], tokens[most : 2 * most])[0]
    start = 2 * most - (most - last)
    wanted += own.likelihood(before[most + 1 : 2 * most + 1], before[start : 2 * most + 1], tokens[2 * most :])[0]
    (found,) = asked_alone(own, 3).loglikelihood_rolling(requests((words(*text),)))
    assert found == pytest.approx(wanted, abs=2e-4)


def test_texts_are_those_that_each_row_s_own_model_writes(own: Own) -> None:
    stop = own.text(ids(QUESTIONS[0]), 5, "none").split()[2]
    wanted = [own.text(ids(question), 5, stop) for question in QUESTIONS]
    assert wanted[0].endswith(" ")  # a text is cut, and not stripped: a task's filters do that
    for batch_size in (1, 5):
        asked = asked_alone(own, batch_size)
        asked.model.model.generation_config.repetition_penalty = 9.0  # a base's file says it, and it is not followed
        found = asked.generate_until(
            requests(*((question, {"until": [stop], "max_gen_toks": 5}) for question in QUESTIONS))
        )
        assert found == wanted


def task_files(folder: Path, own: Own) -> tuple[float, float]:
    """Write two task files with their rows. Gives our own scores: share of right answers, and of right options."""
    folder.mkdir()
    stop = own.text(ids(QUESTIONS[0]), 5, "none").split()[2]
    texts = [own.text(ids(question), 5, stop).strip() for question in QUESTIONS]
    likely = [
        max(range(4), key=lambda place: own.likelihood(ids(question), ids(question), ids(options[place]))[0])
        for question, options in zip(QUESTIONS, OPTIONS, strict=True)
    ]
    answers = [text if row % 3 else "w0" for row, text in enumerate(texts)]
    columns: dict[str, list[Any]] = {"question": QUESTIONS, "answer": answers, "options": OPTIONS}
    rows: list[dict[str, Any]] = [
        {name: values[row] for name, values in columns.items()} for row in range(len(QUESTIONS))
    ]
    for number, row in enumerate(rows):
        row["right"] = (likely[number] + number % 2) % 4
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in {"written": WRITTEN, "chosen": CHOSEN}.items():
        (folder / f"{name}.yaml").write_text(text.format(rows=folder / "rows.jsonl", stop=f" {stop}"))
    right = sum(text == row["answer"] for text, row in zip(texts, rows, strict=True))
    return right / len(rows), sum(place == row["right"] for place, row in zip(likely, rows, strict=True)) / len(rows)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    tokenizer().save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def test_scores_of_local_task_files_are_our_own_and_the_same_bytes(tmp_path: Path, saved: Path, own: Own) -> None:
    wanted = task_files(tmp_path / "tasks", own)
    asked = {**ASKED, "include_path": str(tmp_path / "tasks")}
    for name in ("one", "two"):
        evaluate_model(own.dense.twin(own.router), saved, asked, tmp_path / f"{name}.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert str(tmp_path) not in (tmp_path / "one.json").read_text()
    found = read_json(tmp_path / "one.json")
    assert found["lm_eval"] == "0.4.13"
    tasks = found["tasks"]
    assert [tasks[name]["metrics"][0]["value"] for name in ASKED["tasks"]] == pytest.approx(wanted)
    assert 0.3 < wanted[0] < 0.9
    assert wanted[1] == 0.5
    share = wanted[1]
    assert tasks["chosen"]["metrics"] == [
        {
            "metric": "acc",
            "filter": "none",
            "value": 0.5,
            "stderr": pytest.approx((share * (1 - share) / 11) ** 0.5),
            "higher_is_better": True,
        }
    ]
    assert [(tasks[name]["version"], tasks[name]["rows"], tasks[name]["of"]) for name in ASKED["tasks"]] == [
        (3, 12, 12),
        (1, 12, 12),
    ]


def test_the_example_of_the_page_runs(tmp_path: Path, saved: Path, own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "lm-eval.md").read_text()
    task, rows, suite = re.findall(r"^```(?:yaml|json)\n(.*?)^```", page, flags=re.M | re.S)
    monkeypatch.chdir(tmp_path)
    Path("my-tasks").mkdir()
    Path("my-tasks/capitals.yaml").write_text(task)
    Path("my-tasks/capitals.jsonl").write_text(rows)
    asked = {**ASKED, **yaml.safe_load(suite)["lm_eval"]}
    evaluate_model(own.dense.twin(own.router), saved, asked, tmp_path / "found.json")
    found = read_json(tmp_path / "found.json")["tasks"]["capitals"]
    assert (found["version"], found["rows"]) == (1, 2)
    assert [entry["metric"] for entry in found["metrics"]] == ["acc", "acc_norm"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metric: acc": "metric: bertscore"}, "the metric 'bertscore' is code from the Hub, which is not run"),
        ({"metric: acc": "metric: acc, hf_evaluate: true"}, "the metric 'acc' is code from the Hub"),
        ({"metadata:": "unsafe_code: true\nmetadata:"}, "chosen: runs code that the model writes"),
        ({"tasks/rows": "other/rows"}, "/other/rows.jsonl, which is not in "),
        ({"rows.jsonl": "row.jsonl"}, "chosen: FileNotFoundError: "),
    ],
    ids=["a metric of the Hub", "the Hub's", "unsafe", "rows elsewhere", "no rows"],
)
def test_what_is_not_run_is_said_in_one_line(
    tmp_path: Path, saved: Path, own: Own, changes: dict[str, str], words: str
) -> None:
    folder = tmp_path / "tasks"
    task_files(folder, own)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "rows.jsonl").write_text((folder / "rows.jsonl").read_text())
    text = (folder / "chosen.yaml").read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "chosen.yaml").write_text(text)
    asked = {**ASKED, "tasks": ["chosen"], "include_path": str(folder)}
    with pytest.raises(UserError) as caught:
        evaluate_model(own.dense.twin(own.router), saved, asked, tmp_path / "found.json")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "found.json").exists()


def test_a_task_is_named_and_no_path(tmp_path: Path, saved: Path, own: Own) -> None:
    task_files(tmp_path / "tasks", own)
    for name, near in {"chose": "chosen", str(tmp_path / "tasks" / "chosen.yaml"): "none"}.items():
        asked = {**ASKED, "tasks": [name], "include_path": str(tmp_path / "tasks")}
        with pytest.raises(UserError, match=rf"unknown task '.*'; near ones: {near}; `lm-eval ls tasks` lists all"):
            evaluate_model(own.dense.twin(own.router), saved, asked, tmp_path / "found.json")


def test_requests_that_cannot_be_asked_are_refused(own: Own) -> None:
    asked = asked_alone(own, 2)
    long = words(*(place % 40 for place in range(40)))
    with pytest.raises(UserError, match=r"has 41 tokens, but the model has 40 positions; lower lm_eval\.num_fewshot"):
        asked.loglikelihood(requests((long, f" {words(1, 2)}")))
    with pytest.raises(
        UserError, match="has 40 tokens, but the model has 40 positions, of which it may write 1; lower"
    ):
        asked.generate_until(requests((long, {"until": [], "max_gen_toks": 1})))
    with pytest.raises(UserError, match="ask for do_sample; answers are written greedily"):
        asked.generate_until(requests((words(1), {"do_sample": True, "temperature": 0.8})))
    with pytest.raises(UserError, match="ask for num_beams"):
        asked.generate_until(requests((words(1), {"num_beams": 2})))
    with pytest.raises(UserError, match="adds no token"):
        asked.loglikelihood(requests((words(1), " ")))
