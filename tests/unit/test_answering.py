"""The commands that try a merged model out and export it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.dense_twin import DenseLanguageModel, DenseTwin, router_of
from tests.tiny import config_of, tokenizer
from twin_merging.__main__ import main
from twin_merging.api.answer import answer_text
from twin_merging.model.twin import TwinModel


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    DenseTwin("roberta", "strict", 0.25).twin(router_of(config_of("roberta").hidden_size)).save_pretrained(
        tmp_path / "m"
    )
    tokenizer().save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def test_predict_prints_the_task_the_weights_and_the_answer(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(directory), "--text", "w1 w2 w3", "--pair", "w4 w5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    model = TwinModel.from_pretrained(directory)
    batch = tokenizer()("w1 w2 w3", "w4 w5", return_tensors="pt")
    weights = model.route(batch["input_ids"], batch["attention_mask"])[0]
    best = int(weights.argmax())
    assert lines[0].split() == ["task", model.tasks[best]]
    assert lines[1].startswith(f"weights  {model.tasks[best]} {weights[best]:.3f}, ")
    assert lines[2].startswith("answer   ")


@pytest.mark.parametrize(("task", "labels"), [("a", 2), ("b", 3)])
def test_a_named_task_answers_with_its_own_head(directory: Path, task: str, labels: int) -> None:
    found = answer_text(directory, "w1 w2 w3", task=task)
    with torch.no_grad():
        wanted = TwinModel.from_pretrained(directory)(**tokenizer()("w1 w2 w3", return_tensors="pt"), tasks=[task])
    assert found.task == task
    assert found.probabilities == pytest.approx(wanted.logits[0, :labels].softmax(-1).tolist())
    regression = answer_text(directory, "w1 w2 w3", task="c")
    assert regression.probabilities is None
    assert regression.lines()[2] == f"answer   {regression.value:.3f}"


def test_a_long_text_is_cut_to_what_the_model_takes(directory: Path) -> None:
    assert answer_text(directory, "w1 " * 200).weights.keys() == {"a", "b", "c"}


def test_a_language_model_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dense = DenseLanguageModel("gpt2", 0.25)
    dense.twin(router_of(dense.config.hidden_size)).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    assert main(["predict", str(tmp_path), "--text", "w1 w2 w3", "--max-new-tokens", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    model, own = TwinModel.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    ids = own("w1 w2 w3", return_tensors="pt")["input_ids"]
    written = model.generate(ids, max_new_tokens=3, do_sample=False)[0, ids.shape[1] :]
    assert lines[2] == f"answer   {own.decode(written, skip_special_tokens=True).strip()}"


def test_export_writes_one_checkpoint(directory: Path, tmp_path: Path) -> None:
    weights = ["--weight", "a=0.25", "--weight", "b=0.75"]
    assert main(["export", str(directory), *weights, "--output", str(tmp_path / "one")]) == 0
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "one")
    batch = tokenizer()("w1 w2 w3", return_tensors="pt")
    with torch.no_grad():
        wanted = DenseTwin("roberta", "strict", 0.25).explicit(torch.tensor([0.25, 0.75, 0.0]), "b", **batch)
        torch.testing.assert_close(loaded(**batch).logits[0], wanted, rtol=1e-5, atol=1e-5)


def test_twin_merges_and_predict_answers(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.txt").write_text("w1 w2\nw3 w4 w5\n\nw6 w7\n")
    (tmp_path / "two.txt").write_text("w21 w22\tw23\nw31\tw32 w33\nw34 w35\tw36\n")
    arguments = ["twin", "--base", str(tiny / "base"), "--output", str(tmp_path / "out"), "--rank", "2", "--top-k", "1"]
    for task in ("one", "two"):
        arguments += ["--expert", f"{task}={tiny / 'experts' / task}", "--texts", f"{task}={tmp_path / task}.txt"]
    assert main([*arguments, "--router", "{epochs: 2, features: embedding}", "--onepass", "true"]) == 0
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "out"), "--text", "w1 w2"]) == 0
    assert capsys.readouterr().out.startswith("task     ")
    assert main([*arguments, "--texts", f"one={tmp_path / 'no.txt'}"]) == 1
    assert "is given twice" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.txt", "out", "two.txt"]


def test_wrong_inputs_are_one_line(directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["predict", str(tmp_path / "no"), "--text", "w1"], "no such directory"),
        (["predict", str(tmp_path), "--text", "w1"], "no merge.json in it"),
        (["predict", str(directory), "--text", "w1", "--task", "d"], "unknown task 'd'"),
        (["export", str(directory), "--weight", "d=1", "--output", str(tmp_path / "o")], "unknown task 'd'"),
    ):
        assert main(arguments) == 1
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1
        assert message in error[0]
    with pytest.raises(SystemExit):
        main(["export", str(directory), "--weight", "a=much", "--output", str(tmp_path / "o")])
