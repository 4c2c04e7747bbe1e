"""Result files as a page takes them: read, ordered by time, and without characters that no document may hold."""

from __future__ import annotations

import datetime
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
from msgspec.structs import asdict, replace

from bagel_perf.records.errors import UsageError, clean_text
from bagel_perf.records.results import Result, result_file
from bagel_perf.report.inert import commit_text
from bagel_perf.verdicts.plausible import check_result
from bagel_perf.verdicts.reading import load_checked

_T = TypeVar("_T")

MAX_TEXT = 1000
"""Characters of a string that are shown; names are cut alike wherever they stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A result and the folder that its pictures are relative to."""

    result: Result
    folder: Path

    @property
    def created(self) -> datetime.datetime:
        """When the result was made; without a zone it is taken for UTC."""
        created = datetime.datetime.fromisoformat(self.result.created)
        return created.replace(tzinfo=datetime.UTC) if created.tzinfo is None else created.astimezone(datetime.UTC)

    @property
    def rank(self) -> int:
        """Of the kind of device, from a CPU, whose latencies say nothing about a GPU, to a GPU."""
        return ("cpu", "server", "cuda").index(self.result.environment.device_kind)

    @property
    def name(self) -> str:
        """Time, commit and device, which tell it from the others of a history."""
        environment = self.result.environment
        return f"{self.created:%Y-%m-%d %H:%M}, {commit_text(environment)}, {environment.device_name}"


def load_sources(paths: Sequence[Path]) -> tuple[Source, ...]:
    """The results of files or folders, those of a CPU first and those of a GPU last, each oldest first.

    The last, which a page is about, is so the newest of the best kind of device. A file named twice counts once.
    """
    files = dict.fromkeys(_file(path) for path in paths)
    sources = [_named_source(load_checked(path), path) for path in files]
    return tuple(sorted(sources, key=lambda source: (source.rank, source.created)))


def _file(path: Path) -> Path:
    try:
        return result_file(path).resolve()
    except (OSError, RuntimeError) as problem:  # a name that is too long, and links that go round
        raise UsageError("result file cannot be read", value=path, allowed=str(problem)) from problem


def checked_source(result: Result, path: Path) -> Source:
    """Of a file, which ``UsageError`` names where no page can be made of what it holds."""
    try:
        check_result(result)
    except UsageError as problem:
        raise UsageError("result file is not usable", value=path, allowed=str(problem)) from problem
    return _named_source(result, path)


def _named_source(result: Result, path: Path) -> Source:
    try:
        return source_of(result, path.parent)
    except UsageError as problem:
        raise UsageError("result file is not usable", value=path, allowed=str(problem)) from problem


def source_of(result: Result, folder: Path) -> Source:
    """Raises ``UsageError`` where the result has no date."""
    source = Source(result=cleaned_record(result), folder=folder)
    try:
        source.created  # noqa: B018
    except (ValueError, OverflowError) as problem:
        remedy = "give a file that compare wrote"
        raise UsageError(
            "result has no date", value=source.result.created, allowed="ISO 8601", remedy=remedy
        ) from problem
    return source


def cleaned_record(value: _T) -> _T:
    """A record whose strings are clean and no longer than ``MAX_TEXT``; itself where they are."""
    return cast(_T, _cleaned_field(value))


def _cleaned_field(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(_cut(value, MAX_TEXT))
    if isinstance(value, tuple):
        items = tuple(map(_cleaned_field, value))
        return value if all(map(operator.is_, items, value)) else items
    if isinstance(value, dict):
        found = {_cleaned_field(key): _cleaned_field(each) for key, each in value.items()}
        return value if found == value else found
    if not isinstance(value, msgspec.Struct):
        return value
    new = {name: changed for name, old in asdict(value).items() if (changed := _cleaned_field(old)) is not old}
    return replace(value, **new) if new else value


def cleaned(value: Any, max_text: int = MAX_TEXT) -> Any:
    """A JSON value whose strings and keys are clean and no longer than ``max_text``."""
    if isinstance(value, str):
        return clean_text(_cut(value, max_text))
    if isinstance(value, dict):
        return {clean_text(_cut(str(key), max_text)): cleaned(each, max_text) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [cleaned(each, max_text) for each in value]
    return value


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
