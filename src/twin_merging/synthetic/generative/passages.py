"""Task: which of two persons did it? The answer is the letter of one of them, or of "unknown"."""

from __future__ import annotations

from random import Random

from twin_merging.synthetic.generative.scenes import asking, detailed, meeting, scene
from twin_merging.synthetic.generative.wordings import LETTERS, UNKNOWN, asked, shuffled
from twin_merging.synthetic.generative.world import Drawn, World
from twin_merging.synthetic.grammar import chance, join


def passages(rng: Random, world: World) -> Drawn:
    """Draw a passage, a question, the options and the letter of the right one, and the text that decides the split.

    In a third of the passages one of the two did it, and nobody knows which.
    """
    found = scene(rng)
    deed, is_told = rng.choice(found.deeds), not chance(rng, 1 / 3)
    passage = join(meeting(rng, found), detailed(rng, deed, deed.who if is_told else None))
    question = asked(rng, asking(rng, deed))
    answer = deed.who if is_told else UNKNOWN
    options = shuffled(rng, (*found.persons, UNKNOWN))
    row = {"passage": passage, "question": question, "options": options, "answer": LETTERS[options.index(answer)]}
    return f"{passage}\n{question}", row
