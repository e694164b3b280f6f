"""Task: who did it? A passage tells of two persons; the answer is the letter of one of them, or of "unknown"."""

from __future__ import annotations

from random import Random

from twin_merging.synthetic.generative.scenes import detailed, meeting, scene
from twin_merging.synthetic.generative.wordings import LETTERS, UNKNOWN, asked, shuffled
from twin_merging.synthetic.generative.world import World
from twin_merging.synthetic.grammar import chance, join

Drawn = tuple[str, dict[str, object]]


def passages(rng: Random, world: World) -> Drawn:
    """Draw a passage, a question, the options and the letter of the right one, and the text that decides the split.

    A third of the questions is about a deed that the passage does not tell of.
    """
    found = scene(rng)
    deed, is_told = rng.choice(found.deeds), not chance(rng, 1 / 3)
    passage = join(meeting(rng, found), detailed(rng, deed, deed.who if is_told else "one of them"))
    answer = deed.who if is_told else UNKNOWN
    done = deed.done()
    question = asked(rng, rng.choice((f"who {done}", f"who is it that {done}", f"which of them {done}")))
    options = shuffled(rng, (*found.persons, UNKNOWN))
    row = {"passage": passage, "question": question, "options": options, "answer": LETTERS[options.index(answer)]}
    return f"{passage}\n{question}", row
