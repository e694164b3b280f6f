"""From the bytes of a request to a checked body."""

from __future__ import annotations

import asyncio
import json
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import ClientDisconnect

from twin_merging.serving.http.errors import RequestError

SIZE = 8 * 2**20  # bytes of the largest body
SECONDS = 30.0  # in which a body has to come

Checked = TypeVar("Checked", bound=BaseModel)


async def body_of(request: Request, kind: type[Checked]) -> Checked:
    """The body of a request. Raises RequestError for one that is no JSON, too large, too slow, or wrong in a field."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestError("send the body as JSON, with the header content-type: application/json", status=415)
    try:
        content = json.loads(await asyncio.wait_for(_bytes(request), SECONDS))
    except TimeoutError:
        raise RequestError(f"the body did not come within {SECONDS:g} s", status=408) from None
    except ClientDisconnect:
        raise RequestError("the client went away", status=499) from None
    except (ValueError, RecursionError) as error:  # JSON's own errors, those of UTF-8, and numbers of too many digits
        raise RequestError(f"the body is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise RequestError(f"the body has to be a JSON object, not {_kind(content)}")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise _wrong(error.errors(include_url=False)[0]) from None


async def _bytes(request: Request) -> bytes:
    found = bytearray()
    async for piece in request.stream():
        found += piece
        if len(found) > SIZE:
            raise RequestError(f"the body is larger than {SIZE} bytes", status=413)
    return bytes(found)


def _wrong(error: ErrorDetails) -> RequestError:
    """The first fault that was found, with the field that has it."""
    at = ".".join(str(step) for step in error["loc"] if isinstance(step, int) or _is_key(step)) or None
    if error["type"] == "extra_forbidden":
        return RequestError(f"{at}: this server has no such field", at, code="unknown_parameter")
    return RequestError(f"{at or 'body'}: {error['msg']}; it is {_shown(error.get('input'))}", at)


def _is_key(step: str) -> bool:
    """Whether a step of an error's place is a field's name, and not that of one of several types."""
    return step.replace("_", "").isalnum() and step not in ("str", "int", "float", "constrained")


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 80 else f"{text[:77]}..."


def _kind(value: Any) -> str:
    names = {list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), type(value).__name__)
