"""`python -m twin_merging`: what it does, prints and returns."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.random_models import write_models
from tests.tiny import LABELS, sentences
from twin_merging.__main__ import main
from twin_merging.api.merge import merge
from twin_merging.io.files import sha256
from twin_merging.io.tensors import WEIGHTS, Checkpoint


def arguments(base: Path, experts: dict[str, Path], output: Path) -> list[str]:
    named = [part for name, path in experts.items() for part in ("--expert", f"{name}={path}")]
    return ["--base", str(base), *named, "--output", str(output)]


def test_the_command_merges_as_the_function_does(tmp_path: Path) -> None:
    base, experts = write_models(tmp_path / "models")
    then = "{method: ties, density: 0.3}"
    own = ["--drop-rate", "0.5", "--then", then, "--seed", "3", "--threads", "2"]
    assert main(["merge", "dare", *arguments(base, experts, tmp_path / "a"), *own]) == 0
    options = {"drop_rate": 0.5, "then": {"method": "ties", "density": 0.3}, "seed": 3}
    merge("dare", base=base, experts=experts, output=tmp_path / "b", **options)  # type: ignore[arg-type]
    assert sha256(tmp_path / "a" / WEIGHTS) == sha256(tmp_path / "b" / WEIGHTS)


def test_a_wrong_input_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    base, experts = write_models(tmp_path / "models")
    command = [sys.executable, "-m", "twin_merging", "merge", "ties", *arguments(base, experts, tmp_path / "out")]
    run = subprocess.run([*command, "--density", "2"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == "error: density: 2 must be at most 1\n"
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--expert", "cola"], "'cola' is not of the form NAME=PATH"),
        (["--then", "{"], "'{' is no value of YAML"),
        (["--densty", "1"], "unrecognized arguments: --densty 1"),
    ],
)
def test_what_the_command_line_does_not_understand_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["merge", "dare", *arguments(tmp_path, {"cola": tmp_path}, tmp_path / "out"), *given])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_an_expert_given_twice_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, experts = write_models(tmp_path / "models")
    twice = [*arguments(base, experts, tmp_path / "out"), "--expert", f"cola={base}"]
    assert main(["merge", "ties", *twice]) == 1
    assert "--expert cola=: is given twice" in capsys.readouterr().err


def test_help_names_every_method_and_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    for command, words in {
        "": ["ties", "regmean", "emr"],
        "ties": ["--density", "--lora-space", "default: 0.2"],
    }.items():
        with pytest.raises(SystemExit):
            main(["merge", *([command] if command else []), "--help"])
        text = capsys.readouterr().out
        assert all(word in text for word in words)


def test_statistics_are_gathered_and_used_from_directories_as_they_come(tiny: Path, tmp_path: Path) -> None:
    """The base is a masked-language model with a prefix, the experts classifiers: nothing went through a fetch."""
    files = []
    for task, labels in LABELS.items():
        sentences(0, 8, labels, ("sentence",)).to_parquet(tmp_path / "rows.parquet")
        output = tmp_path / f"{task}.safetensors"
        rows = ["--data", str(tmp_path / "rows.parquet"), "--text", "sentence", "--labels", str(labels), "--rows", "4"]
        where = ["--base", str(tiny / "base"), "--expert", str(tiny / "experts" / task), "--output", str(output)]
        assert main(["statistics", "gram-matrices", *where, *rows]) == 0
        assert "roberta.encoder.layer.0.attention.self.query.weight" in Checkpoint(output)
        files += ["--statistics", f"{task}={output}"]
    experts = {task: tiny / "experts" / task for task in LABELS}
    assert main(["merge", "regmean", *arguments(tiny / "base", experts, tmp_path / "out"), *files]) == 0
