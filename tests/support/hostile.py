"""Records whose every string is hostile, and what a sink has to keep to whatever they say."""

from __future__ import annotations

import functools
import re
import types
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin
from xml.etree import ElementTree

import msgspec
from markdown_it import MarkdownIt
from msgspec.structs import replace

from page_reader import Reader

_T = TypeVar("_T")

FRAGMENTS = (
    "::stop-commands::tok", "\n::error::x", "##[add-mask]pass", "\x1b]0;title\x07", "\x1b[2J\x1b[1;1H", "[text](url)",
    "![a](b)", "<script>alert(1)</script>", "</script>", "<!--", "]]>", "`", "```", "|", "\r", "\r\n", "\x00", "%0A",
    "%", "\u202e", "\u2066", "\u200b", "\ud800", "\ufffe", "*a*", "_b_", "~~c~~", "# d", "- e", "1. f", "> g", "&lt;",
    "&#x3c;", "https://e.test/", "www.e.test", "\\", "\\[", "\t", "\u2028", "\x85", "[x]: y", "$x$", "{{7*7}}", "'",
    '"', "x" * 300, "    ", "===", "---", "::", ":", "[b]red[/b]",
)  # fmt: skip
KEPT = ("created", "idle_by_cause_ms", "syncs_by_kind")
"""Fields that have to be what they are for there to be anything to render."""


def spoiled(record: _T, spoil: Callable[[str], str]) -> _T:
    """A record with each of its strings exchanged; those that name one of a fixed set stay."""
    return _spoiled(type(record), record, spoil)  # type: ignore[no-any-return]


def consistent(text: str) -> Callable[[str], str]:
    """Gives equal strings equal hostile ones, and different ones different."""
    return functools.cache(lambda original: f"{text}{original}" if original else original)


def _spoiled(hint: Any, value: Any, spoil: Callable[[str], str]) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        return _of_union(hint, value, spoil)
    if get_origin(hint) is Literal or value is None:
        return value
    if isinstance(value, str):
        return spoil(value)
    if isinstance(value, tuple):
        inner = get_args(hint)
        hints = [inner[0]] * len(value) if inner[1:] == (Ellipsis,) else inner
        return tuple(_spoiled(each, item, spoil) for each, item in zip(hints, value, strict=True))
    if isinstance(value, Mapping):
        _, item_hint = get_args(hint)
        return {spoil(key): _spoiled(item_hint, item, spoil) for key, item in value.items()}
    if isinstance(value, msgspec.Struct):
        changed = {
            field.name: _spoiled(field.type, getattr(value, field.name), spoil)
            for field in _fields(type(value))
            if field.name not in KEPT
        }
        return replace(value, **changed)
    return value


@functools.cache
def _fields(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)


def _of_union(hint: Any, value: Any, spoil: Callable[[str], str]) -> Any:
    options = [option for option in get_args(hint) if option is not types.NoneType]
    literal = any(get_origin(option) is Literal for option in options)
    if isinstance(value, str):
        return value if literal else spoil(value)
    return value if value is None else _spoiled(options[0], value, spoil)


def check_terminal(text: str) -> None:
    """No control but line feeds, nothing that turns text around, and no line that a CI runner obeys."""
    odd = {char for char in text if char != "\n" and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert not odd, f"characters that steer a terminal: {odd}"
    assert not [line for line in text.split("\n") if line.lstrip().startswith("::")]
    assert "##[" not in text


def markdown_shape(text: str) -> list[str]:
    """Kinds of blocks and of what stands in them, of CommonMark with tables and strikethrough."""
    check_terminal(re.sub(r"^\s*:+(?=:)", "", text, flags=re.M))
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    kinds = []
    for token in tokens:
        kinds.append(token.type)
        inner = [child.type for child in token.children or () if child.type not in ("text", "text_special")]
        kinds += inner
    return kinds


def html_shape(text: str) -> tuple[Counter[str], Counter[str]]:
    """Elements and names of attributes; SVG, which wraps and shares as names are long, is left out."""
    assert not [char for char in text if char not in "\n\t" and unicodedata.category(char) in ("Cc", "Cf", "Cs")]
    text = re.sub(r"wait-[0-9a-f]{12}", "wait", text)  # a digest of what a row is of
    reader = Reader(re.sub(r"<svg.*?</svg>", "", text, flags=re.S))
    links = [value for _, name, value in reader.attributes if name in ("href", "src") and not value.startswith("data:")]
    return reader.tags, Counter((*(name for _, name, _ in reader.attributes), *links))


def xml_shape(text: str) -> list[str]:
    """Elements in order."""
    assert not [char for char in text if char != "\n" and unicodedata.category(char) in ("Cc", "Cf", "Cs")]
    return [element.tag for element in ElementTree.fromstring(text).iter()]


def check_command(line: str) -> None:
    """One workflow command on one line, whose properties end where ours do."""
    match = re.fullmatch(r"::(error|warning) (?:file=[^:,]*,line=\d+,)?title=[^:,]*::(.*)", line)
    assert match is not None
    check_terminal("message " + match[2].replace("##[", ""))
