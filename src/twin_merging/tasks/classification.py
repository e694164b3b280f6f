"""Encoders' tasks: a text or a pair of texts gets one of several labels, or one real number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from twin_merging.checkpoints.kinds import Classifier
from twin_merging.errors import UserError
from twin_merging.io.fields import Positive, Text, problem
from twin_merging.io.validation import Model
from twin_merging.tasks.family import Family, told
from twin_merging.tasks.lengths import tokenised
from twin_merging.tasks.rows import first_row
from twin_merging.tasks.task import Encoded, Longest

if TYPE_CHECKING:
    import pandas as pd
    import torch

LABEL = "label"  # the column that holds the right answer
BINARY_METRICS = ("matthews_correlation", "accuracy_f1")


class Texts(Model):
    """How a row becomes a model's input."""

    text: Annotated[tuple[Text, ...], Field(min_length=1, max_length=2)] = Field(
        ("sentence",), description="the column that is read, or two columns for a pair of texts"
    )

    @property
    def columns(self) -> tuple[str, ...]:
        return self.text

    def encode(self, rows: pd.DataFrame, tokenizer: Any, limit: Longest) -> list[Encoded]:
        """One text or pair a row; what is longer than the limit is cut."""
        return tokenised(tokenizer, [rows[column].astype(str).tolist() for column in self.text], limit)


class Labelled(Texts):
    """And what a row must hold, which also says how a model answers."""

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

    @property
    def needed(self) -> tuple[str, ...]:
        return (*self.text, LABEL)

    def check(self, rows: pd.DataFrame, where: str) -> None:
        import pandas as pd

        if self.is_regression:
            wrong, allowed = ~pd.to_numeric(rows[LABEL], errors="coerce").abs().lt(float("inf")), "finite numbers"
        else:
            wrong, allowed = ~rows[LABEL].isin(range(self.labels)), f"0 to {self.labels - 1}"
        row = first_row(wrong)
        if row is not None:
            raise UserError(
                f"{where}: row {row} has label {rows[LABEL].iloc[row]!s:.40}; labels: {self.labels} allows {allowed}"
            )

    def references(self, rows: pd.DataFrame) -> pd.Series:
        return rows[LABEL].astype(float)

    def output_of(self, answer: torch.Tensor) -> float:
        """The value of a regression, else the label of the largest logit.

        answer: logits (largest label count,). Under a routed head the answer may come from a head of another size; then
        it is that head's label, as it is.
        """
        return float(answer[0]) if self.is_regression else float(answer.argmax())

    def agrees(self, output: float, answer: torch.Tensor, tolerance: float) -> bool:
        """A value within the tolerance; a label whose logit is the largest, or within the tolerance of it."""
        if self.is_regression:
            return abs(output - float(answer[0])) <= tolerance * max(1.0, abs(output))
        label = int(output)
        if label != output or not 0 <= label < len(answer):
            return False
        return float(answer.max() - answer[label]) <= tolerance


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

    # What each stage's output depends on, as plain data: the part of the task that becomes the job's parameters.

    def read_as(self) -> dict[str, Any]:
        """How a row becomes a model's input."""
        return told(self, Texts)

    def rows(self) -> dict[str, Any]:
        """What a row must hold."""
        return told(self, Labelled)

    def answered_as(self) -> dict[str, Any]:
        """How a row is read and answered."""
        return told(self, Labelled)

    def trained_on(self) -> dict[str, Any]:
        """What fine-tuning needs: how a row is read, what its answer is, and how answers are scored."""
        return told(self, Classification)

    def targets(self, rows: pd.DataFrame) -> list[Any]:
        """Labels as whole numbers, from which the Trainer takes the loss of a classifier; values as numbers."""
        kind = float if self.is_regression else int
        return [kind(label) for label in rows[LABEL].tolist()]

    def outputs(self, predictions: Any) -> list[Any]:
        """Labels or values from logits (rows, labels)."""
        return (predictions.reshape(-1) if self.is_regression else predictions.argmax(-1)).tolist()


_USAGE = """```python
from transformers import AutoTokenizer
from twin_merging import TwinModel  # pip install twin-merging

model, tokenizer = TwinModel.from_pretrained(DIR), AutoTokenizer.from_pretrained(DIR)
batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
output = model(**batch{tasks})  # logits{weights}
```"""


def usage(tasks: Sequence[str], is_routed: bool) -> str:
    """How a model card says that a model is used. A model without a router is told the task of each text."""
    named = "" if is_routed else f", tasks=[{tasks[0]!r}] * len(TEXTS)"
    return _USAGE.format(tasks=named, weights=", and weights: the router's, one row for each text" if is_routed else "")


FAMILY = Family(
    name="encoder",
    inputs=Texts,
    rows=Labelled,
    answers=Labelled,
    task=Classification,
    methods=("static", "masked", "dynamic"),
    statistics=("fisher", "gram-matrices"),
    usage=usage,
)
