"""Why a request gets no picture, in the form in which OpenAI's clients expect it."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from starlette.responses import Response

from bagel_perf.records.errors import UsageError, one_line

MAX_MESSAGE = 300
GONE = 499
"""A client that has left; it is logged and counted, and nobody reads it."""


class ApiError(Exception):
    """A refusal with its HTTP status; ``param`` is the field that is wrong, ``retry_after_s`` when to come back."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = one_line(message)[:MAX_MESSAGE]
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s

    @property
    def type(self) -> str:
        """The family that OpenAI's clients tell apart."""
        if self.status == HTTPStatus.UNAUTHORIZED:
            return "authentication_error"
        if self.status == HTTPStatus.TOO_MANY_REQUESTS:
            return "rate_limit_error"
        return "server_error" if self.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"

    def response(self) -> Response:
        """Answers with ``{"error": {"message", "type", "param", "code"}}``."""
        body = {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        return Response(msgspec.json.encode(body), self.status, headers, "application/json")


def invalid(message: str, param: str | None, *, code: str = "invalid_value") -> ApiError:
    """Refuses a request for what it holds (400)."""
    return ApiError(HTTPStatus.BAD_REQUEST, message, code=code, param=param)


def from_usage(error: UsageError, param: str | None) -> ApiError:
    """Refuses a request for what the model cannot do, in the words that the command line has for it."""
    head = error.what if error.value is None else f"{error.what} ({error.value})"
    return invalid("; ".join(part for part in (head, error.allowed) if part), param)
