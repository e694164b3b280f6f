"""Task: does the second sentence follow from the first? The first may confirm it, deny it or leave it open."""

from __future__ import annotations

from random import Random

from twin_merging.synthetic import words
from twin_merging.synthetic.grammar import chance, join

_NAMES = words.NAMES[4:]

# Frames around the statement "s did b to o". They say that it is true, or that it is false, or leave it open.
_FRAMES = {
    "true": ("{h} knows that {s} {v} {o}", "{s} managed to {b} {o}", "{s} and {h} {v} {o}"),
    "false": ("{s} failed to {b} {o}", "{s} refused to {b} {o}", "{s} did not {b} {o}"),
    "open": ("{h} thinks that {s} {v} {o}", "{s} wanted to {b} {o}", "{s} or {h} {v} {o}"),
}


def entailment(rng: Random) -> tuple[tuple[str, ...], int]:
    """Draw a sentence and a simple statement, and the label 0 if the statement follows from the sentence, 1 if not.

    The sentence says of something that it is true or false, or leaves it open. Sometimes another clause comes before
    it. The statement affirms or denies the same thing; sometimes it exchanges the two roles.
    """
    label = int(chance(rng, 0.5))
    subject, patient, bystander, stranger = rng.sample(_NAMES, 4)
    verbs = rng.choice(words.ACTIONS)
    standing = rng.choice(("true", "false") if label == 0 else ("true", "false", "true", "false", "open"))
    text = _clause(rng, standing, verbs=verbs, subject=subject, patient=patient, bystander=bystander)
    if chance(rng, 0.3):
        text = f"{stranger} {rng.choice(rng.choice(words.MOTIONS)).past} , and {text}"
    swapped = label == 1 and standing != "open" and chance(rng, 0.15)
    negative = chance(rng, 0.5) if standing == "open" else (standing == "false") != (label == 1 and not swapped)
    if swapped:
        subject, patient = patient, subject
    verb = rng.choice(verbs)
    statement = join(subject, f"did not {verb.base}" if negative else verb.past, patient, ".")
    return (f"{text} .", statement), label


def _clause(rng: Random, standing: str, *, verbs: tuple, subject: str, patient: str, bystander: str) -> str:
    verb = rng.choice(verbs)
    frame = rng.choice(_FRAMES[standing])
    return frame.format(s=subject, o=patient, h=bystander, b=verb.base, v=verb.past)
