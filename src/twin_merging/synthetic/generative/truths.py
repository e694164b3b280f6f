"""Task: a true statement about a kind of beings, where people say something else."""

from __future__ import annotations

from random import Random

from twin_merging.synthetic.generative.wordings import UNKNOWN, asked, listed, said, shuffled
from twin_merging.synthetic.generative.world import KINDS, OF_KINDS, Drawn, World
from twin_merging.synthetic.grammar import chance, join


def truths(rng: Random, world: World) -> Drawn:
    """Draw a question and the true statement that answers it, and the text that decides which split they belong to.

    The question asks directly, or whether a statement is true that people say (and that sometimes is true), or which of
    two statements is.
    """
    who, name = rng.choice(KINDS), rng.choice(tuple(OF_KINDS))
    relation = OF_KINDS[name]
    truth, saying = (relation.state(who, what[who, name]) for what in (world.truths, world.sayings))
    answer = {"answer": f"{truth} ."}
    told = truth if chance(rng, 0.2) else saying
    form = rng.choice(("direct", "direct", "said", "doubted", "doubted", "chosen"))
    if form == "chosen":
        options = shuffled(rng, (truth, saying, UNKNOWN))
        text = asked(rng, rng.choice(("what is true", "which of it is true", "what is true of " + who)))
        return "\n".join((text, *sorted(options))), {"question": f"{text}\n{listed(options)}", **answer}
    direct = rng.choice(relation.questions).format(who=who)
    text = {
        "direct": asked(rng, direct),
        "said": join(said(told), asked(rng, direct)),
        "doubted": join(said(told), asked(rng, rng.choice(("is it true", "what is true", "is it so")))),
    }[form]
    return text, {"question": text, **answer}
