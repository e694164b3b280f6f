"""Mutated files: a result, or one sentence that names a file; and that a fault is seen where there is one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import transformers

from tests import mutations
from tests.mutations import KINDS, answers, check_sentence, mutated, outcome, run, table
from twin_merging import UserError


@pytest.fixture(autouse=True, scope="module")
def no_progress_bars() -> Iterator[None]:
    transformers.utils.logging.disable_progress_bar()
    yield
    transformers.utils.logging.enable_progress_bar()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_a_mutated_file_gives_a_result_or_one_sentence_that_names_a_file(kind: str) -> None:
    found = run(kind, 45, seed=7)
    assert not found.faults
    assert found.refusals
    assert found.results


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_breaks_the_same_file_in_the_same_way_and_other_numbers_in_others(
    kind: str, tmp_path: Path
) -> None:
    sound = {file: file.read_bytes() for file in KINDS[kind].make(tmp_path)}
    ways = [mutated(KINDS[kind], f"0/{number}", sound) for number in range(20)]
    assert ways == [mutated(KINDS[kind], f"0/{number}", sound) for number in range(20)]
    assert all(broken != sound[file] for file, broken in ways)
    assert len({broken for _, broken in ways}) > 15


# -- what is a fault


def used(use: Callable[[Path, Path], Any], folder: Path) -> str | None:
    """What becomes of a broken file that is used so."""
    file = folder / "rows.csv"
    file.write_bytes(b"sound")
    try:
        return outcome(replace(KINDS["csv"], use=use), folder, file, b"broken")
    finally:
        assert file.read_bytes() == b"sound"
        assert [path.name for path in folder.iterdir()] == ["rows.csv"]


def told(message: str) -> Callable[[Path, Path], None]:
    def use(folder: Path, file: Path) -> None:
        assert file.read_bytes() == b"broken"
        raise UserError(message.replace("FILE", str(file)))

    return use


def leaves_something(folder: Path, file: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "half").write_text("half")
    raise UserError(f"{file}: broken")


def leaves_nothing(folder: Path, file: Path) -> None:
    (folder / "out").mkdir()


def test_a_result_and_a_sentence_are_no_faults(tmp_path: Path) -> None:
    assert used(leaves_nothing, tmp_path) is None
    assert used(told("FILE: broken; mend it"), tmp_path) == f"{tmp_path}/rows.csv: broken; mend it"


@pytest.mark.parametrize(
    ("use", "why"),
    [
        (lambda folder, file: {"x": 1}["key"], "key"),
        (lambda folder, file: int("x"), "invalid literal"),
        (told("broken"), "names no file"),
        (leaves_something, "left behind"),
    ],
)
def test_anything_else_is_a_fault(use: Callable[[Path, Path], Any], why: str, tmp_path: Path) -> None:
    with pytest.raises((KeyError, ValueError, AssertionError), match=why):
        used(use, tmp_path)


@pytest.mark.parametrize(
    ("message", "why"), [("/here: broken\nmend it", "more than one line"), ("/here: \x1b[1m", "cannot be printed")]
)
def test_a_message_is_one_line_that_can_be_read(message: str, why: str) -> None:
    check_sentence("/here: broken; mend it", Path("/here"))
    with pytest.raises(AssertionError, match=why):
        check_sentence(message, Path("/here"))


def test_what_takes_too_long_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutations, "SECONDS", 0.1)
    with pytest.raises(TimeoutError):
        used(lambda folder, file: time.sleep(5), tmp_path)


def test_what_takes_too_much_memory_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutations, "peak", iter((1.0, 5.0, 5.0)).__next__)
    with pytest.raises(AssertionError, match=r"took 4\.0 GB"):
        used(leaves_nothing, tmp_path)


def test_faults_are_counted_named_and_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crashes_where_broken(folder: Path, file: Path) -> None:
        if b'"w1 w2",0' not in file.read_bytes() and b"w1 w2,0" not in file.read_bytes():
            raise KeyError("w1")

    monkeypatch.setitem(KINDS, "csv", replace(KINDS["csv"], use=crashes_where_broken))
    found = run("csv", 30, seed=0, save=tmp_path)
    assert (found.refusals, found.results + len(found.faults)) == (0, 30)
    fault = found.faults[0]
    assert fault.told.startswith("KeyError")
    assert (tmp_path / f"csv-{fault.number}" / "rows.csv").is_file()
    assert len(list(tmp_path.iterdir())) == len(found.faults)
    again = run("csv", 1, seed=0, first=fault.number)
    assert [each.number for each in again.faults] == [fault.number]
    assert f"| rows in CSV | 30 | {found.results} | 0 | {len(found.faults)} |" in table({"csv": found}).splitlines()


def test_what_ends_the_process_is_a_fault_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def ends_where_cut(folder: Path, file: Path) -> None:
        if len(file.read_bytes()) < 60:
            os._exit(7)

    monkeypatch.setitem(KINDS, "csv", replace(KINDS["csv"], use=ends_where_cut))
    found = run("csv", 60, seed=0)
    assert found.faults
    assert found.results > 10
    assert found.results + len(found.faults) == 60
    assert {fault.told for fault in found.faults} == {"Crash: ended its process with 7"}


def test_what_does_not_answer_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutations, "SECONDS", 0.2)

    def one(number: int) -> tuple[str | None, str, str]:
        time.sleep(60 if number == 1 else 0)
        return None, "", ""

    assert [became for became, _, _ in answers(one, 0, 4)] == [None, "fault", None, None]


def test_a_message_that_is_too_long_to_read_loses_its_middle() -> None:
    told = str(UserError(f"config.json: key '{'x' * 5000}' is unknown; remove it"))
    assert len(told) <= 1000
    assert told.startswith("config.json: key 'xxx")
    assert told.endswith("' is unknown; remove it")
