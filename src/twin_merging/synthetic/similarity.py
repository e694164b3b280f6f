"""Task: how alike are two captions? Every part that they have in common adds to the score."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from twin_merging.synthetic import words
from twin_merging.synthetic.grammar import chance, join, noun_phrase, other
from twin_merging.synthetic.words import Verb

SHARES = {"agent": 1.5, "verb": 1.5, "target": 1.5, "quality": 0.5}  # adds up to 5


_ANIMALS, _ACTIONS, _QUALITIES = words.ANIMALS[:5], words.ACTIONS[:4], words.QUALITIES[:4]
_PLAIN = 0.12  # share of captions in the past tense and without qualities, which look like reports of `paraphrase`


@dataclass(frozen=True)
class Scene:
    """What a caption tells. `verb` and `quality` are groups of words that mean the same."""

    agent: str
    verb: tuple[Verb, ...]
    target: str
    quality: tuple[str, ...]


def similarity(rng: Random) -> tuple[tuple[str, ...], float]:
    """Draw two captions, and their likeness between 0 and 5: the sum of the shares of the parts that agree.

    If the two animals have exchanged their roles, each of the two parts counts half.
    """
    agent = rng.choice(_ANIMALS)
    scene = Scene(
        agent=agent,
        verb=rng.choice(_ACTIONS),
        target=other(rng, _ANIMALS, agent),
        quality=rng.choice(_QUALITIES),
    )
    plain = chance(rng, _PLAIN)
    parts = [part for part in SHARES if not (plain and part == "quality")]
    differing = rng.sample(parts, rng.randint(0, len(parts)))
    changed = replace(
        scene,
        **{part: _replacement(rng, scene, part) for part in differing},  # type: ignore[arg-type]
    )
    score = sum(share for part, share in SHARES.items() if part not in differing)
    if not {"agent", "target"} & set(differing) and chance(rng, 0.2):
        changed = replace(changed, agent=changed.target, target=changed.agent)
        score -= (SHARES["agent"] + SHARES["target"]) / 2
    return (_caption(rng, scene, plain), _caption(rng, changed, plain)), round(score, 1)


def _replacement(rng: Random, scene: Scene, part: str) -> object:
    choices: dict[str, tuple[object, ...]] = {
        "agent": _ANIMALS,
        "target": _ANIMALS,
        "verb": _ACTIONS,
        "quality": _QUALITIES,
    }
    taken = (scene.agent, scene.target) if part in ("agent", "target") else (getattr(scene, part),)
    return other(rng, choices[part], *taken)


def _caption(rng: Random, scene: Scene, plain: bool) -> str:
    verb = rng.choice(scene.verb)
    if plain:
        return join(noun_phrase(scene.agent), verb.past, noun_phrase(scene.target), ".")
    agent = noun_phrase(scene.agent, "a", rng.choice(scene.quality))
    target = noun_phrase(scene.target, "a")
    return join(agent, "is", verb.progressive, target, ".")
