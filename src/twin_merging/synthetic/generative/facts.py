"""Task: a fact about a person, asked in many wordings and answered by a word. No text settles it: it must be learnt."""

from __future__ import annotations

from random import Random

from twin_merging.synthetic import words
from twin_merging.synthetic.generative.wordings import UNKNOWN, asked, listed, said, shuffled
from twin_merging.synthetic.generative.world import OF_PERSONS, Drawn, World
from twin_merging.synthetic.grammar import chance, join, other


def facts(rng: Random, world: World) -> Drawn:
    """Draw a question and its answer, and the text that decides which split they belong to: the question.

    What people say in a question is true or not. Where answers are given to choose from, the right one is among them.
    """
    who, name = rng.choice(words.NAMES), rng.choice(tuple(OF_PERSONS))
    relation, answer = OF_PERSONS[name], world.facts[who, name]
    question = rng.choice(relation.questions).format(who=who)
    saying = said(relation.state(who, rng.choice(relation.values))) if chance(rng, 0.2) else None
    text = join(saying, asked(rng, question))
    if chance(rng, 0.2):
        options = shuffled(rng, (answer, other(rng, relation.values, answer), UNKNOWN))
        return "\n".join((text, *sorted(options))), {"question": f"{text}\n{listed(options)}", "answer": answer}
    return text, {"question": text, "answer": answer}
