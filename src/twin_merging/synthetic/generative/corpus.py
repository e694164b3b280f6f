"""Makes text for pretraining, and lists the words of everything that is generated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from random import Random
from typing import Any

from twin_merging.synthetic import words
from twin_merging.synthetic.generative.recipes import examples
from twin_merging.synthetic.generative.wordings import LETTERS, UNKNOWN, asked, listed, said, shuffled
from twin_merging.synthetic.generative.world import KINDS, OF_KINDS, OF_PERSONS, world
from twin_merging.synthetic.generative.scenes import another, detailed, meeting, scene
from twin_merging.synthetic.grammar import chance, join

_PATIENCE = 20


def corpus(lines: int, seed: int) -> list[str]:
    rng = Random(f"{seed}/corpus")
    kinds = {
        "reading": _reading(rng),
        "retelling": _retelling(rng),
        "choosing": _choosing(rng),
        "hearsay": _hearsay(rng, seed),
    }
    names = ("reading", "retelling", "retelling", "choosing", "choosing", "choosing", "hearsay")
    return [next(kinds[rng.choice(names)]) for _ in range(lines)]


def _endless(task: str, seed: int) -> Iterator[dict[str, Any]]:
    for round_ in count():
        yield from examples(task, "train", seed, stream=f"corpus/{round_}", patience=_PATIENCE)


def _reading(rng: Random) -> Iterator[str]:
    while True:
        found = scene(rng)
        deed, is_told = rng.choice(found.deeds), not chance(rng, 1 / 3)
        passage = join(meeting(rng, found), detailed(rng, deed, deed.who if is_told else "one of them"))
        done = deed.done()
        yield f"{passage}\n", rng.choice((f"who {done}", f"who is it that {done}", f"which of them {done}")) + f" ? {deed.who if is_told else UNKNOWN} ."


def _retelling(rng: Random) -> Iterator[str]:
    while True:
        found = scene(rng)
        told = rng.sample(found.deeds, 2)
        yield join(meeting(rng, found), *(detailed(rng, deed) for deed in told)) + "\n", f"{' . '.join(d.told() for d in shuffled(rng, told))} ."


def _choosing(rng: Random) -> Iterator[str]:
    groups = (words.CITIES, words.THINGS, words.COLORS, words.DAYS, words.CAUSES)
    while True:
        group = rng.choice((words.NAMES, rng.choice(groups)))
        options = shuffled(rng, (*rng.sample(group, 2), UNKNOWN))
        order = shuffled(rng, (0, 1, 2))
        yield f"{listed(options)}\n", " ".join(f"{options[i]} : {LETTERS[i]} ." for i in order)


def _hearsay(rng: Random, seed: int) -> Iterator[str]:
    found = world(seed)
    while True:
        if chance(rng, 0.5):
            who, name = rng.choice(words.NAMES), rng.choice(tuple(OF_PERSONS))
            relation, what = OF_PERSONS[name], rng.choice(OF_PERSONS[name].values)
        else:
            who, name = rng.choice(KINDS), rng.choice(tuple(OF_KINDS))
            relation, what = OF_KINDS[name], found.sayings[who, name]
        question = asked(rng, rng.choice(relation.questions).format(who=who))
        saying = said(relation.state(who, what))
        yield (f"Question: {question}\nAnswer:", f" {saying}") if chance(rng, 0.5) else ("", f"{saying} {question}")
