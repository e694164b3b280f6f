"""What a suite of language models says of its evaluation with lm-eval: which tasks, and how much of them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from twin_merging.io.fields import ABSENT, KINDS, FilledText, Positive, problem
from twin_merging.io.validation import Model

_Names = Annotated[tuple[FilledText, ...], Field(min_length=1)]


class LmEval(Model):
    """Evaluation of the suite's models on tasks of lm-eval (docs/lm-eval.md)."""

    tasks: _Names = Field(description="names of lm-eval tasks or groups of tasks")
    include_path: Annotated[str | None, Field(min_length=1), ABSENT] = Field(
        None,
        description="a folder with task files of your own and the rows that they read; absent, the tasks are lm-eval's "
        "own, which fetch their rows from the Hub",
    )
    num_fewshot: Annotated[int | None, Field(ge=0), ABSENT] = Field(
        None,
        description="solved examples before each question; absent, as many as the task says; one that says 0 has none",
    )
    limit: Annotated[int | None, Field(ge=1), KINDS] = Field(
        None, description="the first rows of each task that are asked; `null` is all"
    )
    batch_size: Positive = Field(16, description="rows a batch")
    models: Annotated[tuple[FilledText, ...] | None, Field(min_length=1), ABSENT] = Field(
        None, description="the models that are evaluated, by name; absent, all of the suite"
    )

    @field_validator("tasks", "models")
    @classmethod
    def _names_each_once(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for place, name in enumerate(names or ()):
            if name in (names or ())[:place]:
                raise problem(f"'{name}' stands twice; name it once")
        return names

    def asked(self) -> dict[str, Any]:
        """What one model is asked: all but which models there are."""
        return {key: value for key, value in self.plain().items() if key != "models"}
