"""How a row becomes a language model's input: the first view of a task of generation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, PrivateAttr, model_validator

from twin_merging.io.fields import ABSENT, FilledText, problem
from twin_merging.io.validation import Model
from twin_merging.tasks.asking import Question, encoded_questions
from twin_merging.tasks.lengths import check_length
from twin_merging.tasks.prompts import AnyPrompt, TextPrompt
from twin_merging.tasks.shots import Examples, read_examples
from twin_merging.tasks.task import Encoded, Longest

if TYPE_CHECKING:
    import pandas as pd

TARGET = "answer"


class Prompts(Model):
    """How a row becomes a model's input."""

    prompt: AnyPrompt = Field(
        description="a text with names of columns in braces, or a mapping: see [`prompt`](#prompt)"
    )
    target: Annotated[FilledText | None, ABSENT] = Field(
        None,
        description="for a text of its own: the column that holds the right answer, or a list of right ones; `answer` "
        "without it",
    )
    options: Annotated[FilledText | Annotated[tuple[FilledText, ...], Field(min_length=2)] | None, ABSENT] = Field(
        None,
        description="for a text of its own with `answer: likelihood`: the column that holds a list of possible "
        "answers, or a list of columns; the target is then one of the texts, its number from 0, or its letter",
    )
    _examples: Examples | None = PrivateAttr(None)

    @model_validator(mode="before")
    @classmethod
    def _with_target(cls, content: Any) -> Any:
        if not isinstance(content, Mapping) or not _is_text(content.get("prompt")):
            return content
        return {**content, "target": content.get("target", TARGET)}

    @model_validator(mode="after")
    def _a_template_names_its_columns(self) -> Self:
        for key in ("target", "options"):
            if not isinstance(self.prompt, TextPrompt) and getattr(self, key) is not None:
                raise problem("a template names its columns in prompt.fields; remove this key", key)
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the prompt is made of, in its order."""
        return self.prompt.columns

    @property
    def _target(self) -> str:
        return self.target or TARGET

    def beside(self, folder: Path) -> Self:
        """The same view with its in-context examples, which are drawn from the split `shots` in the folder of the
        task's data, or from train where there is none."""
        if not self.prompt.shots:
            return self
        found = self.model_copy()
        found._examples = read_examples(folder, self.prompt, self._target, self.options)
        return found

    def questions(self, rows: pd.DataFrame) -> list[Question]:
        """Each row as it is asked, with all its in-context examples. A row is never its own example."""
        form = self.prompt
        if form.shots and self._examples is None:
            raise RuntimeError("in-context examples were not read: call `beside` with the folder of the task's data")
        parts = zip(form.instructions(rows), form.subjects(rows), form.blocks(rows), strict=True)
        return [
            Question(instruction, () if self._examples is None else self._examples.before(subject, block), block)
            for instruction, subject, block in parts
        ]

    def texts(self, rows: pd.DataFrame) -> list[str]:
        """The prompt of each row, as it stands before a chat template and with all its examples."""
        return [question.text(self.prompt.separator_of_blocks) for question in self.questions(rows)]

    def shown(self, rows: pd.DataFrame) -> list[list[tuple[str, str]]]:
        """The prompt of each row without its in-context examples, of which it is said how many there are."""
        form = self.prompt
        name = f"prompt, without its {form.shots} examples" if form.shots else "prompt"
        parts = zip(form.instructions(rows), form.blocks(rows), strict=True)
        return [[(name, form.separator_of_blocks.join(filter(None, part)))] for part in parts]

    def encode(self, rows: pd.DataFrame, tokenizer: Any, limit: Longest) -> list[Encoded]:
        """One prompt a row. One that does not fit loses in-context examples from the last one on. Nothing else of a
        prompt is cut off: a longer one is an error."""
        return self._encode(rows, [()] * len(rows), tokenizer, limit)

    def _encode(
        self,
        rows: pd.DataFrame,
        answers: Sequence[Sequence[str]],
        tokenizer: Any,
        limit: Longest,
        ending: tuple[int, ...] = (),
    ) -> list[Encoded]:
        """Prompts with what may stand behind them, and an ending behind that."""
        questions = self.questions(rows)
        found = encoded_questions(questions, answers, self.prompt, tokenizer, limit, ending)
        for row, question, example in zip(rows.index, questions, found, strict=True):
            alone = " without in-context examples" if question.examples else ""
            with_answer = " with its longest answer" if example.options else ""
            check_length(example, limit, f"row {row}: its prompt, {question.block!r:.40},{alone}{with_answer}")
        return found


def _is_text(prompt: Any) -> bool:
    """Whether a prompt is a text of the suite's own, as far as can be told before it is checked."""
    if isinstance(prompt, (str, TextPrompt)):
        return True
    return isinstance(prompt, Mapping) and "template" not in prompt
