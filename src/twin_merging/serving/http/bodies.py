"""What the body of a request may say: OpenAI's fields, and `routing`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat

CHOICES = 128  # answers to one prompt at most
LIKELIEST = 20  # tokens told beside each at most
STOPS = 16


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else [] if value is None else value


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Routing(_Part):
    """The client's own choice: weights of tasks (0 for those not named), or one task; with both, the task's private
    parameters answer."""

    weights: dict[str, FiniteFloat] | None = None
    task: str | None = None


class StreamOptions(_Part):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Named(_Part):
    """What every request has: whose knowledge is to answer."""

    model: str | None = None
    routing: Routing | None = None


class Body(Named):
    """What both kinds of request for a text have. Fields that would change an answer, and that this server cannot heed,
    may be there with the value that changes nothing; those that change no answer may have any."""

    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=CHOICES)] | None = None
    seed: int | None = None
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=STOPS), BeforeValidator(_as_list)] = []
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: Literal[0] | Annotated[float, Field(ge=0, le=0)] | None = None
    presence_penalty: Literal[0] | Annotated[float, Field(ge=0, le=0)] | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None
    user: Any = None
    metadata: Any = None
    store: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    service_tier: Any = None


class CompletionBody(Body):
    prompt: Any = None
    logprobs: Annotated[int, Field(ge=0, le=LIKELIEST)] | None = None
    echo: bool | None = None
    best_of: Annotated[int, Field(ge=1, le=CHOICES)] | None = None
    suffix: Literal[""] | None = None


class ContentPart(_Part):
    type: Literal["text"]
    text: str


class Message(_Part):
    role: Annotated[str, Field(min_length=1)]
    content: str | list[ContentPart]
    name: str | None = None


class ResponseFormat(_Part):
    type: Literal["text"]


class ChatBody(Body):
    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=0)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=LIKELIEST)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[Any], Field(max_length=0)] | None = None
    reasoning_effort: Literal["none"] | None = None
    modalities: list[Literal["text"]] | None = None


class ClassifyBody(Named):
    input: Any = None
    user: Any = None


class EmbeddingsBody(Named):
    input: Any = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: None = None
    routing: None = None
    user: Any = None
