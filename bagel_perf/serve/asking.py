"""What a request asks for: a picture to make, of the fields of either form of API."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from bagel_perf.records.bagel import MAX_SEED, Request, check_resolution
from bagel_perf.records.errors import UsageError
from bagel_perf.serve.bodies import Fields
from bagel_perf.serve.pictures import check_size, picture_bytes
from bagel_perf.serve.refusals import ApiError, invalid

Route = Literal["chat", "edits", "generations"]

MAX_PROMPT = 8192
"""Characters."""
WITHOUT_EFFECT: dict[str, tuple[object, ...]] = {
    "stream": (False, "false"),
    "n": (1, "1"),
    "num_outputs_per_prompt": (1, "1"),
    "negative_prompt": ("",),
    "response_format": ("b64_json",),
    "output_format": ("png",),
    "background": ("auto", "opaque"),
    "mask": (),
    "url": (),
    "guidance_scale": (),
    "true_cfg_scale": (),
    "cfg_text_scale": (),
    "cfg_img_scale": (),
    "timestep_shift": (),
    "lora": (),
}
"""Fields that would change the picture, and the values with which they do not: others are refused, not ignored."""
_MARKERS = re.compile(r"(?:<\|fim_middle\|>)?<\|im_start\|>(.*)<\|im_end\|>", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request may ask for at most, what it gets where it says nothing, and the model's name."""

    model: str
    side: int
    max_pixels: int
    max_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A picture to make; ``content`` is the file of the one to edit, ``param`` the field that it came in."""

    request: Request
    content: bytes | None
    param: str
    wants_metrics: bool


def asked_of(route: Route, fields: Fields, limits: Limits) -> Asked:
    """Raises ``ApiError`` for what is missing, of a wrong type, out of range, or not done here."""
    values = fields.values
    _check_model(values, limits)
    for name, allowed in WITHOUT_EFFECT.items():
        given = values.get(name)
        is_chat_format = route == "chat" and name == "response_format"
        if given is not None and not is_chat_format and given not in allowed:
            words = f"; allowed: {', '.join(map(str, allowed))}" if allowed else "; leave it out"
            raise invalid(f"{name} is not served{words}", name, code="unsupported_parameter")
    prompt, content, param = _chat(values) if route == "chat" else _images(fields, edits=route == "edits")
    width, height = _size(fields, limits)
    try:
        request = Request(
            task="t2i" if content is None else "i2i",
            prompt=_prompt(prompt, "messages" if route == "chat" else "prompt"),
            steps=_integer(fields, "num_inference_steps", 2, limits.max_steps, 15),
            seed=_integer(fields, "seed", 0, MAX_SEED, 42),
            width=width,
            height=height,
        )
    except UsageError as error:
        raise invalid(str(error), None) from None
    return Asked(
        request=request, content=content, param=param, wants_metrics=values.get("return_stage_metrics") is True
    )


def _check_model(values: dict[str, Any], limits: Limits) -> None:
    given = values.get("model")
    if given is None or given == limits.model:
        return
    if not isinstance(given, str):
        raise invalid("model is no text", "model", code="invalid_type")
    message = f"no such model ({given}); allowed: {limits.model}"
    raise ApiError(HTTPStatus.NOT_FOUND, message, code="model_not_found", param="model")


def _chat(values: dict[str, Any]) -> tuple[object, bytes | None, str]:
    """Prompt, and the picture's file, of the one message of a user."""
    modalities = values.get("modalities")
    if modalities is not None and modalities != ["image"]:
        raise invalid('this server answers with pictures; allowed: ["image"]', "modalities")
    messages = values.get("messages")
    if not isinstance(messages, list) or len(messages) != 1 or not isinstance(messages[0], dict):
        raise invalid("messages has to hold one message", "messages")
    if messages[0].get("role") != "user":
        raise invalid("the message has to be the user's", "messages[0].role")
    content = messages[0].get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise invalid("content has to be text, or a list of parts", "messages[0].content")
    texts, pictures = [], []
    for number, part in enumerate(parts):
        where = f"messages[0].content[{number}]"
        if part.get("type") == "text":
            texts.append(part.get("text"))
        elif part.get("type") == "image_url":
            link = part.get("image_url")
            pictures.append(picture_bytes(link.get("url") if isinstance(link, dict) else link, f"{where}.image_url"))
        else:
            raise invalid("a part of this type is not served; allowed: text, image_url", f"{where}.type")
    if len(texts) != 1 or len(pictures) > 1:
        raise invalid("one text and at most one picture have to be there", "messages[0].content")
    return texts[0], pictures[0] if pictures else None, "messages[0].content"


def _images(fields: Fields, *, edits: bool) -> tuple[object, bytes | None, str]:
    """Prompt, and the picture's file, of the routes of images."""
    if not edits:
        if "image" in fields.values:
            raise invalid("text to image takes no picture; /v1/images/edits does", "image")
        return fields.values.get("prompt"), None, "prompt"
    pictures = [content for name, content in fields.files if name in ("image", "image[]")]
    others = [name for name, _ in fields.files if name not in ("image", "image[]")]
    if others:
        raise invalid("no file of this name is taken; allowed: image", others[0], code="unsupported_parameter")
    if len(pictures) != 1:
        raise invalid(f"one file named image has to be there, not {len(pictures)}", "image")
    return fields.values.get("prompt"), pictures[0], "image"


def _prompt(text: object, param: str) -> str:
    """The text without the markers that vLLM-Omni's clients put around it: the model's own are always there."""
    if not isinstance(text, str):
        raise invalid("the prompt is no text" if text is not None else "the prompt is missing", param)
    if len(text) > MAX_PROMPT:
        raise invalid(f"the prompt is too long ({len(text)} characters); at most {MAX_PROMPT}", param)
    marked = _MARKERS.fullmatch(text.strip())
    prompt = marked[1] if marked else text
    if not prompt.strip():
        raise invalid("the prompt is empty", param)
    if any("\ud800" <= char <= "\udfff" for char in prompt):
        raise invalid("the prompt is no text", param)
    return prompt


def _size(fields: Fields, limits: Limits) -> tuple[int, int]:
    """Width and height: either both fields, or ``size`` as 1024x768, or the server's own."""
    size = fields.values.get("size")
    width, height = (_integer(fields, name, 1, 1 << 20, 0) for name in ("width", "height"))
    param = "size"
    if width or height:
        if size not in (None, "auto"):
            raise invalid("width and height take the place of size; leave it out", param)
        if not (width and height):
            raise invalid("width and height go together", "height" if width else "width")
    elif size not in (None, "auto"):
        match = re.fullmatch("([0-9]{1,6})x([0-9]{1,6})", size) if isinstance(size, str) else None
        if match is None:
            raise invalid("size is not understood; WIDTHxHEIGHT, as 1024x768", param)
        width, height = int(match[1]), int(match[2])
    else:
        width = height = limits.side
    check_size(width, height, limits.max_pixels, param)
    try:
        check_resolution(width, height)
    except UsageError as error:
        raise invalid(str(error), param) from None
    return width, height


def _integer(fields: Fields, name: str, low: int, high: int, default: int) -> int:
    value = fields.values.get(name)
    if value is None:
        return default
    if fields.is_form and isinstance(value, str) and re.fullmatch("-?[0-9]{1,20}", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise invalid(f"{name} is no whole number", name, code="invalid_type")
    if not low <= value <= high:
        raise invalid(f"{name} is out of range ({value}); {low} to {high}", name)
    return value
