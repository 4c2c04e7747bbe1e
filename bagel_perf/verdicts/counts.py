"""Holds the host syncs of a subject to the expected ones, in both directions, and two reports of them to each other.

Compared is what waits and where by function, not by line, as an edit above moves every line below it.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from bagel_perf.records.expectations import ExpectedSubject, ExpectedSyncs, Key, SubjectName
from bagel_perf.records.gates import Finding
from bagel_perf.records.sites import HINTS, SyncSite
from bagel_perf.records.syncs import SyncChange, SyncDifference, SyncReport, doubts
from bagel_perf.records.trace_differences import Change

MAX_LINES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Turns names of a report into those of the expectations, which are relative to ``root``.

    ``folders`` are where a program's files may be found by the names that a report gives them: the current folder, and
    that of the program. What is in none of them below ``root`` is a library's, and keeps its name.
    """

    root: Path
    folders: tuple[Path, ...]

    def of(self, file: str) -> str:
        """The name of a file in the expectations, with forward slashes."""
        for folder in self.folders if file and not file.startswith("<") else ():
            path = Path(os.path.abspath(folder / file))
            if path.is_file() and path.is_relative_to(self.root):
                return path.relative_to(self.root).as_posix()
        return PurePath(file).as_posix() if file else ""

    def shown(self, name: str) -> str | None:
        """Where a file of the expectations is from the current folder, as an annotation wants it; None for none."""
        path = self.root / name
        return os.path.relpath(path) if name and path.is_file() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a subject was seen to do: counts by place, and the lines of each."""

    name: SubjectName
    report: SyncReport
    counts: dict[Key, int] = field(default_factory=dict)
    lines: dict[Key, tuple[int, ...]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.counts.values())


def found_in(name: SubjectName, report: SyncReport, paths: Paths) -> Found:
    """Sums a report by file, function and kind."""
    counts: Counter[Key] = Counter()
    lines: dict[Key, list[int]] = {}
    for site in report.sites:
        key = (paths.of(site.file), site.function, site.kind)
        counts[key] += site.count
        lines.setdefault(key, []).append(site.line)
    return Found(
        name=name,
        report=report,
        counts=dict(counts),
        lines={key: tuple(dict.fromkeys(each)) for key, each in lines.items()},
    )


def drift(found: Found, expected: ExpectedSubject | None, paths: Paths) -> tuple[Finding, ...]:
    """What keeps a subject from passing: new, vanished, more or fewer waits, and all that could not be judged.

    Where something could not be judged, waits may be missing from the counts, so fewer of them prove nothing.
    """
    findings = list(_doubts(found))
    is_open = bool(findings)
    if expected is None:
        message = f"{found.name}: no counts are recorded ({found.total} now); --update REASON records them"
        return (*findings, Finding(kind="counter", message=message))
    entries = {entry.key: entry for entry in expected.syncs}
    for key in sorted({*found.counts, *entries}):
        entry, count = entries.get(key), found.counts.get(key, 0)
        before = 0 if entry is None else entry.count
        if count > before or (count < before and not is_open):
            findings.append(_finding(found, key, entry, paths))
    return tuple(findings)


def _doubts(found: Found) -> Iterator[Finding]:
    report = found.report
    if report.signal or report.exit_code:
        ended = report.signal or f"exit code {report.exit_code}"
        yield Finding(kind="incomplete", message=f"{found.name}: it ended with {ended}")
    for doubt in doubts(report):
        if doubt.kind == "unused" and (report.signal or report.exit_code):
            continue  # it may have been about to
        yield Finding(kind="inconclusive", message=f"{found.name}: {doubt}")


def _finding(found: Found, key: Key, entry: ExpectedSyncs | None, paths: Paths) -> Finding:
    file, function, kind = key
    count, lines = found.counts.get(key, 0), found.lines.get(key, ())
    shown = ", ".join(map(str, lines[:MAX_LINES])) + ("..." if len(lines) > MAX_LINES else "")
    place = f"{file}{f':{shown}' if shown else ''} {function}".strip() or "no line of Python"
    told = f"{found.name}: {place}: {HINTS[kind].label}"
    if entry is None:
        message = f"{told}: {count} new"
    else:
        tag = f", tag {entry.tag}" if entry.tag else ""
        now = f"{count}, expected {entry.count}" if count else f"none any more, expected {entry.count}"
        message = f"{told}: {now} ({entry.reason}{tag})"
    return Finding(kind="counter", message=message, file=paths.shown(file), line=lines[0] if lines else None)


def recorded(found: Found, expected: ExpectedSubject | None, reason: str) -> ExpectedSubject:
    """What is expected from now on; entries whose count is the same keep their reason, and all their tag."""
    before = {} if expected is None else {entry.key: entry for entry in expected.syncs}
    syncs = [_entry(key, count, before.get(key), reason) for key, count in sorted(found.counts.items())]
    name = found.name
    return ExpectedSubject(target=name.target, case=name.case, command=name.command, test=name.test, syncs=tuple(syncs))


def _entry(key: Key, count: int, before: ExpectedSyncs | None, reason: str) -> ExpectedSyncs:
    if before is not None and before.count == count:
        return before
    file, function, kind = key
    tag = None if before is None else before.tag
    return ExpectedSyncs(file=file, function=function, kind=kind, count=count, reason=reason, tag=tag)


PlaceKey = tuple[str, str, str, tuple[str, ...]]
"""File, function, kind, source texts."""
OPEN = ("unwatched", "untested", "unused")
"""Doubts about all of a report; that an operator could not be judged is one about its file."""
RANK: tuple[Change, ...] = ("new", "more", "unknown", "gone", "fewer")
"""What a reader looks for first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A report, and what its own names are called in both: the files and functions that are compared."""

    report: SyncReport
    files: Mapping[str, str] = field(default_factory=dict)
    functions: Mapping[str, str] = field(default_factory=dict)

    def key(self, site: SyncSite) -> PlaceKey:
        """What a site is known by in both reports."""
        outer, dot, inner = site.function.partition(".")
        is_own = site.file in self.files
        function = self.functions.get(outer, outer) + dot + inner if is_own else site.function
        return self.files.get(site.file, site.file), function, site.kind, site.expressions

    def doubt(self, file: str) -> str:
        """Why waits in a file may be missing from the report; "" where none are."""
        report = self.report
        if report.signal or report.exit_code:
            return f"it ended with {report.signal or f'exit code {report.exit_code}'}"
        found = next((doubt for doubt in doubts(report) if doubt.kind in OPEN), None)
        if found is not None:
            return found.text
        placed = {each.operator for each in report.unjudged_sites}
        here = [each.operator for each in report.unjudged_sites if self.files.get(each.file, each.file) == file]
        unjudged = [name for name in report.unjudged if name in here or name not in placed]
        return f"nobody can judge {', '.join(unjudged)}" if unjudged else ""

    @property
    def total(self) -> int | None:
        """All waits; None where some may be missing."""
        is_open = bool(self.report.unjudged) or bool(self.doubt(""))
        return None if is_open else self.report.host_syncs


def difference(before: Side, after: Side) -> SyncDifference:
    """From ``before`` to ``after``: what is new, gone, more, fewer, or not known to be the same."""
    was, now = _by_key(before), _by_key(after)
    changes, same = [], []
    for key in dict.fromkeys([*now, *was]):
        change = _change(key, was.get(key, []), now.get(key, []), before, after)
        if change is None:
            same.append(key)
        else:
            changes.append(change)
    return SyncDifference(
        before=before.report.subject,
        after=after.report.subject,
        host_syncs_before=before.total,
        host_syncs_after=after.total,
        changes=tuple(sorted(changes, key=_rank)),
        num_same=len(same),
        host_syncs_same=sum(site.count for key in same for site in now[key]),
        notes=tuple(_notes(before.report, after.report)),
    )


def _by_key(side: Side) -> dict[PlaceKey, list[SyncSite]]:
    found: defaultdict[PlaceKey, list[SyncSite]] = defaultdict(list)
    for site in side.report.sites:
        found[side.key(site)].append(site)
    return found


def _change(
    key: PlaceKey, was: Sequence[SyncSite], now: Sequence[SyncSite], before: Side, after: Side
) -> SyncChange | None:
    """The change of one place; None where the counts are the same.

    What an open report counted are waits that are there: with more of them on the other side's closed report nothing is
    unknown.
    """
    num_before, num_after = _count(was), _count(now)
    if num_before == num_after:
        return None
    lower = before if num_before < num_after else after
    why = lower.doubt(key[0])
    change: Change = "unknown" if why else _word(num_before, num_after)
    site = (now or was)[0]
    return SyncChange(
        change=change,
        kind=site.kind,
        file=site.file,
        line=site.line,
        function=site.function,
        expressions=site.expressions,
        count_before=None if why and lower is before else num_before,
        count_after=None if why and lower is after else num_after,
        why_unknown=f"{lower.report.subject or 'the program'}: {why}" if why else "",
    )


def _count(sites: Iterable[SyncSite]) -> int:
    return sum(site.count for site in sites)


def _word(before: int, after: int) -> Change:
    if not after:
        return "gone"
    if not before:
        return "new"
    return "fewer" if after < before else "more"


def _rank(change: SyncChange) -> tuple[int, int, str, int]:
    size = abs((change.count_after or 0) - (change.count_before or 0))
    return RANK.index(change.change), -size, change.file, change.line


def _notes(before: SyncReport, after: SyncReport) -> Iterator[str]:
    if before.device != after.device:
        yield f"counted on unlike devices: {before.device} and {after.device}"
    for report in (before, after):
        if report.unjudged:
            operators = ", ".join(report.unjudged)
            yield f"{report.subject or 'the program'} called what nobody can judge: {operators}; its total is open"
        yield from (f"{report.subject or 'the program'}: {doubt}" for doubt in doubts(report) if doubt.kind in OPEN)
    have_texts = {any(site.expressions for site in report.sites) for report in (before, after) if report.sites}
    if len(have_texts) > 1:
        yield "only one of the two has source texts, so no place can be found again"
