"""In-context examples: which rows are drawn, and what each shows."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from twin_merging.errors import UserError
from twin_merging.tasks.choices import Columns
from twin_merging.tasks.forms import Form
from twin_merging.tasks.rows import SHOTS, read_rows


@dataclass(frozen=True)
class Example:
    """A row's block, and its answer with what stands before it."""

    block: str
    answer: str


@dataclass(frozen=True)
class Examples:
    """Examples of each subject, one more than a prompt has: it takes the place of a row that is asked itself."""

    count: int
    drawn: Mapping[str, Sequence[Example]]
    of_all: Sequence[Example]

    def before(self, subject: str, block: str) -> tuple[Example, ...]:
        """The examples in the prompt of a row: those of its subject, or of all rows where its subject has none."""
        others = [one for one in self.drawn.get(subject, self.of_all) if one.block != block]
        return tuple(others[: self.count])


def read_examples(folder: Path, form: Form, target: str, options: Columns | None) -> Examples:
    """Draw a form's examples from the rows in the folder of a task's data."""
    own = Path(folder, f"{SHOTS}.parquet")
    rows = read_rows(own if own.is_file() else Path(folder, "train.parquet"))
    rows = rows[form.possible_examples(rows)]
    labels, subjects = form.labels(rows, target, options), form.subjects(rows)
    places: dict[str, list[int]] = {}
    for place, subject in enumerate(subjects):
        places.setdefault(subject, []).append(place)

    def examples(among: Sequence[int]) -> list[Example]:
        chosen = rows.iloc[[among[n] for n in drawn([labels[place] for place in among], form.shots + 1, form.seed)]]
        answers = [texts[0] for texts in form.references(chosen, target, options)]
        return [
            Example(block, before(block, form) + answer)
            for block, answer in zip(form.blocks(chosen), answers, strict=True)
        ]

    if len(rows) < form.shots:
        raise UserError(
            f"{folder}: {len(rows)} rows to draw {form.shots} examples from; set fewer shots, or give more rows"
        )
    every = examples(range(len(rows)))
    return Examples(
        form.shots,
        {subject: examples(among) for subject, among in places.items()} if len(places) > 1 else {},
        every,
    )


def before(block: str, form: Form) -> str:
    """What stands between a block and its answer."""
    return "" if block[-1:].isspace() else form.before_answer


def drawn(labels: Sequence[str], count: int, seed: int) -> list[int]:
    """Places of `count` rows, or of all where there are fewer: one row of each label in turn, a random one of those
    left; the labels with the most rows first, those with equally many in random order.

    With a seed the draw is HELM's (Liang et al. 2022, arXiv 2211.09110): the same calls of Python's random numbers in
    the same order. Where every row has a label of its own, as a summary, that is a plain random draw. The first rows
    are the same however many are drawn.
    """
    chance = random.Random(seed)
    left: dict[str, list[int]] = {}
    for place, label in enumerate(labels):
        left.setdefault(label, []).append(place)
    order: list[str] = []
    for size in sorted({len(places) for places in left.values()}, reverse=True):
        alike = sorted(label for label, places in left.items() if len(places) == size)
        chance.shuffle(alike)
        order += alike
    found: list[int] = []
    while len(found) < min(count, len(labels)):
        for places in (left[label] for label in order if left[label]):
            found.append(places.pop(chance.randrange(len(places))))
            if len(found) == count:
                break
    return found
