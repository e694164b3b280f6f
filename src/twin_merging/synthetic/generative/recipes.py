"""The four tasks, and how rows of them are drawn. A row depends on the seed, the task and the split alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING

from twin_merging.errors import UserError
from twin_merging.synthetic.generative.facts import facts
from twin_merging.synthetic.generative.passages import passages
from twin_merging.synthetic.generative.summaries import summaries
from twin_merging.synthetic.generative.truths import truths
from twin_merging.synthetic.generative.world import Drawn, Row, World, world
from twin_merging.synthetic.splits import SPLITS, check_splits, distinct, take

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TaskRecipe:
    """A generated task: its columns, of which the last holds the right answer; the kinds of answer that a suite may ask
    for; and the function that draws a row, with the text that decides which split the row belongs to."""

    columns: tuple[str, ...]
    answers: tuple[str, ...]
    description: str
    draw: Callable[[Random, World], Drawn] = field(repr=False)

    @property
    def target(self) -> str:
        return self.columns[-1]


TASKS: Mapping[str, TaskRecipe] = MappingProxyType(
    {
        "facts": TaskRecipe(("question", "answer"), ("text",), "a fact about a person, answered by a word", facts),
        "truths": TaskRecipe(
            ("question", "answer"), ("text",), "a true statement where people say another, as TruthfulQA", truths
        ),
        "passages": TaskRecipe(
            ("passage", "question", "options", "answer"),
            ("letter", "likelihood"),
            "which of two persons did it, or that it is unknown, as BBQ",
            passages,
        ),
        "summaries": TaskRecipe(
            ("article", "request", "summary"),
            ("summary", "text"),
            "two sentences, shortened to one, as CNN/DM",
            summaries,
        ),
    }
)


def generate_task(task: str, rows: Mapping[str, int], seed: int) -> dict[str, pd.DataFrame]:
    """Generate splits of a task. `rows` says how many rows each split has.

    The splits come in the order train, validation, test. The first n rows of a split are the same whatever else is
    asked for. No text is in two splits, or twice in one split.
    """
    import pandas as pd

    check_splits(task, rows)
    return {
        split: pd.DataFrame(take(examples(task, split, seed), rows[split], f"{task}/{split}"))
        for split in SPLITS
        if split in rows
    }


def examples(task: str, split: str, seed: int, stream: str = "rows", patience: int | None = None) -> Iterator[Row]:
    """Yield distinct rows of one split, until `patience` draws in a row have given no new text. Raises UserError for
    an unknown task."""
    if task not in TASKS:
        raise UserError(f"unknown generated task '{task}': it is none of {', '.join(TASKS)}")
    draw, told = TASKS[task].draw, world(seed)
    return distinct(lambda rng: draw(rng, told), f"{seed}/{task}/{split}/{stream}", split, patience)
