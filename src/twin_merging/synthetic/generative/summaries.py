"""Task: a summary of what two persons did: both deeds, each in as few words as it takes, in one sentence."""

from __future__ import annotations

from random import Random

from twin_merging.synthetic.generative.scenes import detailed, meeting, scene
from twin_merging.synthetic.generative.wordings import asked
from twin_merging.synthetic.generative.world import Drawn, World
from twin_merging.synthetic.grammar import chance, join

_REQUESTS = (
    "what did they do",
    "who did what",
    "what is it that they did",
    "what did {one} and {two} do",
    "what do you know of it",
)


def summaries(rng: Random, world: World) -> Drawn:
    """Draw an article, a request, and the summary, and the text that decides the split: the article."""
    found = scene(rng)
    told = rng.sample(found.deeds, 2)
    first = meeting(rng, found) if chance(rng, 0.8) else None
    article = join(first, *(detailed(rng, deed, deed.who) for deed in told))
    one, two = (deed.who for deed in told)
    request = asked(rng, rng.choice(_REQUESTS).format(one=one, two=two))
    summary = f"{told[0].told()} and {told[1].told()} ."
    return article, {"article": article, "request": request, "summary": summary}
