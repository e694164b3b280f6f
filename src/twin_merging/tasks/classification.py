"""Encoders' tasks: a text or a pair of texts gets one of several labels, or one real number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from twin_merging.checkpoints.kinds import Classifier
from twin_merging.checkpoints.label_names import comparable, named, order_of
from twin_merging.errors import UserError
from twin_merging.io.fields import ABSENT, FilledText, Positive, Text, problem
from twin_merging.io.validation import Model
from twin_merging.tasks.family import Family, told
from twin_merging.tasks.labels import class_numbers, real_numbers
from twin_merging.tasks.lengths import tokenised
from twin_merging.tasks.rows import LABEL
from twin_merging.tasks.task import Encoded, Longest

if TYPE_CHECKING:
    import pandas as pd
    import torch

BINARY_METRICS = ("matthews_correlation", "accuracy_f1")


class Texts(Model):
    """How a row becomes a model's input."""

    text: Annotated[tuple[Text, ...], Field(min_length=1, max_length=2)] = Field(
        ("sentence",), description="the column that is read, or two columns for a pair of texts"
    )

    @property
    def columns(self) -> tuple[str, ...]:
        return self.text

    def beside(self, folder: Path) -> Self:
        return self

    def encode(self, rows: pd.DataFrame, tokenizer: Any, limit: Longest) -> list[Encoded]:
        """One text or pair a row; what is longer than the limit is cut."""
        return tokenised(tokenizer, [rows[column].astype(str).tolist() for column in self.text], limit)

    def shown(self, rows: pd.DataFrame) -> list[list[tuple[str, str]]]:
        """The texts of each row, by their columns."""
        return [
            list(zip(self.text, map(str, texts), strict=True))
            for texts in zip(*(rows[column].tolist() for column in self.text), strict=True)
        ]


class Answered(Texts):
    """And how a model answers."""

    labels: Positive = Field(description="how many classes; `1` is a regression")

    @property
    def is_regression(self) -> bool:
        return self.labels == 1

    @property
    def whole(self) -> Classifier:
        return Classifier(self.labels)

    @property
    def new_tokens(self) -> int:
        return 0

    def references(self, rows: pd.DataFrame) -> pd.Series:
        return rows[LABEL].astype(float)

    def choices(self, rows: pd.DataFrame) -> list[tuple[str, ...]]:
        """A classifier is shown none."""
        return [()] * len(rows)

    def said(self, value: float, names: Sequence[str] | None = None) -> str:
        """A value with two digits; a label by its name. A routed head may give a label that the task has not."""
        if self.is_regression:
            return f"{value:.2f}"
        label = int(value)
        return names[label] if names and 0 <= label < len(names) else f"label {label}"

    def stored(self, answer: torch.Tensor, choices: Sequence[str]) -> dict[str, Any]:
        """The value of a regression, else the label of the largest logit.

        answer: logits (largest label count,). Under a routed head the answer may come from a head of another size; then
        it is that head's label, as it is.
        """
        return {"output": float(answer[0]) if self.is_regression else float(answer.argmax())}

    def faults(
        self, stored: Mapping[str, Any], answer: torch.Tensor, choices: Sequence[str], tolerance: float
    ) -> Iterator[str]:
        if not self._agrees(stored["output"], answer, tolerance):
            again = self.stored(answer, choices)["output"]
            yield f"output {stored['output']:g} is written, the model answers {again:g}"

    def _agrees(self, output: float, answer: torch.Tensor, tolerance: float) -> bool:
        """A value within the tolerance; a label whose logit is the largest, or within the tolerance of it."""
        if self.is_regression:
            return abs(output - float(answer[0])) <= tolerance * max(1.0, abs(output))
        label = int(output)
        if label != output or not 0 <= label < len(answer):
            return False
        return float(answer.max() - answer[label]) <= tolerance


class Labelled(Answered):
    """And what a row must hold. What the labels are called is told to the fetch of rows and experts alone, which store
    both in one order of labels."""

    label_names: Annotated[tuple[FilledText, ...] | None, Field(min_length=2), ABSENT] = Field(
        None,
        description="what the labels 0, 1, ... are called, where the data does not say it, or in the words of the "
        "expert's `id2label`",
    )

    @model_validator(mode="after")
    def _a_name_for_each_label(self) -> Self:
        names = self.label_names
        if names is not None and len(names) != self.labels:
            raise problem(f"{len(names)} names for labels: {self.labels}; name each label once", "label_names")
        if names is not None and len({comparable(name) for name in names}) < len(names):
            raise problem("two names are the same; name each label once", "label_names")
        return self

    @property
    def needed(self) -> tuple[str, ...]:
        return (*self.text, LABEL)

    @property
    def text_columns(self) -> tuple[str, ...]:
        return self.text

    @property
    def list_columns(self) -> tuple[str, ...]:
        return ()

    def named(self, names: Sequence[str] | None, where: str) -> tuple[str, ...] | None:
        """The suite's names come first: they may be other words than the data's, but not the same in another order."""
        of_data = named(names) if names is not None and len(names) == self.labels > 1 else None
        if self.label_names is None or of_data is None:
            return self.label_names or of_data
        if order_of(of_data, self.label_names) not in (None, list(range(self.labels))):
            raise UserError(
                f"{where}: its labels are {', '.join(of_data)}, but label_names of the suite's task are "
                f"{', '.join(self.label_names)}, the same in another order; remove label_names"
            )
        return self.label_names

    def checked(self, rows: pd.DataFrame, where: str, names: Sequence[str] | None) -> pd.DataFrame:
        labels = rows[LABEL]
        numbers: Sequence[float] = (
            real_numbers(labels, where) if self.is_regression else class_numbers(labels, self.labels, names, where)
        )
        return rows.assign(**{LABEL: numbers})


class Classification(Labelled):
    """What a suite says of a task's rows."""

    metric: Literal["accuracy", "matthews_correlation", "accuracy_f1", "pearson_spearman"] = Field(
        description="how answers are scored, see below"
    )

    @model_validator(mode="after")
    def _metric_fits_labels(self) -> Self:
        if self.metric == "pearson_spearman" and self.labels != 1:
            raise problem(f"metric pearson_spearman is for a regression; set labels: 1, not {self.labels}")
        if self.metric != "pearson_spearman" and self.labels == 1:
            raise problem(f"labels: 1 is a regression, which metric {self.metric} cannot score; use pearson_spearman")
        if self.metric in BINARY_METRICS and self.labels != 2:
            raise problem(f"metric {self.metric} needs labels: 2, not {self.labels}")
        return self

    @property
    def shots(self) -> int:
        return 0

    # What each stage's output depends on, as plain data: the part of the task that becomes the job's parameters.

    def read_as(self) -> dict[str, Any]:
        """How a row becomes a model's input."""
        return told(self, Texts)

    def rows(self) -> dict[str, Any]:
        """What a row must hold."""
        return told(self, Labelled)

    def answered_as(self) -> dict[str, Any]:
        """How a row is read and answered."""
        return told(self, Answered)

    def trained_on(self) -> dict[str, Any]:
        """What fine-tuning needs: how a row is read, what its answer is, and how answers are scored."""
        return {key: value for key, value in told(self, Classification).items() if key != "label_names"}

    def examples(self, rows: pd.DataFrame, tokenizer: Any, limit: Longest) -> list[Encoded]:
        """Labels as whole numbers, from which the Trainer takes the loss of a classifier; values as numbers."""
        kind = float if self.is_regression else int
        encoded = self.encode(rows, tokenizer, limit)
        labels = [kind(label) for label in rows[LABEL].tolist()]
        return [
            replace(one, features={**one.features, "labels": label}) for one, label in zip(encoded, labels, strict=True)
        ]


_USAGE = """```python
from transformers import AutoTokenizer
from twin_merging import TwinModel  # pip install twin-merging

model, tokenizer = TwinModel.from_pretrained(DIR), AutoTokenizer.from_pretrained(DIR)
batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
output = model(**batch{tasks})  # logits{weights}
```"""


def usage(tasks: Sequence[str], is_routed: bool, reads_text: bool = False) -> str:
    """How a model card says that a model is used. A model without a router is told the task of each text, and one whose
    router reads n-grams is given the texts too."""
    named = ", texts=TEXTS" * reads_text if is_routed else f", tasks=[{tasks[0]!r}] * len(TEXTS)"
    return _USAGE.format(tasks=named, weights=", and weights: the router's, one row for each text" if is_routed else "")


FAMILY = Family(
    name="encoder",
    inputs=Texts,
    rows=Labelled,
    answers=Answered,
    task=Classification,
    methods=("static", "masked", "dynamic"),
    statistics=("fisher", "gram-matrices", "merged-grams", "coefficients"),
    features=("segments", "text"),
    usage=usage,
)
