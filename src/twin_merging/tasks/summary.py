"""The template `summary`: HELM's form of an article that is to be summarised.

Source: HELM (Liang et al. 2022, arXiv 2211.09110), its scenario of CNN/DailyMail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from twin_merging.io.fields import ABSENT, FilledText, Positive
from twin_merging.io.validation import Model
from twin_merging.tasks.choices import Columns, texts_of
from twin_merging.tasks.forms import Form

if TYPE_CHECKING:
    import pandas as pd


class SummaryFields(Model):
    """The columns of an article and of its summary."""

    article: FilledText = Field("article", description="the column of the article")
    summary: FilledText = Field("summary", description="the column of the right summary, or of a list of right ones")


class _Template(Model):
    template: Literal["summary"] = Field(description="an article that is to be summarised")
    fields: SummaryFields = Field(SummaryFields(), description="the columns of an article and of its summary")
    words: Positive = Field(512, description="the first words of an article that are shown, as one line")
    sentences: Positive = Field(3, description="how many sentences are asked for")
    example_words: Annotated[tuple[Positive, ...] | None, Field(min_length=2, max_length=2), ABSENT] = Field(
        None,
        description="the least and the most words of an article that is an in-context example; without it any is, of "
        "HELM's CNN/DailyMail those of `[50, 150]`",
    )


class Summary(Form, _Template):  # the last base's keys come first
    """An article that is to be summarised."""

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.fields.article,)

    @property
    def answer_columns(self) -> tuple[str, ...]:
        return (self.fields.summary,)

    @property
    def list_columns(self) -> tuple[str, ...]:
        return (self.fields.summary,)

    @property
    def before_answer(self) -> str:
        return "\n"

    def blocks(self, rows: pd.DataFrame) -> list[str]:
        length = "1 sentence" if self.sentences == 1 else f"{self.sentences} sentences"
        return [
            f"###\nArticle: {_line(article, self.words)}\n\nSummarize the above article in {length}."
            for article in rows[self.fields.article].astype(str).tolist()
        ]

    def possible_examples(self, rows: pd.DataFrame) -> list[bool]:
        if self.example_words is None:
            return super().possible_examples(rows)
        least, most = self.example_words
        return [least <= len(text.split()) <= most for text in rows[self.fields.article].astype(str)]

    def references(self, rows: pd.DataFrame, target: str, options: Columns | None) -> list[list[str]]:
        return [[_line(text) for text in texts_of(value)] for value in rows[self.fields.summary].tolist()]

    def asked(self) -> dict[str, Any]:
        plain = super().asked()
        del plain["fields"]["summary"]
        return plain


def _line(text: str, words: int | None = None) -> str:
    """The first words of a text in one line."""
    return " ".join(text.split()[:words])
