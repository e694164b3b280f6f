"""The suites' metrics as an `evaluate` module: evaluate.load(<this file>, "<metric>"). Nothing is downloaded."""

from typing import Any

import datasets
import evaluate

from twin_merging.scoring.metrics import METRICS, TEXT_METRICS, score


class SuiteMetric(evaluate.Metric):
    """One of the suites' metrics, chosen by the configuration's name."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in METRICS:
            raise KeyError(f"unknown metric '{self.config_name}'; allowed: {', '.join(METRICS)}")
        value = datasets.Value("string" if self.config_name in TEXT_METRICS else "float64")
        return evaluate.MetricInfo(
            description="Accuracy, Matthews correlation, accuracy and F1, correlations; exact match of texts.",
            citation="",
            inputs_description="predictions, references: labels, values of a regression, or texts",
            features=datasets.Features({"predictions": value, "references": value}),
        )

    def _compute(self, predictions: list[Any], references: list[Any]) -> dict[str, float]:
        return {self.config_name: score(self.config_name, predictions, references)}
