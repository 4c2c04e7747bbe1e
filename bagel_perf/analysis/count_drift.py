"""Holds the host syncs of a subject to the expected ones, in both directions."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from bagel_perf.schema.expected_counts import ExpectedSubject, ExpectedSyncs, Key, SubjectName
from bagel_perf.schema.gates import Finding
from bagel_perf.schema.syncs import SyncReport, doubts
from bagel_perf.schema.waits import HINTS

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
