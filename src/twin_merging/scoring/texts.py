"""Metrics of texts: each answer against the references of its row, of which the best counts. Each gives a value for
every row, from 0 to 1; the metric is their mean."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence

References = Sequence[Sequence[str]]  # of each row, one or several
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(outputs: Sequence[str], references: References) -> list[float]:
    """1 for an answer that is one of its references, letter by letter, else 0."""
    return _best(outputs, references, lambda output, reference: float(output == reference))


def quasi_exact_match(outputs: Sequence[str], references: References) -> list[float]:
    """The same after both are brought into a plain form. Source: SQuAD's rule (Rajpurkar et al. 2016, arXiv
    1606.05250), which HELM calls quasi-exact match."""
    return _best(outputs, references, lambda output, reference: float(plainly(output) == plainly(reference)))


def plainly(text: str) -> str:
    """A text in lower case, without punctuation (ASCII's), without the articles a, an and the, its words divided by
    single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def rouge2(outputs: Sequence[str], references: References) -> list[float]:
    """The F measure of pairs of neighbouring words, stemmed by Porter's rules. Source: Lin 2004, ROUGE, by the package
    `rouge-score`."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge2"], use_stemmer=True)
    return _best(outputs, references, lambda output, reference: scorer.score(reference, output)["rouge2"].fmeasure)


def _best(outputs: Sequence[str], references: References, value: Callable[[str, str], float]) -> list[float]:
    return [max(value(output, reference) for reference in row) for output, row in zip(outputs, references, strict=True)]


TEXT_METRICS: dict[str, Callable[[Sequence[str], References], list[float]]] = {
    "exact_match": exact_match,
    "quasi_exact_match": quasi_exact_match,
    "rouge2": rouge2,
}
