"""Scores of texts, against an independent computation."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from nltk.stem.porter import PorterStemmer

from twin_merging.scoring.metrics import METRICS, score
from twin_merging.scoring.score import MODULE, score_predictions
from twin_merging.scoring.texts import TEXT_METRICS, plainly

OUTPUTS = [
    "The cats were sleeping on the mats near the door .",
    "police officers arrested two men in Paris on monday",
    "",
    "One word",
    "It's raining; the rivers are rising, rising and rising!",
]
REFERENCES = [
    ["Two dogs barked .", "A cat slept on the mat near a door . The cats were sleeping ."],
    ["Two men were arrested by the police officers in Paris on Monday ."],
    ["nothing is written here"],
    ["One"],
    ["The river is rising and rising while it's raining .", "Rain ."],
]


def pairs(text: str) -> Counter[tuple[str, str]]:
    """Neighbouring words in lower case, those of more than three letters stemmed."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    stem = PorterStemmer().stem
    stemmed = [stem(word) if len(word) > 3 else word for word in words]
    return Counter(pairwise(stemmed))


def f_measure(output: str, reference: str) -> float:
    own, other = pairs(output), pairs(reference)
    both = sum((own & other).values())
    if not both:
        return 0.0
    precision, recall = both / sum(own.values()), both / sum(other.values())
    return 2 * precision * recall / (precision + recall)


def test_rouge2_is_the_f_measure_of_stemmed_pairs_against_the_best_reference() -> None:
    wanted = [max(f_measure(output, one) for one in row) for output, row in zip(OUTPUTS, REFERENCES, strict=True)]
    assert 0 < sum(value > 0 for value in wanted) < len(wanted)
    assert score("rouge2", OUTPUTS, REFERENCES) == pytest.approx(sum(wanted) / len(wanted), abs=1e-12)


def test_exact_match_is_of_any_reference_letter_by_letter() -> None:
    outputs, references = ["a", "", "B", "7", "x y"], [["a"], [""], ["b", "B."], ["7.0", "7"], ["x  y"]]
    wanted = sum(output in row for output, row in zip(outputs, references, strict=True)) / 5
    assert score("exact_match", outputs, references) == wanted == 0.6


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The  Nile,", "nile"),
        ("a river of an Other theme", "river of other theme"),
        ("don't", "dont"),
        ("A", ""),
        ("B.", "b"),
        ("\u201cYes\u201d", "\u201cyes\u201d"),
    ],
)
def test_a_plain_form_has_no_case_punctuation_or_articles(text: str, wanted: str) -> None:
    assert plainly(text) == wanted
    assert score("quasi_exact_match", [text], [["no such text", f" {wanted.upper()} "]]) == 1
    assert score("quasi_exact_match", [text], [["no such text"]]) == 0


def test_stored_answers_are_scored_beside_lists_of_references(tmp_path: Path) -> None:
    table = pd.DataFrame({"task": "one", "row": range(5), "output": OUTPUTS, "reference": REFERENCES, "weights": None})
    table.to_parquet(tmp_path / "model.parquet", index=False)
    for metric in TEXT_METRICS:
        score_predictions({"m": tmp_path / "model.parquet"}, {"one": metric}, {"m": "none"}, tmp_path / "scores.csv")
        (found,) = pd.read_csv(tmp_path / "scores.csv")["value"]
        assert found == pytest.approx(score(metric, OUTPUTS, REFERENCES))


@pytest.mark.parametrize("metric", TEXT_METRICS)
def test_a_metric_of_texts_is_a_module_of_evaluate(metric: str) -> None:
    import evaluate

    assert metric in METRICS
    module: Any = evaluate.load(str(MODULE), metric)
    found = module.compute(predictions=OUTPUTS, references=REFERENCES)
    assert found == {metric: pytest.approx(score(metric, OUTPUTS, REFERENCES))}
    firsts = [row[0] for row in REFERENCES]
    assert module.compute(predictions=OUTPUTS, references=firsts)[metric] == pytest.approx(
        score(metric, OUTPUTS, firsts)
    )
