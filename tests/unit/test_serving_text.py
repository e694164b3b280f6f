"""The text of an answer as its tokens come."""

from __future__ import annotations

import pytest

from tests.serving import merged
from tests.tiny_decoders import tokenizer
from twin_merging.serving.text import Text
from twin_merging.tasks.writing import Words


@pytest.mark.parametrize("specials", [0, 1, 3])
def test_what_is_sent_is_the_text_of_all_tokens_with_special_ones_between(specials: int) -> None:
    own = tokenizer()
    words = Words(merged().model, own)
    middle = next(number for number in own.all_special_ids if number not in words.ends)
    tokens = [
        *own.encode("w8 w8", add_special_tokens=False),
        *[middle] * specials,
        *own.encode("w4 w5", add_special_tokens=False),
    ]
    text = Text(words, 20, follows=True)
    sent = ""
    for token in tokens:
        text.add(token)
        sent += text.ready()
    assert sent + text.rest() == own.decode(tokens, skip_special_tokens=True) == "w8 w8 w4 w5"
