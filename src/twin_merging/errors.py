"""The one exception that a user is meant to read, and the words that its sentences share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

# What a file's name may hold and a line cannot: line breaks and the like, and bytes that are no text.
_UNREADABLE = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")

_LONGEST = 1000  # characters


class UserError(Exception):
    """A wrong input. The message is one sentence, in one line that can be read: where, what, the value, and the remedy.
    What is longer than that loses its middle."""

    def __str__(self) -> str:
        text = _UNREADABLE.sub(lambda match: repr(match[0])[1:-1], super().__str__())
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 300]} ... {text[-290:]}"


def first_line(error: BaseException) -> str:
    """The first line of what an error of another library says; its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def unknown(what: str, name: str, allowed: Iterable[str]) -> str:
    """Half a sentence for a name that is not one of `allowed`: the name, the nearest, and all of them."""
    choices = sorted(map(str, allowed))
    near = get_close_matches(str(name), choices, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    return f"unknown {what} '{name}'{hint}; allowed: {', '.join(choices)}"
