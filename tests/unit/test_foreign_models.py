"""Bases and experts in any condition that people's are in: merged as transformers and PEFT read them, or refused."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import transformers
from hypothesis import HealthCheck, given, settings

from tests.foreign_models import (
    DOCUMENTED,
    Adapter,
    Case,
    Stored,
    UnreadableError,
    Whole,
    cases,
    documented,
    expected,
    held,
    write,
)


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    transformers.utils.logging.disable_progress_bar()
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(before)
    transformers.utils.logging.enable_progress_bar()


@pytest.mark.filterwarnings("ignore")
@settings(
    max_examples=300,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(cases())
def test_an_expert_of_weight_1_answers_as_transformers_and_peft_load_it_or_is_refused_where_they_refuse(
    case: Case,
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="foreign-"))
    try:
        verdict = held(case, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert verdict.right, f"{verdict.what}: {verdict.told}"


# -- what the strategies and the oracle are worth

CASE = Case("llama", Whole(), Whole())


@pytest.mark.parametrize(
    "other",
    [
        replace(CASE, expert=replace(CASE.expert, tied=False)),
        replace(CASE, adapter=Adapter()),
        replace(CASE, adapter=Adapter(rslora=True)),
        replace(CASE, adapter=Adapter(patterns=True)),
        replace(CASE, adapter=Adapter(embedding=True)),
        replace(CASE, adapter=Adapter(whole=("output",))),
        replace(CASE, kind="gpt2"),
        replace(CASE, kind="gpt2", adapter=Adapter(bias="all")),
    ],
    ids=lambda case: f"{case.kind}-{case.expert.tied}-{case.adapter}",
)
def test_an_expert_answers_otherwise_than_its_base(other: Case, tmp_path: Path) -> None:
    base, expert = write(other, tmp_path)
    alone = expected(replace(other, adapter=None), base, base)
    assert (expected(other, base, expert) - alone).abs().max() > 0.2


@pytest.mark.parametrize("files", ["one", "shards", "stale index", "pickled"])
@pytest.mark.parametrize("prefix", ["as saved", "other"])
def test_a_model_answers_the_same_in_whatever_files_it_lies(files: str, prefix: str, tmp_path: Path) -> None:
    other = replace(CASE, expert=replace(CASE.expert, stored=Stored(prefix, files, buffers=True)))
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    assert expected(CASE, *write(CASE, tmp_path / "one")).equal(expected(other, *write(other, tmp_path / "other")))


@pytest.mark.parametrize(
    "case",
    [
        replace(CASE, expert=replace(CASE.expert, stored=Stored("module."))),
        replace(CASE, base=Whole("body", tied=False), adapter=Adapter()),
        Case("bert", Whole("language model"), Whole("classifier"), Adapter()),
    ],
    ids=["a prefix", "no output layer", "no pooler"],
)
def test_what_transformers_would_make_up_is_told_from_what_it_reads(case: Case, tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="made up"):
        expected(case, *write(case, tmp_path))


def test_a_refusal_is_documented_by_its_case_and_its_words_alike() -> None:
    assert all(documented(CASE, says) != name or when(CASE) for name, (when, says) in DOCUMENTED.items())
    assert documented(CASE, "/base: it is Tuesday") is None
