"""What a message to the user must be."""

from __future__ import annotations

from twin_merging.errors import UserError


def one_sentence(error: UserError, *words: str) -> None:
    """One line that holds all words."""
    message = str(error)
    assert "\n" not in message
    for word in words:
        assert word in message, message
