"""Errors in OpenAI's form: {"error": {"message", "type", "param", "code"}}, which its clients turn into exceptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse

_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


class RequestError(Exception):
    """What is wrong with a request. param: the field of the body at fault; code: a short name for programs."""

    def __init__(
        self,
        message: str,
        param: str | None = None,
        status: int = 400,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.message, self.param, self.status, self.code = message, param, status, code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, status_code=self.status, headers=self.headers)


def engine_failed(error: str) -> RequestError:
    """The engine could not answer, which is no fault of the request."""
    return RequestError(f"the model could not answer: {error}", status=503, code="engine_error")


def timed_out(seconds: float) -> RequestError:
    return RequestError(
        f"the answer took more than {seconds:g} s; ask for fewer tokens, or start the server with a larger --timeout",
        status=504,
        code="timeout",
    )
