"""Bootstrap resamples of test rows: each metric of a resample equals the metric of the rows that were drawn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin_merging.scoring.intervals import interval, is_above
from twin_merging.scoring.metrics import METRICS, score
from twin_merging.scoring.resampling import resampled_scores, row_counts, seed_of
from twin_merging.scoring.texts import TEXT_METRICS
from twin_merging.scoring.weighted import FORMS

WORDS = st.sampled_from(["the cat", "cat sat", "the cat sat on a mat", "Cat!", "", "a mat on the cat", "cats sit"])
LABELS = st.sampled_from([0.0, 1.0, 2.0])
VALUES = st.sampled_from([-1.5, -0.25, 0.0, 0.5, 0.75, 3.0])  # few, so that ties and constant resamples are many


@st.composite
def answers(draw: Any) -> tuple[str, list[list[Any]], list[Any]]:
    """A metric, the answers of three models to the same rows, and what is right."""
    metric = draw(st.sampled_from(METRICS))
    rows = draw(st.integers(1, 9))
    one = WORDS if metric in TEXT_METRICS else VALUES if metric == "pearson_spearman" else LABELS
    outputs = [draw(st.lists(one, min_size=rows, max_size=rows)) for _ in range(3)]
    right = st.one_of(WORDS, st.lists(WORDS, min_size=1, max_size=3)) if metric in TEXT_METRICS else one
    return metric, outputs, draw(st.lists(right, min_size=rows, max_size=rows))


@settings(max_examples=60, deadline=None)
@given(answers())
def test_a_resampled_score_is_the_score_of_the_rows_that_were_drawn(
    case: tuple[str, list[list[Any]], list[Any]],
) -> None:
    metric, outputs, references = case
    resamples, rows = 4, len(references)
    found = resampled_scores("task", metric, outputs, references, resamples)
    (counts,) = row_counts("task", rows, resamples)
    for number in range(resamples):
        drawn = np.repeat(np.arange(rows), counts[:, number].astype(int))
        for model, own in enumerate(outputs):
            wanted = score(metric, [own[row] for row in drawn], [references[row] for row in drawn])
            assert found[model, number] == pytest.approx(wanted, abs=1e-9)


def test_every_metric_has_a_resampled_form() -> None:
    assert {*FORMS, *TEXT_METRICS} == set(METRICS)


def test_every_resample_has_as_many_rows_whatever_is_held_at_once() -> None:
    whole = np.concatenate(list(row_counts("task", 50, 301)), axis=1)
    assert whole.shape == (50, 301)
    assert (whole.sum(0) == 50).all()
    parts = list(row_counts("task", 50, 301, numbers=50 * 40))
    assert len(parts) == 8
    assert (np.concatenate(parts, axis=1) == whole).all()
    assert abs(whole.mean(1) - 1).max() < 5 / math.sqrt(301)  # each row is drawn as often as any other


def test_resamples_depend_on_the_task_and_its_rows_alone() -> None:
    assert seed_of("cola", 1043) == 3846381606615463546
    first, again, other = (next(row_counts(task, 20, 10)) for task in ("one", "one", "two"))
    assert (first == again).all()
    assert (first != other).any()


def test_an_interval_lies_between_quantiles_and_leaves_out_what_is_no_number() -> None:
    numbers = np.arange(1001.0)
    assert interval(numbers) == pytest.approx((25, 975))
    few, many = numbers.copy(), numbers.copy()
    few[500:520], many[500:530] = np.nan, np.nan
    assert interval(few) == pytest.approx((24.5, 975.5), abs=0.51)
    assert all(map(math.isnan, interval(many)))
    assert (is_above(numbers + 1), is_above(numbers - 30), is_above(many + 1)) == (True, False, False)
