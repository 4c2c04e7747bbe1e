"""Compares two reports of host syncs by what waits and where, as an edit above moves every line below it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bagel_perf.schema.sites import Site
from bagel_perf.schema.sync_differences import SyncChange, SyncDifference
from bagel_perf.schema.syncs import SyncReport, doubts
from bagel_perf.schema.trace_differences import Change

Key = tuple[str, str, str, tuple[str, ...]]
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

    def key(self, site: Site) -> Key:
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


def _by_key(side: Side) -> dict[Key, list[Site]]:
    found: defaultdict[Key, list[Site]] = defaultdict(list)
    for site in side.report.sites:
        found[side.key(site)].append(site)
    return found


def _change(key: Key, was: Sequence[Site], now: Sequence[Site], before: Side, after: Side) -> SyncChange | None:
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


def _count(sites: Iterable[Site]) -> int:
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
