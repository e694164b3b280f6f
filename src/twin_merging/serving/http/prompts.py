"""Prompts as a request gives them (texts, tokens, messages) as the tokens that the model reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from twin_merging.errors import first_line
from twin_merging.serving.http.bodies import Message
from twin_merging.serving.http.errors import RequestError
from twin_merging.serving.http.tokenizing import MOST, OwnTokenizer, check_characters
from twin_merging.tasks.task import Longest


class Prompt(NamedTuple):
    """text: as it was given; None where tokens were."""

    tokens: tuple[int, ...]
    text: str | None


class Prompts(OwnTokenizer):
    """Reads prompts. count: the model's tokens; limit: how many a prompt and its answer may have."""

    def __init__(self, tokenizer: Any, count: int, limit: Longest):
        super().__init__(tokenizer)
        self.count, self._limit = count, limit

    @property
    def has_chat(self) -> bool:
        return bool(self._tokenizer.chat_template)

    def submit(self, given: Any) -> Any:
        """A future of the prompts of a completion."""
        return self._thread.submit(self._completion, given)

    def submit_chat(self, messages: Sequence[Message]) -> Any:
        """A future of the one prompt of a chat."""
        return self._thread.submit(self._chat, messages)

    def room(self, prompt: Prompt, wanted: int | None, param: str) -> int:
        """How many tokens may be written behind a prompt: as many as are wanted, or as there is room for. Raises
        RequestError where there is too little."""
        left = self._limit.tokens - len(prompt.tokens)
        if left < (1 if wanted is None else 0):
            raise RequestError(
                f"{param}: has {len(prompt.tokens)} tokens, but {self._limit.why}; shorten it",
                param,
                code="context_length_exceeded",
            )
        if wanted is not None and wanted > left:
            raise RequestError(
                f"max_tokens: {wanted} tokens behind a prompt of {len(prompt.tokens)}, but {self._limit.why}; ask for "
                f"at most {left}, or shorten the prompt",
                "max_tokens",
                code="context_length_exceeded",
            )
        return left if wanted is None else wanted

    def _completion(self, given: Any) -> list[Prompt]:
        kinds = "text, a list of texts, a list of tokens, or a list of lists of tokens"
        if isinstance(given, str):
            return [self._text(given, "prompt")]
        if not isinstance(given, list) or not given:
            raise RequestError(f"prompt: give {kinds}", "prompt")
        if all(_is_token(one) for one in given):
            return [self._tokens(given, "prompt")]
        if len(given) > MOST:
            raise RequestError(f"prompt: {len(given)} prompts; give at most {MOST} in one request", "prompt")
        if all(isinstance(one, str) for one in given):
            return [self._text(one, f"prompt.{place}") for place, one in enumerate(given)]
        if all(isinstance(one, list) and one and all(map(_is_token, one)) for one in given):
            return [self._tokens(one, f"prompt.{place}") for place, one in enumerate(given)]
        raise RequestError(f"prompt: give {kinds}", "prompt")

    def _text(self, text: str, param: str) -> Prompt:
        return self._checked(Prompt(tuple(self._encoded(text, param)), text), param)

    def _tokens(self, tokens: Sequence[int], param: str) -> Prompt:
        for token in tokens:
            if not 0 <= token < self.count:
                told = f"{param}: the model has no token {token!s:.20}, only 0 to {self.count - 1}"
                raise RequestError(told, param)
        return self._checked(Prompt(tuple(tokens), None), param)

    def _chat(self, messages: Sequence[Message]) -> list[Prompt]:
        if not self.has_chat:
            told = "this model has no chat template; ask /v1/completions"
            raise RequestError(told, "messages", code="no_chat_template")
        plain = [
            {
                "role": one.role,
                "content": one.content if isinstance(one.content, str) else "".join(p.text for p in one.content),
                **({} if one.name is None else {"name": one.name}),
            }
            for one in messages
        ]
        try:
            text = self._tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # whatever a template raises, of jinja2 or of Python
            raise RequestError(f"messages: the chat template refuses them: {first_line(error)}", "messages") from None
        tokens = self._encoded(text, "messages", add_special_tokens=False)
        return [self._checked(Prompt(tuple(tokens), text), "messages")]

    def _encoded(self, text: str, param: str, **options: Any) -> list[int]:
        check_characters(text, param)
        found: list[int] = self._tokenizer(text, truncation=False, verbose=False, **options)["input_ids"]
        return found

    def _checked(self, prompt: Prompt, param: str) -> Prompt:
        if not prompt.tokens:
            raise RequestError(f"{param}: has no tokens; a router reads at least one", param)
        self.room(prompt, 0, param)
        return prompt


def _is_token(one: Any) -> bool:
    return isinstance(one, int) and not isinstance(one, bool)
