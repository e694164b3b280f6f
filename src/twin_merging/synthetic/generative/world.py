"""What is true in the world that the questions are about, and what people say instead. The seed draws both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from twin_merging.synthetic import words
from twin_merging.synthetic.grammar import other

Row = dict[str, Any]
Drawn = tuple[str, Row]  # the text that decides which split a row belongs to, and the row


@dataclass(frozen=True)
class Relation:
    """What can be asked of somebody: the possible answers; a statement with {who} and {what}; and ways to ask, with
    {who}."""

    values: tuple[str, ...]
    statement: str
    questions: tuple[str, ...]

    def state(self, who: str, what: str) -> str:
        """The statement, without a full stop."""
        return self.statement.format(who=who, what=what)


OF_PERSONS: Mapping[str, Relation] = {
    "home": Relation(
        words.CITIES,
        "{who} lives in {what}",
        ("where does {who} live", "in which city does {who} live", "which city is the home of {who}"),
    ),
    "work": Relation(
        words.PEOPLE,
        "{who} works as a {what}",
        ("as what does {who} work", "what is the work of {who}", "which work does {who} do"),
    ),
    "pet": Relation(
        words.ANIMALS,
        "{who} has a {what}",
        ("which animal does {who} have", "what is the animal of {who}", "which animal sleeps near {who}"),
    ),
    "color": Relation(
        words.COLORS,
        "{who} likes {what}",
        ("which color does {who} like", "what is the color of {who}", "which of the colors does {who} like"),
    ),
    "fear": Relation(
        words.CAUSES,
        "{who} fears the {what}",
        ("what does {who} fear", "what is the fear of {who}", "what is it that {who} fears"),
    ),
    "rest": Relation(
        words.DAYS,
        "{who} rests on {what}",
        ("when does {who} rest", "on which day does {who} rest", "which day is the free day of {who}"),
    ),
}
OF_KINDS: Mapping[str, Relation] = {
    "sleep": Relation(
        words.PLACES,
        "{who} sleep in the {what}",
        ("where do {who} sleep", "in which place do {who} sleep", "which place do {who} sleep in"),
    ),
    "fear": Relation(
        words.CAUSES,
        "{who} fear the {what}",
        ("what do {who} fear", "what is the fear of {who}", "what is it that {who} fear"),
    ),
    "color": Relation(
        words.COLORS,
        "{who} like {what}",
        ("which color do {who} like", "what is the color of {who}", "which of the colors do {who} like"),
    ),
    "rest": Relation(
        words.DAYS,
        "{who} rest on {what}",
        ("when do {who} rest", "on which day do {who} rest", "which day is the free day of {who}"),
    ),
}
KINDS = tuple(words.plural(noun) for noun in words.BEINGS)


@dataclass(frozen=True)
class World:
    """By whom and relation: `facts` of persons; of kinds of beings what is true, and what people say (something
    else)."""

    facts: Mapping[tuple[str, str], str]
    truths: Mapping[tuple[str, str], str]
    sayings: Mapping[tuple[str, str], str]


@cache
def world(seed: int) -> World:
    """The world of a seed."""
    rng = Random(f"{seed}/world")
    facts = {(who, name): rng.choice(one.values) for who in words.NAMES for name, one in OF_PERSONS.items()}
    truths = {(who, name): rng.choice(one.values) for who in KINDS for name, one in OF_KINDS.items()}
    sayings = {(who, name): other(rng, OF_KINDS[name].values, truth) for (who, name), truth in truths.items()}
    return World(facts, truths, sayings)
