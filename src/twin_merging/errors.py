"""The one exception that a user is meant to read, and the words that its sentences share."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A wrong input. The message is one sentence: where, what, the value, and the remedy."""


def unknown(what: str, name: str, allowed: Iterable[str]) -> str:
    """Half a sentence for a name that is not one of `allowed`: the name, the nearest, and all of them."""
    choices = sorted(map(str, allowed))
    near = get_close_matches(str(name), choices, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    return f"unknown {what} '{name}'{hint}; allowed: {', '.join(choices)}"
