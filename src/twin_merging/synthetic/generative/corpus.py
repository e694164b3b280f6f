"""Makes text for pretraining, and lists the tokens of everything that is generated."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from random import Random

from twin_merging.synthetic import words
from twin_merging.synthetic.generative.recipes import TASKS, examples
from twin_merging.synthetic.generative.scenes import Deed, asking, detailed, meeting, scene
from twin_merging.synthetic.generative.tokenizer import tokens_of
from twin_merging.synthetic.generative.wordings import LETTERS, UNKNOWN, asked, listed, said, shuffled
from twin_merging.synthetic.generative.world import KINDS, OF_KINDS, OF_PERSONS, World, world
from twin_merging.synthetic.grammar import chance, join

Line = tuple[str, str]  # the first part can hardly be foretold; the second mostly follows from it
_GROUPS = (words.NAMES, words.CITIES, words.THINGS, words.COLORS, words.DAYS, words.CAUSES)
_FRAME = "Passage: Question: Answer: A. B. C.\n"  # of the prompts
_SAMPLE = 3000  # rows of each task, and lines; every word of the lexicon occurs in them many times


def corpus(lines: int, seed: int) -> list[Line]:
    """Draw so many lines of text.

    They teach what the tasks rest on, but none of their answers: a short passage with a question about it, answered by
    a name; what two persons did, told again; which of three options has which letter; what people say, which is not
    what is true, and of persons it is anything. No line has a fact of `facts` for sure, a letter for an answer to a
    question, or a summary.
    """
    rng, told = Random(f"{seed}/corpus"), world(seed)
    return [rng.choice(_SOURCES)(rng, told) for _ in range(lines)]


def _reading(rng: Random, told: World) -> Line:
    found = scene(rng)
    deed, is_told = rng.choice(found.deeds), not chance(rng, 1 / 3)
    passage = join(meeting(rng, found), detailed(rng, deed, deed.who if is_told else None))
    return f"{passage}\n", f"{asking(rng, deed)} ? {deed.who if is_told else UNKNOWN} ."


def _retelling(rng: Random, told: World) -> Line:
    found = scene(rng)
    deeds: tuple[Deed, ...] = found.deeds
    first = join(meeting(rng, found), *(detailed(rng, deed, deed.who) for deed in shuffled(rng, deeds)))
    return f"{first}\n", join(*(f"{deed.told()} ." for deed in shuffled(rng, deeds)))


def _choosing(rng: Random, told: World) -> Line:
    options = shuffled(rng, (*rng.sample(rng.choice((words.NAMES, rng.choice(_GROUPS))), 2), UNKNOWN))
    named = shuffled(rng, tuple(zip(options, LETTERS, strict=True)))
    return f"{listed(options)}\n", join(*(f"{option} : {letter} ." for option, letter in named))


def _hearsay(rng: Random, told: World) -> Line:
    if chance(rng, 0.5):
        who, relation = rng.choice(words.NAMES), OF_PERSONS[rng.choice(tuple(OF_PERSONS))]
        what = rng.choice(relation.values)
    else:
        who, name = rng.choice(KINDS), rng.choice(tuple(OF_KINDS))
        relation, what = OF_KINDS[name], told.sayings[who, name]
    question, saying = asked(rng, rng.choice(relation.questions).format(who=who)), said(relation.state(who, what))
    return (f"Question: {question}\nAnswer:", f" {saying}") if chance(rng, 0.5) else ("", f"{saying} {question}")


_SOURCES: tuple[Callable[[Random, World], Line], ...] = (
    _reading,
    *(_retelling, _retelling),
    *(_choosing, _choosing, _choosing),
    _hearsay,
)


def vocabulary() -> list[str]:
    """Every token of the tasks, their prompts and the corpus, sorted."""
    found = set(tokens_of(_FRAME))
    for first, second in corpus(_SAMPLE, seed=0):
        found.update(tokens_of(f"{first}{second}"))
    for task in TASKS:
        for row in islice(examples(task, "train", seed=0, stream="vocabulary"), _SAMPLE):
            for value in row.values():
                found.update(*map(tokens_of, [value] if isinstance(value, str) else value))
    return sorted(found)
