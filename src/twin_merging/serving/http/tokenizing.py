"""What prompts of a language model and texts of a classifier have in common on their way to tokens."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from twin_merging.serving.http.errors import RequestError

MOST = 2048  # prompts or texts of one request


class OwnTokenizer:
    """A tokenizer of its own, for one thread beside the one that answers clients."""

    def __init__(self, tokenizer: Any):
        self._tokenizer = copy.deepcopy(tokenizer)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


def check_characters(text: str, param: str) -> None:
    """Raises RequestError for a text that is none: tokenizers take no half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RequestError(f"{param}: holds half of a character (a lone surrogate)", param) from None
