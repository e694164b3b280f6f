"""The suites' metrics as an `evaluate` module: evaluate.load(<this file>, "<metric>"). Nothing is downloaded."""

import datasets
import evaluate

from twin_merging.scoring.metrics import METRICS, score


class SuiteMetric(evaluate.Metric):
    """One of the suites' metrics, chosen by the configuration's name."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in METRICS:
            raise KeyError(f"unknown metric '{self.config_name}'; allowed: {', '.join(METRICS)}")
        value = datasets.Value("float64")
        return evaluate.MetricInfo(
            description="Metrics of the GLUE tasks (accuracy, Matthews correlation, accuracy and F1, correlations).",
            citation="",
            inputs_description="predictions, references: labels, or values of a regression",
            features=datasets.Features({"predictions": value, "references": value}),
        )

    def _compute(self, predictions: list[float], references: list[float]) -> dict[str, float]:
        return {self.config_name: score(self.config_name, predictions, references)}
