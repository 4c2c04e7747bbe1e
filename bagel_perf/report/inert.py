"""Makes foreign text inert for each place that it goes to: a terminal or log, Markdown, a workflow command, XML.

Whatever a result, a trace or a program's source says is text, and stays text: it moves no cursor, gives a CI runner no
command, makes no link and no element. HTML is escaped by its template; ``clean_text`` takes out what escaping leaves.
The line that says where a result comes from is made here, as all of it is foreign.
"""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO
from xml.etree import ElementTree

from bagel_perf.records.errors import UsageError, clean_text, one_line
from bagel_perf.records.results import Result
from bagel_perf.records.runs import Environment

MARKS = ("\\", "`", "<", "|", "](")
"""Each begins or ends something in Markdown; a link without its target needs a definition, which begins a line."""
EMPHASIS = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|(?<!\s)(?<!^)\*|\*(?!\s|$)")
"""An underscore that is not inside a name, a star that does not stand alone."""
LEADING_MARK = re.compile(r"(#{1,6}|[-+=~*]+)(?=\s|$)|>|~{3,}|\[")
LEADING_NUMBER = re.compile(r"(\d{1,9})([.)])(?=\s|$)")
ENTITY = re.compile(r"&(?=#|[A-Za-z][A-Za-z0-9]*;)")
STYLED = r"(?:\s|\x1b\[[0-9;]*m)*"
COMMAND = re.compile(rf"^({STYLED}):(?=:)")
"""Of a runner of GitHub, which trims a line first."""
OLD_COMMAND = "##["
"""Of its former syntax, which is obeyed anywhere in a line."""


def terminal(text: str) -> str:
    """One line for a terminal; spaces stay as many as they are."""
    return clean_text(re.sub(r"\s", " ", text))


def terminal_cell(text: str) -> str:
    """A cell of a table, which may have several lines."""
    return "\n".join(map(terminal, text.split("\n")))


def markdown(text: str, *, always: str = "") -> str:
    """Inline text of Markdown, on one line; characters of ``always`` are escaped also where they mean nothing."""
    text = one_line(text)
    for mark in MARKS:
        text = text.replace(mark, "\\" + mark)
    text = re.sub(f"[{re.escape(always)}]", r"\\\g<0>", text) if always else EMPHASIS.sub(r"\\\g<0>", text)
    text = ENTITY.sub(r"\\&", text.replace("~~", r"\~\~"))
    return text.replace("://", r":\//").replace("www.", r"www\.").replace(OLD_COMMAND, r"#\#[")


def markdown_line(text: str) -> str:
    """``markdown`` at the begin of a paragraph or of an item, where more characters have a meaning."""
    text = markdown(text)
    number = LEADING_NUMBER.match(text)
    if number is not None:
        return f"{number[1]}\\{text[len(number[1]) :]}"
    return f"\\{text}" if LEADING_MARK.match(text) else text


def markdown_code(text: str) -> str:
    """A code span of Markdown that no backtick in ``text`` ends."""
    text = one_line(text).replace(OLD_COMMAND, "# #[")
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence, edge = "`" * (longest + 1), " " * (text.startswith("`") or text.endswith("`") or not text)
    return f"{fence}{edge}{text}{edge}{fence}"


def markdown_verbatim(text: str) -> str:
    """A line of a block of code, in which nothing can be escaped."""
    return terminal(text).replace(OLD_COMMAND, "# #[")


def workflow_data(text: str) -> str:
    """The message of a workflow command."""
    kept = "\n".join(terminal(line) for line in re.split(r"\r\n|\r|\n", text))
    return kept.replace("%", "%25").replace("\n", "%0A")


def workflow_property(text: str) -> str:
    """A property of a workflow command."""
    return workflow_data(text).replace(":", "%3A").replace(",", "%2C")


def clean_xml(root: ElementTree.Element) -> None:
    """Takes out of a tree what XML 1.0 cannot hold, and what hides or turns text around."""
    for element in root.iter():
        element.text = None if element.text is None else _printable(element.text)
        for name, value in element.attrib.items():
            element.set(name, _printable(value))


def _printable(text: str) -> str:
    """Without code points that are none of Unicode's characters, which XML allows in part and readers do not."""
    return clean_text(text.replace("\r", "\n").replace("\t", " "))


def json_line(text: str) -> str:
    """JSON for stdout: the same value, and no line of it is a command of a runner."""
    return text.replace(OLD_COMMAND, r"#\u0023[")


class Guarded:
    """A text stream on which no line is a command of a CI runner, however text came to wrap."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begins = True

    def write(self, text: str) -> int:
        """As of a text stream."""
        self._stream.write("".join(self._lines(text)))
        return len(text)

    def _lines(self, text: str) -> Iterator[str]:
        for line in text.splitlines(keepends=True):
            yield (COMMAND.sub(r"\1: ", line) if self._begins else line).replace(OLD_COMMAND, "# #[")
            self._begins = line.endswith(("\n", "\r"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def print_line(text: str, stream: TextIO | None = None) -> None:
    """Prints one line of ours that may hold foreign text; to stdout where no stream is given."""
    print(terminal(text), file=Guarded(sys.stdout if stream is None else stream), flush=True)


def provenance_line(result: Result) -> str:
    """All that a repetition needs, in one line of Markdown."""
    subject = result.subject
    weights = f"weights: {subject.details['weights']}" if "weights" in subject.details else ""
    parts = f"Measured on {source_text(result)}", weights, subject.summary, f"seed {result.seed}"
    where = markdown("; ".join(filter(None, parts[:2])) + "; " + ", ".join(filter(None, parts[2:])))
    return f"{where}; {markdown_code(result.command)}"


def source_text(result: Result) -> str:
    """Device, torch, commit and day."""
    environment = result.environment
    commit = commit_text(environment)
    if environment.device_kind == "server":
        return f"{environment.device_name}, {utc_date(result)} UTC"
    return f"{environment.device_name}, torch {environment.torch}, {commit}, {utc_date(result)} UTC"


def commit_text(environment: Environment) -> str:
    """The commit, and whether it names all that was measured: that a tree was clean is said only where it was seen."""
    if environment.commit is None:
        return "no commit"
    states = {True: " (uncommitted changes)", None: " (tree state unknown)", False: ""}
    return f"commit {environment.commit}{states[environment.dirty]}"


def utc_date(result: Result) -> str:
    """The day on which a result was made, as ``2026-01-31``, in UTC wherever it was made; ``UsageError`` for none."""
    try:
        created = datetime.datetime.fromisoformat(result.created)
    except ValueError as problem:
        raise UsageError("result has no date", value=result.created, allowed="ISO 8601 is expected") from problem
    return (created if created.tzinfo is None else created.astimezone(datetime.UTC)).date().isoformat()
