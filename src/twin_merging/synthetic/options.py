"""What a suite may say of a generated base and of generated data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from twin_merging.errors import unknown
from twin_merging.io.fields import KINDS, Positive, PositiveReal, Text, problem
from twin_merging.io.validation import Model
from twin_merging.synthetic.generative.recipes import TASKS as PROMPTED_TASKS
from twin_merging.synthetic.recipes import TASKS

AtLeast8 = Annotated[int, Field(ge=8), KINDS]


class GeneratedBase(Model):
    """A small RoBERTa for encoders, or a small Llama for language models, pretrained on generated text."""

    sentences: Positive = Field(20000, description="lines of text")
    steps: Positive = Field(600, description="training steps")
    batch_size: Positive = Field(64, description="lines a step")
    learning_rate: PositiveReal = Field(0.001, description="the highest of the schedule")
    hidden_size: AtLeast8 = Field(128, description="width; a multiple of `heads`")
    layers: Positive = Field(3, description="depth")
    heads: Positive = Field(4, description="attention heads")
    max_length: AtLeast8 = Field(64, description="tokens of the longest line")

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.hidden_size % self.heads:
            raise problem(f"{self.hidden_size} must be a multiple of heads, {self.heads}", "hidden_size")
        return self


class _Task(Model):
    task: Text = Field(description="the generated task, see below")


class _Counts(Model):
    train: Positive = Field(2000, description="rows")
    validation: Positive = Field(300, description="rows")
    test: Positive = Field(400, description="rows")


class GeneratedRows(_Counts, _Task):  # the last base's keys come first
    """Rows of a generated task of encoders."""

    @field_validator("task")
    @classmethod
    def _is_a_task(cls, name: str) -> str:
        return _known(name, TASKS)


class PromptedRows(_Counts, _Task):
    """Rows of a generated task of language models."""

    @field_validator("task")
    @classmethod
    def _is_a_task(cls, name: str) -> str:
        return _known(name, PROMPTED_TASKS)


def _known(name: str, tasks: Iterable[str]) -> str:
    if name not in tasks:
        raise problem(unknown("generated task", name, tasks))
    return name
