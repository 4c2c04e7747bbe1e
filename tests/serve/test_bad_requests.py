"""Requests that get no picture: each its status, an error that OpenAI's clients read, and one line in the log."""

from __future__ import annotations

import json
import socket
import struct
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from bagel_servers import SMALL, Served, chat, data_url, picture, served

KEY = "secret-of-the-test"
HEADERS = {"Authorization": f"Bearer {KEY}"}
BODY = {"prompt": "a red house", **SMALL}


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served("--api-key", KEY, "--max-body-mb", "1", "--max-steps", "50", "--max-pixels", "1000000") as found:
        yield found


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header promises a size, and that has hardly any pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">II5B", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def of_url(url: object) -> dict[str, Any]:
    part = {"type": "image_url", "image_url": {"url": url}}
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "blue"}, part]}], **SMALL}


JSON_CASES: dict[str, tuple[str, object, int, str | None]] = {
    "no prompt": ("images/generations", SMALL, 400, "prompt"),
    "blank prompt": ("images/generations", {**BODY, "prompt": " \n"}, 400, "prompt"),
    "a prompt that is a number": ("images/generations", {**BODY, "prompt": 3}, 400, "prompt"),
    "a prompt without end": ("images/generations", {**BODY, "prompt": "a " * 5000}, 400, "prompt"),
    "no JSON object": ("images/generations", [1], 400, None),
    "a side of text": ("images/generations", {**BODY, "width": "64"}, 400, "width"),
    "a side of true": ("images/generations", {**BODY, "width": True}, 400, "width"),
    "a negative side": ("images/generations", {**BODY, "height": -64}, 400, "height"),
    "a side that is no multiple": ("images/generations", {**BODY, "height": 65}, 400, "size"),
    "one side alone": ("images/generations", {"prompt": "a", "width": 64}, 400, "height"),
    "both forms of size": ("images/generations", {**BODY, "size": "64x64"}, 400, "size"),
    "a huge size": ("images/generations", {"prompt": "a", "size": "99999x99999"}, 400, "size"),
    "a size that is none": ("images/generations", {"prompt": "a", "size": "../../64"}, 400, "size"),
    "too many steps": ("images/generations", {**BODY, "num_inference_steps": 51}, 400, "num_inference_steps"),
    "no steps": ("images/generations", {**BODY, "num_inference_steps": 0}, 400, "num_inference_steps"),
    "half a step": ("images/generations", {**BODY, "num_inference_steps": 2.5}, 400, "num_inference_steps"),
    "a seed of 100 digits": ("images/generations", {**BODY, "seed": 10**100}, 400, "seed"),
    "a negative seed": ("images/generations", {**BODY, "seed": -1}, 400, "seed"),
    "two pictures": ("images/generations", {**BODY, "n": 2}, 400, "n"),
    "a URL for an answer": ("images/generations", {**BODY, "response_format": "url"}, 400, "response_format"),
    "a stream": ("images/generations", {**BODY, "stream": True}, 400, "stream"),
    "guidance of its own": ("images/generations", {**BODY, "guidance_scale": 7.5}, 400, "guidance_scale"),
    "a list where a value belongs": ("images/generations", {**BODY, "stream": [[]]}, 400, "stream"),
    "a picture without a route for it": ("images/generations", {**BODY, "image": "/etc/passwd"}, 400, "image"),
    "another model": ("images/generations", {**BODY, "model": "../weights"}, 404, "model"),
    "a model that is a list": ("images/generations", {**BODY, "model": []}, 400, "model"),
    "no messages": ("chat/completions", SMALL, 400, "messages"),
    "messages of text": ("chat/completions", {"messages": "blue"}, 400, "messages"),
    "a message of the system": (
        "chat/completions",
        {"messages": [{"role": "system", "content": "blue"}]},
        400,
        "messages[0].role",
    ),
    "two texts": ("chat/completions", {"messages": chat("a")[:1] * 2}, 400, "messages"),
    "content that is a number": ("chat/completions", {"messages": [{"role": "user", "content": 3}]}, 400, None),
    "a part of sound": (
        "chat/completions",
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        400,
        "messages[0].content[0].type",
    ),
    "an answer in sound": ("chat/completions", {"messages": chat("a"), "modalities": ["audio"]}, 400, "modalities"),
    "a path": ("chat/completions", of_url("/etc/passwd"), 400, "messages[0].content[1].image_url"),
    "a file's address": ("chat/completions", of_url("file:///etc/passwd"), 400, None),
    "an address": ("chat/completions", of_url("http://127.0.0.1:1/x.png"), 400, None),
    "no base64": ("chat/completions", of_url("data:image/png;base64,???"), 400, None),
    "no picture": ("chat/completions", of_url(data_url(b"hello")), 400, None),
    "a picture of another format": ("chat/completions", of_url(data_url(picture(kind="TIFF"))), 400, None),
    "PostScript": (
        "chat/completions",
        of_url(data_url(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")),
        400,
        None,
    ),
    "half a picture": ("chat/completions", of_url(data_url(picture()[:900])), 400, None),
    "a decompression bomb": ("chat/completions", of_url(data_url(png_of_size(60000, 60000))), 400, None),
    "a picture over the limit": ("chat/completions", of_url(data_url(png_of_size(1001, 1000))), 400, None),
}


def judge(server: Served, response: httpx2.Response, status: int, num_lines: int) -> dict[str, Any]:
    """The error of an answer, after its status, its form and its one line were looked at."""
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"} and error["message"] and error["code"]
    lines = server.log()[num_lines:]
    assert len(lines) == 1 and f" {status} " in lines[0], lines
    return error


@pytest.mark.parametrize("name", JSON_CASES)
def test_a_bad_request_has_its_status_its_field_and_one_line(server: Served, name: str) -> None:
    route, body, status, param = JSON_CASES[name]
    num_lines = len(server.log())
    response = server.post(route, json=body, headers=HEADERS)
    error = judge(server, response, status, num_lines)
    assert error["type"] == "invalid_request_error"
    assert param is None or error["param"] == param


@pytest.mark.parametrize("name", ["a decompression bomb", "a picture over the limit"])
def test_a_picture_that_is_too_large_is_refused_for_its_size(server: Served, name: str) -> None:
    route, body, _, _ = JSON_CASES[name]  # their pixels are missing, which only who decodes them finds
    message = server.post(route, json=body, headers=HEADERS).json()["error"]["message"]
    assert message.startswith("the picture is too large")


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("truncated", b'{"prompt": "a', 400),
        ("empty", b"", 400),
        ("nested without end", b"[" * 100_000, 400),
        ("no text", b"\xff\xfe\x00", 400),
        ("not a number", b'{"prompt": "a", "seed": NaN}', 400),
        ("half a character", b'{"prompt": "\\ud800"}', 400),
        ("too large", b" " * 1_100_000, 413),
    ],
)
def test_a_body_that_is_no_json_is_refused(server: Served, name: str, content: bytes, status: int) -> None:
    num_lines = len(server.log())
    headers = {**HEADERS, "Content-Type": "application/json"}
    judge(server, server.post("images/generations", content=content, headers=headers), status, num_lines)


def test_a_body_that_does_not_say_how_large_it_is_is_refused_when_it_is_too_large(server: Served) -> None:
    num_lines = len(server.log())
    headers = {**HEADERS, "Content-Type": "application/json"}
    content = (b" " * 65536 for _ in range(18))
    judge(server, server.post("images/generations", content=content, headers=headers), 413, num_lines)


@pytest.mark.parametrize(
    ("name", "arguments", "param"),
    [
        ("no picture", {"data": BODY, "files": {"other": b""}}, "other"),
        ("a path for a picture", {"data": {**BODY, "image": "/etc/passwd"}, "files": {"x[]": b"1"}}, "x[]"),
        ("two pictures", {"data": BODY, "files": [("image", picture()), ("image", picture())]}, "image"),
        ("an empty picture", {"data": BODY, "files": {"image": b""}}, "image"),
        ("a mask", {"data": BODY, "files": {"image": picture(), "mask": picture()}}, "mask"),
        ("a field twice", {"data": {**BODY, "seed": ["1", "2"]}, "files": {"image": picture()}}, "seed"),
        ("a seed of text", {"data": {**BODY, "seed": "x"}, "files": {"image": picture()}}, "seed"),
        ("an address", {"data": {**BODY, "url": "http://127.0.0.1:1/"}, "files": {"image": picture()}}, "url"),
        ("no prompt", {"data": SMALL, "files": {"image": picture()}}, "prompt"),
    ],
)
def test_a_bad_form_is_refused(server: Served, name: str, arguments: dict[str, Any], param: str) -> None:
    num_lines = len(server.log())
    error = judge(server, server.post("images/edits", headers=HEADERS, **arguments), 400, num_lines)
    assert error["param"] == param


@pytest.mark.parametrize("content", [b"", b"--x\r\n", b"--y\r\nContent-Disposition: form-data\r\n\r\n1\r\n--y--\r\n"])
def test_a_form_that_is_none_is_refused(server: Served, content: bytes) -> None:
    num_lines = len(server.log())
    headers = {**HEADERS, "Content-Type": "multipart/form-data; boundary=y"}
    judge(server, server.post("images/edits", content=content, headers=headers), 400, num_lines)


@pytest.mark.parametrize("route", ["images/generations", "images/edits", "chat/completions"])
def test_another_content_type_is_refused(server: Served, route: str) -> None:
    num_lines = len(server.log())
    headers = {**HEADERS, "Content-Type": "text/plain"}
    judge(server, server.post(route, content=json.dumps(BODY), headers=headers), 415, num_lines)


@pytest.mark.parametrize("given", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": KEY}])
def test_a_wrong_key_is_refused(server: Served, given: dict[str, str]) -> None:
    num_lines = len(server.log())
    error = judge(server, server.post("images/generations", json=BODY, headers=given), 401, num_lines)
    assert error["code"] == "invalid_api_key"
    assert KEY not in "".join(server.log())
    assert httpx2.get(f"{server.url}/v1/models", headers=given).status_code == 401
    assert httpx2.get(f"{server.url}/health", headers=given).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/health", 405),
        ("GET", "/v1/files", 404),
        ("GET", "/..%2f..%2fetc/passwd", 404),
        ("GET", "/v1/models%0a12:00:00%20POST%20/faked%20200", 404),
    ],
)
def test_what_is_no_route_is_refused(server: Served, method: str, path: str, status: int) -> None:
    num_lines = len(server.log())
    judge(server, httpx2.request(method, server.url + path, headers=HEADERS), status, num_lines)


def test_bytes_that_are_no_request_leave_the_server_as_it_was(server: Served) -> None:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
        assert connection.recv(64).startswith(b"HTTP/1.1 400")


def test_after_all_of_them_pictures_are_made_as_before(server: Served) -> None:
    server.post("images/generations", json=[], headers=HEADERS)
    assert server.post("images/generations", json=BODY, headers=HEADERS).status_code == 200
    assert not [line for line in server.log() if " 500 " in line]
    assert server.metric("num_requests_running") == 0
