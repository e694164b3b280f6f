"""A row that waits for its answer."""

from __future__ import annotations

from typing import NamedTuple

from twin_merging.tasks.task import Answers, Encoded


class Waiting(NamedTuple):
    """task: the row's own; view: how the task's rows are answered; example: what the model reads of it; choices: the
    texts of the example's options; texts: the row's, as they were before the tokenizer, for a router that reads
    them."""

    task: str
    view: Answers
    example: Encoded
    choices: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
