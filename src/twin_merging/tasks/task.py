"""What the stages ask of a task, whatever its family: four views of it, each with no more than a stage is told.

A view is a frozen model (twin_merging.io.validation), so a job gets it as plain data. `Inputs` says how a row becomes
what a model reads; `Rows` adds what a row must hold; `Answers` adds how a row is answered and the answer stored;
`Task` adds how answers are scored. A stage that is told less is not stale when the rest changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from twin_merging.checkpoints.kinds import WholeModel

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Encoded:
    """Token ids of one input, without padding, and what else the tokenizer gives for it.

    options: token ids of each text that may stand behind the input, where these are scored by their likelihood;
    lost_examples: in-context examples that were left out of a prompt, so that it fits.
    """

    features: Mapping[str, Any]
    is_cut: bool = False  # to the longest input
    options: tuple[tuple[int, ...], ...] = ()
    lost_examples: int = 0

    def __len__(self) -> int:
        return len(self.features["input_ids"])

    @property
    def whole_length(self) -> int:
        """Tokens of the input with the longest text behind it."""
        return len(self) + max(map(len, self.options), default=0)


@dataclass(frozen=True)
class Longest:
    """Tokens of the longest input (twin_merging.tasks.lengths). `why` says, as part of a sentence, whose limit that is,
    and `remedy` what helps."""

    tokens: int
    why: str
    remedy: str = "shorten it"


class Inputs(Protocol):
    """How a row becomes what a model reads."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""

    def beside(self, folder: Path) -> Self:
        """The same view, with what it takes from the folder of the task's data beside the rows: in-context examples."""

    def encode(self, rows: pd.DataFrame, tokenizer: Any, limit: Longest) -> list[Encoded]:
        """Tokenise rows, none into more tokens than the longest input has. Raises UserError for one that may not be
        cut."""

    def shown(self, rows: pd.DataFrame) -> list[list[tuple[str, str]]]:
        """What a reader is shown of each row's input: texts, each with its name."""


class Rows(Inputs, Protocol):
    """What a row must hold."""

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns in which every row needs a value."""

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Those of them that hold text."""

    @property
    def list_columns(self) -> tuple[str, ...]:
        """Those that hold text, of which a value may be a list of texts too."""

    def named(self, names: Sequence[str] | None, where: str) -> tuple[str, ...] | None:
        """What the labels are called, in their order, by the data (`names`) and by the suite; None where neither says
        it, or there are none. Raises UserError where the two contradict."""

    def checked(self, rows: pd.DataFrame, where: str, names: Sequence[str] | None) -> pd.DataFrame:
        """The rows with labels as numbers. Raises UserError for the first row that has a wrong value; `where` names
        their place, `names` the labels in their order."""


class Answers(Inputs, Protocol):
    """How a row is answered. An answer is what the family's model gives for a row (twin_merging.model)."""

    def references(self, rows: pd.DataFrame) -> pd.Series:
        """The right answers, as predictions are stored beside them: a number a row, or a list of texts of which each is
        right."""

    @property
    def whole(self) -> WholeModel:
        """The kind of model that answers, with the task's own head where it has one."""

    @property
    def new_tokens(self) -> int:
        """How many tokens an answer may add to its input."""

    def choices(self, rows: pd.DataFrame) -> list[tuple[str, ...]]:
        """The possible answers to each row, in the order of `Encoded.options`; empty where there are none."""

    def said(self, value: Any, names: Sequence[str] | None = None) -> str:
        """A stored output or reference as a reader is shown it. names: the labels' in their order, where they have
        some."""

    def stored(self, answer: Any, choices: Sequence[str]) -> dict[str, Any]:
        """What is stored of an answer to a row with these choices, by column: `output`, and the family's `columns`."""

    def faults(self, stored: Mapping[str, Any], answer: Any, choices: Sequence[str], tolerance: float) -> Iterator[str]:
        """What is wrong with what was stored of an answer, where numbers may differ by a tolerance, each as a part of a
        sentence. answer: what the model answers once more (`TwinModel.answer_again`)."""


class Task(Rows, Answers, Protocol):
    """All that a suite says of a task's rows and answers."""

    @property
    def metric(self) -> str:
        """The name of a metric (twin_merging.scoring.metrics)."""

    @property
    def shots(self) -> int:
        """How many in-context examples an input begins with."""


class Trainable(Task, Protocol):
    """A task that the base can be fine-tuned on here."""

    def examples(self, rows: pd.DataFrame, tokenizer: Any, limit: Longest) -> list[Encoded]:
        """Each row as the Trainer takes it: its input with the right answer, and `labels` among the features."""
