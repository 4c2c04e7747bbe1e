"""Reads the body of a request within its limits: JSON or a form, as fields by name."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from bagel_perf.serve.refusals import ApiError, invalid

BODY_S = 60.0
"""How long a body may take to arrive."""
DISCARD_S = 5.0
MAX_FIELDS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """What a request says by name, and the files of a form; in a form every value is text."""

    values: dict[str, Any]
    files: list[tuple[str, bytes]] = field(default_factory=list)
    is_form: bool = False


async def read_json(request: Request, max_bytes: int) -> Fields:
    """Fields of a JSON object; raises ``ApiError`` for another type (415), a large one (413), or what is none (400)."""
    if _media_type(request) != "application/json":
        raise _wrong_type(request, "application/json")
    body = await _body(request, max_bytes)
    try:
        values = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise invalid(f"the body is no JSON ({error})", None, code="invalid_json") from None
    if not isinstance(values, dict):
        raise invalid("the body is no JSON object", None, code="invalid_json")
    return Fields(values=values)


async def read_form(request: Request, max_bytes: int) -> Fields:
    """Fields and files of a multipart form, all of it in memory; raises as ``read_json``."""
    if _media_type(request) != "multipart/form-data":
        raise _wrong_type(request, "multipart/form-data")
    body = await _body(request, max_bytes)

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, whole(), max_files=MAX_FIELDS, max_fields=MAX_FIELDS)
    parser.spool_max_size = max_bytes + 1  # or a large file would go to the disk
    try:
        form = await parser.parse()
    except (MultiPartException, ValueError) as error:
        raise invalid(f"the form is broken ({error})", None, code="invalid_form") from None
    values: dict[str, Any] = {}
    files = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            files.append((name, await value.read()))
        elif name in values:
            raise invalid("the field is given twice", name)
        else:
            values[name] = value
    await form.close()
    return Fields(values=values, files=files, is_form=True)


async def discard(request: Request, max_bytes: int) -> None:
    """Reads on without keeping anything, so that a client that is still sending hears why it was refused."""
    num_bytes = 0
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(DISCARD_S):
            async for chunk in request.stream():
                num_bytes += len(chunk)
                if num_bytes > max_bytes:
                    return


async def _body(request: Request, max_bytes: int) -> bytes:
    if int(request.headers.get("content-length", "0")) > max_bytes:  # the server refuses what is no number
        raise _too_large(max_bytes)
    parts = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                parts += chunk
                if len(parts) > max_bytes:
                    raise _too_large(max_bytes)
    except TimeoutError:
        raise ApiError(
            HTTPStatus.REQUEST_TIMEOUT, f"the body took over {BODY_S:.0f} s", code="request_timeout"
        ) from None
    return bytes(parts)


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _wrong_type(request: Request, allowed: str) -> ApiError:
    given = _media_type(request) or "no content type"
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    return ApiError(status, f"unknown content type ({given}); allowed: {allowed}", code="unsupported_media_type")


def _too_large(max_bytes: int) -> ApiError:
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    return ApiError(status, f"the body is too large; at most {max_bytes} bytes", code="request_too_large")
