"""What a job says of how far it is."""

import logging

import pytest

from twin_merging.jobs.progress import EVERY, Progress, duration


class Clock:
    """Stands still until it is told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_every_few_seconds_with_rate_and_rest(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    progress = Progress(100, "rows", clock)
    for done in range(0, 101, 10):
        progress.update(done)
        clock.now += EVERY / 2
    assert caplog.messages[:2] == ["20 of 100 rows, 4 a second, 20 s left", "40 of 100 rows, 4 a second, 15 s left"]
    assert len(caplog.messages) == 5
    assert {record.name for record in caplog.records} == {"twin_merging.progress"}


def test_what_was_done_before_counts_for_no_rate(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    progress = Progress(1000, "steps", clock)
    progress.update(900)
    clock.now += 10.0
    progress.update(910)
    assert caplog.messages == ["910 of 1000 steps, 1 a second, 1:30 left"]


def test_the_rest_is_told_by_the_work_where_rows_take_unequally_long(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    progress = Progress(100, "rows", clock)
    progress.update(0, 0.0)
    clock.now += 60.0
    progress.update(20, 0.75)
    assert caplog.messages == ["20 of 100 rows, 0.333 a second, 20 s left"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1:00"), (3599, "59:59"), (7325, "2:02:05")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
