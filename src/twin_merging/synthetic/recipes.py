"""The eight tasks, and how rows of them are drawn. A row depends on the seed, the task and the split alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING

from twin_merging.errors import UserError
from twin_merging.synthetic.acceptability import acceptability
from twin_merging.synthetic.answerability import answerability
from twin_merging.synthetic.duplicates import duplicates
from twin_merging.synthetic.entailment import entailment
from twin_merging.synthetic.inference import inference
from twin_merging.synthetic.paraphrase import paraphrase
from twin_merging.synthetic.sentiment import sentiment
from twin_merging.synthetic.similarity import similarity
from twin_merging.synthetic.splits import SPLITS, check_splits, distinct, take

if TYPE_CHECKING:
    import pandas as pd

Example = tuple[tuple[str, ...], float]


@dataclass(frozen=True)
class TaskRecipe:
    """A generated task: its columns of text, what a suite must say about it, and the function that draws an example."""

    text: tuple[str, ...]
    labels: int
    metric: str
    description: str
    draw: Callable[[Random], Example] = field(repr=False)
    coherent: tuple[float, ...] = ()  # the labels of texts that make sense; () if all do


TASKS: Mapping[str, TaskRecipe] = MappingProxyType(
    {
        "acceptability": TaskRecipe(
            text=("sentence",),
            labels=2,
            metric="matthews_correlation",
            description="grammatical or not, as CoLA",
            draw=acceptability,
            coherent=(1,),
        ),
        "sentiment": TaskRecipe(("sentence",), 2, "accuracy", "praise or blame, as SST-2", sentiment),
        "paraphrase": TaskRecipe(
            text=("sentence1", "sentence2"),
            labels=2,
            metric="accuracy_f1",
            description="the same report or another, as MRPC",
            draw=paraphrase,
            coherent=(1,),
        ),
        "similarity": TaskRecipe(
            text=("sentence1", "sentence2"),
            labels=1,
            metric="pearson_spearman",
            description="likeness of captions, 0 to 5, as STS-B",
            draw=similarity,
            coherent=(4.5, 5),
        ),
        "duplicates": TaskRecipe(
            text=("question1", "question2"),
            labels=2,
            metric="accuracy_f1",
            description="the same question or another, as QQP",
            draw=duplicates,
            coherent=(1,),
        ),
        "inference": TaskRecipe(
            text=("premise", "hypothesis"),
            labels=3,
            metric="accuracy",
            description="entailment, neutral or contradiction, as MNLI",
            draw=inference,
            coherent=(0,),
        ),
        "answerability": TaskRecipe(
            text=("question", "sentence"),
            labels=2,
            metric="accuracy",
            description="the sentence answers the question, as QNLI",
            draw=answerability,
            coherent=(0,),
        ),
        "entailment": TaskRecipe(
            text=("sentence1", "sentence2"),
            labels=2,
            metric="accuracy",
            description="the second follows from the first, as RTE",
            draw=entailment,
            coherent=(0,),
        ),
    }
)


def recipe(task: str) -> TaskRecipe:
    """The recipe of a task. Raises UserError for an unknown task."""
    if task not in TASKS:
        raise UserError(f"unknown generated task '{task}': it is none of {', '.join(TASKS)}")
    return TASKS[task]


def generate_task(task: str, rows: Mapping[str, int], seed: int) -> dict[str, pd.DataFrame]:
    """Generate splits of a task. `rows` says how many rows each split has.

    The splits come in the order train, validation, test. The first n rows of a split are the same whatever else is
    asked for. No text (or pair of texts, in either order) is in two splits, or twice in one split.
    """
    import pandas as pd

    chosen = recipe(task)
    check_splits(task, rows)
    frames = {}
    for split in SPLITS:
        if split in rows:
            drawn = take(examples(task, split, seed), rows[split], f"{task}/{split}")
            columns = {name: [texts[i] for texts, _ in drawn] for i, name in enumerate(chosen.text)}
            labels = [float(label) if chosen.labels == 1 else int(label) for _, label in drawn]
            frames[split] = pd.DataFrame({**columns, "label": labels, "idx": range(len(drawn))})
    return frames


def examples(task: str, split: str, seed: int, stream: str = "rows", patience: int | None = None) -> Iterator[Example]:
    """Yield distinct examples of one split, until `patience` draws in a row have given no new text.

    Its texts, in either order, decide which split an example belongs to.
    """
    draw = recipe(task).draw

    def drawn(rng: Random) -> tuple[str, Example]:
        texts, label = draw(rng)
        return "\t".join(sorted(texts)), (texts, label)

    return distinct(drawn, f"{seed}/{task}/{split}/{stream}", split, patience)
