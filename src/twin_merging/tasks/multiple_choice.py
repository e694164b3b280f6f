"""The template `multiple_choice`: HELM's form of a question with options, answered by a letter.

Source: HELM (Liang et al. 2022, arXiv 2211.09110), appendix J, and its scenarios of MMLU, TruthfulQA and BBQ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from twin_merging.errors import UserError
from twin_merging.io.fields import ABSENT, FilledText, problem
from twin_merging.io.validation import Model
from twin_merging.tasks.choices import (
    LETTERS,
    Columns,
    check_count,
    checked_places,
    named_columns,
    option_texts,
    right_places,
    texts_of,
)
from twin_merging.tasks.forms import Form, fields_of, filled

if TYPE_CHECKING:
    import pandas as pd

ANSWER = "answer"


class Fields(Model):
    """The columns that a question is made of."""

    question: FilledText = Field("question", description="the column of the question")
    options: Annotated[FilledText | Annotated[tuple[FilledText, ...], Field(min_length=2)] | None, ABSENT] = Field(
        None, description="the column that holds a list of options, or a list of columns, one an option"
    )
    answer: Annotated[FilledText | None, ABSENT] = Field(
        None,
        description="the column that says which option is right, by its number from 0, its letter, or its text; "
        "`answer` without it",
    )
    best: Annotated[FilledText | None, ABSENT] = Field(
        None, description="in the place of `options`, as in TruthfulQA: the column of the right answer"
    )
    incorrect: Annotated[FilledText | None, ABSENT] = Field(
        None, description="with `best`: the column of wrong answers, a list or a text with semicolons between them"
    )
    subject: Annotated[FilledText | None, ABSENT] = Field(
        None,
        description="the column of what the question is about: examples are drawn from rows about the same, and "
        "`{subject}` in the instruction is its text, with spaces for underscores",
    )
    passage: Annotated[FilledText | None, ABSENT] = Field(
        None, description="the column of a passage that stands before the question"
    )

    @model_validator(mode="after")
    def _options_are_of_one_kind(self) -> Self:
        pair = (self.best, self.incorrect)
        if (self.options is None) == (pair == (None, None)) or (self.options is None and None in pair):
            raise problem("give options, or both best and incorrect")
        if self.options is None and self.answer is not None:
            raise problem("best is the right answer; remove answer, or give options", ANSWER)
        return self


class _Template(Model):
    template: Literal["multiple_choice"] = Field(description="a question with options, answered by a letter")
    fields: Fields = Field(description="the columns that a question is made of")
    instruction: Annotated[FilledText | None, ABSENT] = Field(
        None, description="the first block, with names of columns in braces"
    )

    @field_validator("instruction")
    @classmethod
    def _names_columns(cls, instruction: str | None) -> str | None:
        fields_of(instruction or "")
        return instruction


class MultipleChoice(Form, _Template):  # the last base's keys come first
    """A question with options."""

    @property
    def columns(self) -> tuple[str, ...]:
        own = self.fields
        given = [own.passage, own.subject, own.question, *self._options, *self._of_instruction()]
        return tuple(dict.fromkeys(name for name in given if name))

    @property
    def _options(self) -> tuple[str, ...]:
        """The columns of options, or of wrong answers and the best one."""
        own = self.fields
        columns = named_columns(own.options) if own.options is not None else (own.incorrect, own.best)
        return tuple(name for name in columns if name is not None)

    @property
    def list_columns(self) -> tuple[str, ...]:
        own = self.fields.incorrect if self.fields.options is None else self.fields.options
        return (own,) if isinstance(own, str) else ()

    @property
    def _answer(self) -> str:
        return self.fields.answer or ANSWER

    @property
    def answer_columns(self) -> tuple[str, ...]:
        return (self._answer,) if self.fields.options else ()

    @property
    def place_columns(self) -> tuple[str, ...]:
        return self.answer_columns

    def _of_instruction(self) -> tuple[str, ...]:
        names = fields_of(self.instruction or "")
        return tuple(name for name in names if not (name == "subject" and self.fields.subject))

    def instructions(self, rows: pd.DataFrame) -> list[str]:
        if not self.instruction:
            return super().instructions(rows)
        if self.fields.subject:
            shown = rows[self.fields.subject].astype(str).str.replace("_", " ")
            rows = rows.assign(**{self.fields.subject: shown, "subject": shown})
        return filled(self.instruction, rows)

    def subjects(self, rows: pd.DataFrame) -> list[str]:
        return super().subjects(rows) if self.fields.subject is None else rows[self.fields.subject].astype(str).tolist()

    def blocks(self, rows: pd.DataFrame) -> list[str]:
        own = self.fields
        questions = rows[own.question].astype(str).tolist()
        passages = [None] * len(rows) if own.passage is None else rows[own.passage].astype(str).tolist()
        return [
            _block(passage, question.strip() if own.best else question, options)
            for passage, question, options in zip(passages, questions, self._texts(rows), strict=True)
        ]

    def _texts(self, rows: pd.DataFrame) -> list[tuple[str, ...]]:
        """The texts of each row's options."""
        own = self.fields
        if own.options is not None:
            return option_texts(rows, own.options)
        return [rotated(*pair) for pair in zip(rows[own.best].tolist(), rows[own.incorrect].tolist(), strict=True)]

    def _places(self, rows: pd.DataFrame) -> list[int]:
        """Which option of each row is right, counted from 0."""
        texts = self._texts(rows)
        if self.fields.options is None:
            best = rows[self.fields.best].astype(str).tolist()
            return [_place_of_best(one, len(row)) for one, row in zip(best, texts, strict=True)]
        return right_places(rows, texts, self._answer)

    def references(self, rows: pd.DataFrame, target: str, options: Columns | None) -> list[list[str]]:
        return [[LETTERS[place]] for place in self._places(rows)]

    def labels(self, rows: pd.DataFrame, target: str, options: Columns | None) -> list[str]:
        """The text of the right option, as in HELM."""
        return [row[place] for row, place in zip(self._texts(rows), self._places(rows), strict=True)]

    def choices(self, rows: pd.DataFrame, options: Columns | None) -> list[tuple[str, ...]]:
        return [tuple(LETTERS[: len(row)]) for row in self._texts(rows)]

    def checked(self, rows: pd.DataFrame, where: str) -> pd.DataFrame:
        if self.fields.options is not None:
            places = checked_places(rows, self._texts(rows), self._answer, where)
            return rows.assign(**{self._answer: [LETTERS[place] for place in places]})
        for row, best, incorrect in zip(rows.index, rows[self.fields.best], rows[self.fields.incorrect], strict=True):
            if not str(best).strip():
                raise UserError(f"{where}: row {row} has no text in column '{self.fields.best}'; fill it in")
            check_count(rotated(best, incorrect), f"{where}: row {row}")
        return rows

    def asked(self) -> dict[str, Any]:
        plain = super().asked()
        plain["fields"].pop(ANSWER, None)
        return plain


def _block(passage: str | None, question: str, options: tuple[str, ...]) -> str:
    lines = [] if passage is None else [f"Passage: {passage}"]
    lines += [f"Question: {question}", *(f"{letter}. {text}" for letter, text in zip(LETTERS, options, strict=False))]
    return "\n".join([*lines, "Answer:"])


# -- TruthfulQA's options


def rotated(best: object, incorrect: object) -> tuple[str, ...]:
    """The wrong answers and the best one behind them, each with a full stop at its end, rotated to the left by the
    number of the best one's first character: so the letter of the best one varies from row to row."""
    wrong = texts_of(incorrect) if not isinstance(incorrect, str) else tuple(incorrect.split(";"))
    texts = tuple(_with_full_stop(text) for text in (*wrong, str(best)) if text.strip())
    first = _turn(str(best), len(texts))
    return texts[first:] + texts[:first]


def _with_full_stop(text: str) -> str:
    text = text.strip()
    return text if text.endswith(".") else f"{text}."


def _turn(best: str, count: int) -> int:
    return ord(best.strip()[0]) % count


def _place_of_best(best: str, count: int) -> int:
    return (count - 1 - _turn(best, count)) % count
