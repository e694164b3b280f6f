"""Task: does a remark praise or blame? Negations and contrasts have to be taken into account."""

from __future__ import annotations

from random import Random

from twin_merging.synthetic import words
from twin_merging.synthetic.grammar import chance, join, other

_MISTAKES = 0.05
_NEGATED = 0.28
_AFFIRM = ("", "very", "truly")
_NEGATE = ("not", "never", "hardly")
_PRAISE, _BLAME = words.PRAISE[:6], words.BLAME[:6]


def sentiment(rng: Random) -> tuple[tuple[str, ...], int]:
    """Draw a remark, and the label 1 if it praises on the whole, 0 if it blames.

    A negation reverses a judgement. If a remark has two different judgements, the one after "but" decides, or the one
    that is not behind "although". Some labels are wrong on purpose, as an annotator's labels are.
    """
    polarity = int(chance(rng, 0.5))
    label = 1 - polarity if chance(rng, _MISTAKES) else polarity
    return (_remark(rng, polarity),), label


def _remark(rng: Random, polarity: int) -> str:
    topic = rng.choice(words.TOPICS)
    kind = rng.choice(("plain", "plain", "plain", "plain", "but", "although last"))
    main = _judgement(rng, topic, polarity)
    if kind == "plain":
        return join(main, rng.choice((None, "indeed", "this time", "to me")), ".")
    aside = _judgement(rng, other(rng, words.TOPICS, topic), 1 - polarity)
    return f"{aside} , but {main} ." if kind == "but" else f"{main} , although {aside} ."


def _judgement(rng: Random, topic: str, polarity: int) -> str:
    negated = chance(rng, _NEGATED)
    word = rng.choice(_PRAISE if polarity != negated else _BLAME)
    return join("the", topic, "was", rng.choice(_NEGATE if negated else _AFFIRM), word)
