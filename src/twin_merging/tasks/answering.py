"""A row that waits for its answer."""

from __future__ import annotations

from typing import NamedTuple

from twin_merging.tasks.task import Answers, Encoded


class Waiting(NamedTuple):
    """task: the row's own; view: how the task's rows are answered; example: what the model reads of it; choices: the
    texts of the example's options."""

    task: str
    view: Answers
    example: Encoded
    choices: tuple[str, ...] = ()
