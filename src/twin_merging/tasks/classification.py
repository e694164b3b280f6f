"""Encoders' tasks: a text or a pair of texts gets one of several labels, or one real number."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from twin_merging.io.validation import Model, Positive, Text, problem

BINARY_METRICS = ("matthews_correlation", "accuracy_f1")


class Classification(Model):
    """What a suite says of a task's rows."""

    text: Annotated[tuple[Text, ...], Field(min_length=1, max_length=2)] = Field(
        ("sentence",), description="the column that is read, or two columns for a pair of texts"
    )
    labels: Positive = Field(description="how many classes; `1` is a regression")
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
        return {"text": list(self.text)}

    def rows(self) -> dict[str, Any]:
        """What a row must hold."""
        return {"text": list(self.text), "labels": self.labels}

    def answered_as(self) -> dict[str, Any]:
        """How a row is read and answered."""
        return self.rows()

    def trained_on(self) -> dict[str, Any]:
        """What fine-tuning needs: how a row is read, what its answer is, and how answers are scored."""
        return {**self.rows(), "metric": self.metric}
