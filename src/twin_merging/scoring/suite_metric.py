"""The suites' metrics as an `evaluate` module: evaluate.load(<this file>, "<metric>"). Nothing is downloaded."""

from typing import Any

import datasets
import evaluate

from twin_merging.scoring.metrics import METRICS, score
from twin_merging.scoring.texts import TEXT_METRICS


class SuiteMetric(evaluate.Metric):
    """One of the suites' metrics, chosen by the configuration's name."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in METRICS:
            raise KeyError(f"unknown metric '{self.config_name}'; allowed: {', '.join(METRICS)}")
        number, text = datasets.Value("float64"), datasets.Value("string")
        forms = [(text, [text]), (text, text)] if self.config_name in TEXT_METRICS else [(number, number)]
        return evaluate.MetricInfo(
            description="Accuracy, Matthews correlation, accuracy and F1, correlations; of texts exact and quasi-exact "
            "match and ROUGE-2.",
            citation="",
            inputs_description="predictions, references: labels, values of a regression, or texts; of a text's "
            "references also a list, of which the best counts",
            features=[datasets.Features({"predictions": one, "references": other}) for one, other in forms],
        )

    def _compute(self, predictions: list[Any], references: list[Any]) -> dict[str, float]:
        return {self.config_name: score(self.config_name, predictions, references)}
