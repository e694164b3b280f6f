"""The text of an answer, as its tokens come: what can be sent already, and whether a stop ends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twin_merging.serving.rows import Finish

if TYPE_CHECKING:
    from twin_merging.tasks.writing import Words

PARTIAL = "\ufffd"  # what the first bytes of a character are decoded to
LONGEST = 8  # tokens that one character may take; after as many, what is decoded to PARTIAL is sent as it is


class Text:
    """The text behind one prompt. stop: texts that end it, which do not belong to it; the name of a special token may
    be one. follows: whether the text is wanted while it is written, and not at its end alone."""

    def __init__(self, words: Words, max_tokens: int, stop: Sequence[str] = (), follows: bool = False):
        self.tokens: list[int] = []
        self.finish: Finish | None = None if max_tokens else "length"
        self.offsets: list[int] = []  # where each token's text begins
        self._words, self._most, self._stop = words, max_tokens, tuple(stop)
        self._ends = words.ends | words.single(stop)
        self._follows = follows or bool(stop)
        self._text, self._sent = "", 0
        self._from, self._to = 0, 0  # the tokens decoded before a new one, and where undecoded ones begin
        self._searched = 0

    def add(self, token: int) -> None:
        self.tokens.append(token)
        self.offsets.append(len(self._text))
        if token in self._ends:
            self.finish = "stop"
            return
        if self._follows:
            self._decode()
            if self._place_of_stop(self._text, self._searched) is not None:
                self.finish = "stop"
                return
            self._searched = max(0, len(self._text) - max(map(len, self._stop), default=0))
        if len(self.tokens) >= self._most:
            self.finish = "length"

    def ready(self) -> str:
        """What can be sent now and was not before: nothing that may yet become a stop."""
        safe = len(self._text) - max((_overlap(self._text, stop) for stop in self._stop), default=0)
        new = self._text[self._sent : safe]
        self._sent += len(new)
        return new

    def whole(self) -> str:
        """The answer: the text of all its tokens up to what ended it."""
        shown = self.tokens[:-1] if self.tokens and self.tokens[-1] in self._ends else self.tokens
        text = self._words.text(shown)
        if self._stop:
            place = self._place_of_stop(text)
            if place is None and (found := self._place_of_stop(self._text)) is not None:
                return self._text[:found]
            return text if place is None else text[:place]
        return text

    def rest(self) -> str:
        """What of the answer has not been sent."""
        whole, sent = self.whole(), self._text[: self._sent]
        return whole[len(sent) :] if whole.startswith(sent) else self.ready()

    def _decode(self) -> None:
        """Decode the new tokens behind those before them: a token's text may depend on the last one that has a text,
        which special tokens have not."""
        before = self._words.text(self.tokens[self._from : self._to])
        now = self._words.text(self.tokens[self._from :])
        if now == before or (now.endswith(PARTIAL) and len(self.tokens) - self._to < LONGEST):
            return
        self._text += now[len(before) :]
        self._from, self._to = self._to, len(self.tokens)

    def _place_of_stop(self, text: str, start: int = 0) -> int | None:
        found = [place for stop in self._stop if (place := text.find(stop, start)) >= 0]
        return min(found, default=None)


def _overlap(text: str, stop: str) -> int:
    """How many of the text's last characters may be the first of a stop."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
