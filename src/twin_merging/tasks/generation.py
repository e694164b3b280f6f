"""Language models' tasks: a prompt is made from a row, and the text that the model writes is compared with the answer."""

from __future__ import annotations

from string import Formatter
from typing import Any, Literal

from pydantic import Field, field_validator

from twin_merging.io.validation import FilledText, Model, Positive, problem


class Ending(Model):
    """When a model stops to write."""

    max_new_tokens: Positive = Field(16, description="tokens of the longest answer")
    stop: tuple[FilledText, ...] = Field((), description="texts that end an answer")


class Generation(Model):
    """What a suite says of a task's rows."""

    prompt: FilledText = Field(description="the prompt: a text with names of columns in braces")
    answer: Literal["text"] = Field("text", description="what counts as the answer: the text that is written")
    target: FilledText = Field("answer", description="the column that holds the right answer")
    generation: Ending = Field(Ending(), description="when the model stops to write")
    metric: Literal["exact_match"] = Field(description="how answers are scored, see below")

    @field_validator("prompt")
    @classmethod
    def _has_columns(cls, prompt: str) -> str:
        try:
            fields = [name for _, name, _, _ in Formatter().parse(prompt) if name is not None]
        except ValueError as error:
            raise problem(f"{prompt!r:.80} is no text with columns in braces: {error}") from None
        if not fields or not all(name.isidentifier() for name in fields):
            raise problem(f"{prompt!r:.80} names no column; write a column's name in braces, as {{question}}")
        return prompt

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the prompt is made of, in its order."""
        return tuple(dict.fromkeys(name for _, name, _, _ in Formatter().parse(self.prompt) if name))

    @property
    def labels(self) -> int:
        """A language model has no head of its own for a task."""
        return 0

    # What each stage's output depends on, as plain data: the part of the task that becomes the job's parameters.

    def read_as(self) -> dict[str, Any]:
        """How a row becomes a model's input."""
        return {"prompt": self.prompt}

    def rows(self) -> dict[str, Any]:
        """What a row must hold."""
        return {"prompt": self.prompt, "target": self.target}

    def answered_as(self) -> dict[str, Any]:
        """How a row is read and answered."""
        return {**self.rows(), "answer": self.answer, "generation": self.generation.plain()}

    def trained_on(self) -> dict[str, Any]:
        """What fine-tuning needs: how a row is read, what its answer is, and how answers are scored."""
        return {**self.answered_as(), "metric": self.metric}
