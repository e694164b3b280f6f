"""What every form of a prompt has: in-context examples, and the methods by which rows become prompts.

A prompt is made of blocks, one a row, with a separator between them: first an instruction where there is one, then the
examples, each with its answer, last the row that is asked. The forms are a text of the suite's own (`prompts.py`) and
the templates `multiple_choice.py` and `summary.py`.
"""

from __future__ import annotations

from string import Formatter
from typing import TYPE_CHECKING, Any

from pydantic import Field

from twin_merging.io.fields import Flag, Natural, problem
from twin_merging.io.validation import Model
from twin_merging.tasks.choices import Columns

if TYPE_CHECKING:
    import pandas as pd


class Form(Model):
    """A form of prompts. `target` and `options` are columns that the suite's task names beside a text of its own."""

    shots: Natural = Field(0, description="in-context examples before the row that is asked, drawn once a task")
    seed: Natural = Field(0, description="of the draw of in-context examples; HELM's is 0")
    chat: Flag = Field(
        False,
        description="write the prompt by the tokenizer's chat template: a user says each example and is answered, and "
        "says the row last",
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a block is made of."""
        raise NotImplementedError

    @property
    def answer_columns(self) -> tuple[str, ...]:
        """Other columns that say what the right answer is."""
        return ()

    @property
    def place_columns(self) -> tuple[str, ...]:
        """Those of them that say which option is right, and may hold numbers."""
        return ()

    @property
    def list_columns(self) -> tuple[str, ...]:
        """Columns that may hold lists of texts."""
        return ()

    @property
    def separator_of_blocks(self) -> str:
        return "\n\n"

    @property
    def before_answer(self) -> str:
        """What stands between a block and its answer, where the block does not end in white space."""
        return " "

    def instructions(self, rows: pd.DataFrame) -> list[str]:
        """What each row's prompt begins with; empty for nothing."""
        return [""] * len(rows)

    def blocks(self, rows: pd.DataFrame) -> list[str]:
        """Each row's own block, up to where its answer begins."""
        raise NotImplementedError

    def subjects(self, rows: pd.DataFrame) -> list[str]:
        """What each row is about: its examples are drawn from rows about the same."""
        return [""] * len(rows)

    def possible_examples(self, rows: pd.DataFrame) -> list[bool]:
        """Whether each row may be an in-context example."""
        return [True] * len(rows)

    def references(self, rows: pd.DataFrame, target: str, options: Columns | None) -> list[list[str]]:
        """The right answers to each row, first the one that an example shows."""
        raise NotImplementedError

    def labels(self, rows: pd.DataFrame, target: str, options: Columns | None) -> list[str]:
        """What the draw of examples covers in turn."""
        return [texts[0] for texts in self.references(rows, target, options)]

    def choices(self, rows: pd.DataFrame, options: Columns | None) -> list[tuple[str, ...]]:
        """The answers that each row offers."""
        raise NotImplementedError

    def checked(self, rows: pd.DataFrame, where: str) -> pd.DataFrame:
        """The rows, with right options as letters. Raises UserError for the first that does not fit the form."""
        return rows

    def plain(self) -> dict[str, Any]:
        """Without what only in-context examples are made by, where there are none."""
        unused = () if self.shots else ("seed", "separator", "example_words")
        return {key: value for key, value in super().plain().items() if key not in unused}

    def asked(self) -> dict[str, Any]:
        """What a prompt without examples is made by, as plain data: nothing of the right answer."""
        return self.plain()


def fields_of(text: str) -> tuple[str, ...]:
    """The names in braces of a text, in their order. Raises for what is no such text."""
    try:
        fields = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise problem(f"{text!r:.80} is no text with columns in braces: {error}") from None
    if not all(name.isidentifier() for name in fields):
        raise problem(f"{text!r:.80} names no column; write a column's name in braces, as {{question}}")
    return tuple(dict.fromkeys(fields))


def filled(text: str, rows: pd.DataFrame) -> list[str]:
    """The text with each row's values in the place of its columns' names."""
    columns = {name: rows[name].tolist() for name in fields_of(text)}
    return [text.format(**{name: values[row] for name, values in columns.items()}) for row in range(len(rows))]
