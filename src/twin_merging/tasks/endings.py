"""Where the answer of a language model ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from twin_merging.io.fields import ABSENT, FilledText, Positive, problem
from twin_merging.io.validation import Model

# What is meant where a task says nothing: HELM's numbers of tokens. HELM ends no letter by a text; here it is its line.
USUAL: Mapping[str, Mapping[str, Any]] = {
    "letter": {"max_new_tokens": 5, "stop": ("\n",)},
    "summary": {"max_new_tokens": 128, "stop": ("###",)},
}


class Ending(Model):
    """When a model stops to write."""

    max_new_tokens: Positive = Field(
        16, description="tokens of the longest answer; without it 5 for a `letter`, 128 for a `summary`"
    )
    stop: tuple[FilledText, ...] = Field(
        (), description='texts that end an answer; without it `["\\n"]` for a `letter`, `["###"]` for a `summary`'
    )
    helm: Annotated[Literal["strict"] | None, ABSENT] = Field(
        None,
        description="`strict`, for a `letter`: no text ends the answer, and all that is written has to be the letter, "
        "as HELM wants it",
    )

    @model_validator(mode="after")
    def _nothing_stops_a_strict_answer(self) -> Ending:
        if self.helm and self.stop:
            raise problem("helm: strict has no text that ends an answer; remove one of the two", "stop")
        return self

    def cut(self, text: str) -> str:
        """What stands before the first text that ends an answer, without spaces around it."""
        ends = [place for stop in self.stop if (place := text.find(stop)) >= 0]
        return text[: min(ends, default=len(text))].strip()


def with_usual(ending: Any, answer: Any) -> Any:
    """What a suite says of an ending, with what is meant for this kind of answer where it says nothing."""
    if not isinstance(ending, Mapping):
        return ending
    usual = dict(USUAL.get(answer, {})) if isinstance(answer, str) else {}
    if ending.get("helm"):
        usual.pop("stop", None)
    return {**usual, **ending}
