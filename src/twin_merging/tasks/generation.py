"""Language models' tasks: a row becomes a prompt, and the text that the model writes is compared with the answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, field_validator

from twin_merging.checkpoints.kinds import LanguageModel
from twin_merging.io.fields import FilledText, Positive, problem
from twin_merging.io.validation import Model
from twin_merging.tasks.family import Family, told
from twin_merging.tasks.lengths import check_length
from twin_merging.tasks.task import Encoded, Longest

if TYPE_CHECKING:
    import pandas as pd

READ = ("input_ids", "attention_mask")  # what a language model takes of what a tokenizer gives


class Ending(Model):
    """When a model stops to write."""

    max_new_tokens: Positive = Field(16, description="tokens of the longest answer")
    stop: tuple[FilledText, ...] = Field((), description="texts that end an answer")

    def cut(self, text: str) -> str:
        """What stands before the first text that ends an answer, without spaces around it."""
        ends = [place for stop in self.stop if (place := text.find(stop)) >= 0]
        return text[: min(ends, default=len(text))].strip()


class Prompts(Model):
    """How a row becomes a model's input."""

    prompt: FilledText = Field(description="the prompt: a text with names of columns in braces")

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

    def beside(self, folder: Path) -> Self:
        return self

    def texts(self, rows: pd.DataFrame) -> list[str]:
        """The prompt of each row."""
        columns = {name: rows[name].tolist() for name in self.columns}
        return [
            self.prompt.format(**{name: values[row] for name, values in columns.items()}) for row in range(len(rows))
        ]

    def encode(self, rows: pd.DataFrame, tokenizer: Any, limit: Longest) -> list[Encoded]:
        """One prompt a row. Nothing of a prompt is cut off: a longer one is an error."""
        encoded = tokenizer(self.texts(rows), truncation=False, verbose=False)
        examples = [Encoded({key: encoded[key][row] for key in READ}) for row in range(len(rows))]
        for row, example in zip(rows.index, examples, strict=True):
            check_length(example, limit, f"row {row}: its prompt, {self.prompt!r:.40},")
        return examples


class Asked(Prompts):
    """And what a row must hold."""

    target: FilledText = Field("answer", description="the column that holds the right answer")

    @property
    def needed(self) -> tuple[str, ...]:
        return (*self.columns, self.target)

    @property
    def text_columns(self) -> tuple[str, ...]:
        return self.needed

    def named(self, names: Sequence[str] | None, where: str) -> None:
        """A language model has no labels."""

    def checked(self, rows: pd.DataFrame, where: str, names: Sequence[str] | None) -> pd.DataFrame:
        """Any text can stand in a prompt or be an answer."""
        return rows

    def references(self, rows: pd.DataFrame) -> pd.Series:
        return rows[self.target].astype(str).str.strip()


class Answered(Asked):
    """And how the model answers. An answer is the text that it writes."""

    answer: Literal["text"] = Field("text", description="what counts as the answer: the text that is written")
    generation: Ending = Field(Ending(), description="when the model stops to write")

    @property
    def whole(self) -> LanguageModel:
        return LanguageModel()

    @property
    def new_tokens(self) -> int:
        return self.generation.max_new_tokens

    def output_of(self, answer: str) -> str:
        return answer

    def agrees(self, output: str, answer: str, tolerance: float) -> bool:
        """Texts have no tolerance."""
        return output == answer


class Generation(Answered):
    """What a suite says of a task's rows."""

    metric: Literal["exact_match"] = Field(description="how answers are scored, see below")

    # What each stage's output depends on, as plain data: the part of the task that becomes the job's parameters.

    def read_as(self) -> dict[str, Any]:
        """How a row becomes a model's input."""
        return told(self, Prompts)

    def rows(self) -> dict[str, Any]:
        """What a row must hold."""
        return told(self, Asked)

    def answered_as(self) -> dict[str, Any]:
        """How a row is read and answered."""
        return told(self, Answered)

    def trained_on(self) -> dict[str, Any]:
        """What fine-tuning needs: how a row is read, what its answer is, and how answers are scored."""
        return told(self, Generation)


_USAGE = """```python
from transformers import AutoTokenizer
from twin_merging import TwinModel  # pip install twin-merging

model, tokenizer = TwinModel.from_pretrained(DIR), AutoTokenizer.from_pretrained(DIR, padding_side="left")
batch = tokenizer(PROMPTS, padding=True, return_tensors="pt")
tokens = model.generate(**batch, max_new_tokens=16, do_sample=False)
```"""


def usage(tasks: Sequence[str], is_routed: bool) -> str:
    """How a model card says that a model is used: nobody tells it the task of a prompt, since no task has parameters
    of its own."""
    return _USAGE


FAMILY = Family(
    name="decoder",
    inputs=Prompts,
    rows=Asked,
    answers=Answered,
    task=Generation,
    methods=("static", "dynamic"),
    statistics=(),
    usage=usage,
    lora_spaces=("product", "factor"),
    same={"reference": "strict"},  # which says what a task with a head of its own keeps beside it
)
