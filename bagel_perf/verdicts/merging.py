"""Makes one report of those of several processes: sites by process, budgets of all, and who was not watched."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from msgspec.structs import replace

from bagel_perf.records.blockers import CaptureReport
from bagel_perf.records.copies import CopySite, by_bytes
from bagel_perf.records.sites import QuietOperator, SyncSite
from bagel_perf.records.syncs import UNKNOWN_PID, BudgetCheck, Process, SyncReport, Witnesses
from bagel_perf.rules.programs import cannot_use_device, is_python, only_starts_others, python_parts, readable

WHOLE = ""
MAIN = "main"
IGNORES_US = ("I", "E", "S")
"""Flags of Python under which it does not look at PYTHONPATH, or at ``sitecustomize``."""
NOT_ARMED = "it was not armed: started without the environment of its parent, or ended before that"
NO_PYTHON = "it is no Python"


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A process that was armed, and what it reported; None where it imported no torch, or could not be watched."""

    process: Process
    report: SyncReport | None = None
    ppid: int | None = None
    is_fork: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A process that was seen to run.

    ``is_fork`` says that it ran the same command as its parent, ``is_python`` that its program is an interpreter,
    whatever title it gave itself in the place of its command.
    """

    pid: int
    ppid: int
    argv: tuple[str, ...]
    is_fork: bool = False
    is_python: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A process that a watched one says it started; ``pid`` is None where it does not know."""

    process: Process
    by: int


def shown_argv(argv: Sequence[str]) -> tuple[str, ...]:
    """Gives a command as the system shows it of a process, but for empty words, which a title is padded with."""
    return tuple(os.fsencode(word).decode(errors="replace") for word in argv if word)


def merged(
    subject: str, followed: Sequence[Followed], unwatched: Sequence[Process], budgets: Mapping[str, int] | None = None
) -> SyncReport:
    """Gives the report of all processes; where one was watched, its own with its name.

    ``budgets`` are those of the order, which are open where no process imported torch.
    """
    named = _with_names(each for each in followed if not _is_nobody(each))
    reports = [(each.process.name, each.report) for each in named if each.report is not None]
    processes = (*map(_counted, named), *unwatched)
    if not reports:
        return SyncReport(
            device="simulated",
            host_syncs=0,
            unexplained=0,
            sites=(),
            witnesses=Witnesses(simulated=0),
            subject=subject,
            budgets=tuple(_unspent(region, limit) for region, limit in (budgets or {}).items()),
            used_device=False,
            processes=processes,
        )
    if len(reports) == 1:
        ((name, own),) = reports
        sites = tuple(replace(site, process=name) for site in own.sites)
        return replace(own, subject=subject, processes=processes, sites=sites)
    return replace(_merged(subject, reports), processes=processes)


def _unspent(region: str, limit: int) -> BudgetCheck:
    return BudgetCheck(region=region, limit=limit, num_entries=int(region == WHOLE), worst=0, num_exceeded=0)


def _is_nobody(each: Followed) -> bool:
    """Whether it is a helper of multiprocessing's, or a fork that became another program, and did nothing itself."""
    report = each.report
    if each.process.name == MAIN:
        return False
    if report is not None and (report.used_device is not False or not each.is_fork or not each.process.why):
        return False
    return each.is_fork or cannot_use_device(each.process.argv)


def _with_names(followed: Iterable[Followed]) -> list[Followed]:
    """The command itself first, then the others as they began; two of one name are told apart by their numbers."""
    ordered = sorted(followed, key=lambda each: (each.process.name != MAIN, each.process.pid or 0))
    times = Counter(each.process.name for each in ordered)
    return [each if times[each.process.name] == 1 else _numbered(each) for each in ordered]


def _numbered(each: Followed) -> Followed:
    process = replace(each.process, name=f"{each.process.name} ({each.process.pid})")
    return dataclasses.replace(each, process=process)


def _counted(each: Followed) -> Process:
    report = each.report
    if report is None:
        return replace(each.process, host_syncs=0, used_device=False) if each.process.watched else each.process
    return replace(each.process, host_syncs=report.host_syncs, used_device=report.used_device)


def _merged(subject: str, reports: Sequence[tuple[str, SyncReport]]) -> SyncReport:
    every = [report for _, report in reports]
    first = max(every, key=lambda each: each.profile is not None)
    waiting = [(name, report) for name, report in reports if report.sites]
    sites = [replace(site, process=name) for name, report in waiting for site in report.sites]
    if len(waiting) > 1:
        sites.sort(key=lambda site: -site.count)
    return replace(
        first,
        device="cuda" if any(each.device == "cuda" for each in every) else "simulated",
        host_syncs=sum(each.host_syncs for each in every),
        unexplained=sum(each.unexplained for each in every),
        sites=tuple(sites),
        witnesses=_witnesses([each.witnesses for each in every]),
        subject=subject,
        exit_code=0,
        budgets=_budgets(every),
        unjudged=_sum(each.unjudged for each in every),
        unjudged_sites=tuple(site for each in every for site in each.unjudged_sites),
        hazard_sites=tuple(site for each in every for site in each.hazard_sites),
        quiet_operators=_quiet(every),
        hazards=_sum(each.hazards for each in every),
        notes=tuple(_notes(reports)),
        used_device=_any(each.used_device for each in every),
        not_begun=_not_begun(every),
        captures=tuple(_captures(reports)),
        copies=_copies([each.copies for each in every]),
        untested=tuple(dict.fromkeys(name for each in every for name in each.untested)),
    )


def _not_begun(reports: Sequence[SyncReport]) -> str:
    """The region that counting was to begin after, where it began in no process that used the device."""
    if any(each.used_device and not each.not_begun for each in reports):
        return ""
    return next((each.not_begun for each in reports if each.not_begun), "")


def _captures(reports: Sequence[tuple[str, SyncReport]]) -> Iterator[CaptureReport]:
    """Those of the processes that entered the region, each under its name; else what the first says."""
    entered = [(name, each) for name, report in reports for each in report.captures if each.num_entries]
    if not entered:
        yield from next((report.captures for _, report in reports), ())
    for name, each in entered:
        yield replace(each, subject=f"{each.subject}, {name}") if len(entered) > 1 else each


def _copies(found: Sequence[tuple[CopySite, ...] | None]) -> tuple[CopySite, ...] | None:
    """The sums by line; None where a process did not look for them."""
    sums: dict[CopySite, list[CopySite]] = {}
    for copies in found:
        if copies is None:
            return None
        for copy in copies:
            sums.setdefault(replace(copy, count=1, num_bytes=None, num_waited=0), []).append(copy)
    return by_bytes([_sum_of(alike) for alike in sums.values()])


def _sum_of(alike: Sequence[CopySite]) -> CopySite:
    sizes = [copy.num_bytes for copy in alike]
    return replace(
        alike[0],
        count=sum(copy.count for copy in alike),
        num_bytes=None if None in sizes else sum(size for size in sizes if size is not None),
        num_waited=sum(copy.num_waited for copy in alike),
    )


def _any(values: Iterable[bool | None]) -> bool | None:
    found = set(values)
    return True if True in found else None if None in found else False


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    return dict(sorted(reduce(lambda sum_, each: sum_ + Counter(each), counts, Counter[str]()).items()))


def _quiet(reports: Sequence[SyncReport]) -> tuple[QuietOperator, ...]:
    first = {each.name: each for report in reports for each in report.quiet_operators}
    calls = Counter[str]()
    for report in reports:
        calls.update({each.name: each.calls for each in report.quiet_operators})
    return tuple(replace(each, calls=calls[name]) for name, each in first.items())


def _notes(reports: Sequence[tuple[str, SyncReport]]) -> Iterator[str]:
    """Each note once, with the processes that it is of unless it is of all."""
    of: dict[str, list[str]] = {}
    for name, report in reports:
        for note in report.notes:
            of.setdefault(note, []).append(name)
    for note, names in of.items():
        yield note if len(names) == len(reports) else f"{note} ({', '.join(map(role_of, dict.fromkeys(names)))})"


def _witnesses(witnesses: Sequence[Witnesses]) -> Witnesses:
    """The sums; None where one of those that counted at all had no such witness."""
    seen = [each for each in witnesses if each != Witnesses()]
    counts = {}
    for name in ("callbacks", "debug_mode", "cupti", "simulated"):
        values = [getattr(each, name) for each in seen]
        counts[name] = None if None in values or not values else sum(values)
    return Witnesses(**counts, blind=sum(each.blind for each in seen))


def _budgets(reports: Sequence[SyncReport]) -> tuple[BudgetCheck, ...]:
    """Each budget over all processes: the whole is what all spent together, an entry of a region is of one process."""
    checks: dict[str, list[BudgetCheck]] = {}
    for report in reports:
        for check in report.budgets:
            checks.setdefault(check.region, []).append(check)
    return tuple(_together(region, found) for region, found in checks.items())


def _together(region: str, checks: Sequence[BudgetCheck]) -> BudgetCheck:
    if region == WHOLE:
        spent = sum(check.worst for check in checks)
        return replace(checks[0], worst=spent, num_exceeded=int(spent > checks[0].limit))
    entered = [check for check in checks if check.num_entries]
    return replace(
        checks[0],
        num_entries=sum(check.num_entries for check in checks),
        worst=max(check.worst for check in checks),
        num_exceeded=sum(check.num_exceeded for check in checks),
        used_device=_any(check.used_device for check in entered) if entered else checks[0].used_device,
    )


_NUMBERED = re.compile(r"\d+(:\d+)*( \(\d+\))?$| \(\d+\)$")


def role_of(name: str) -> str:
    """Names what alike processes have in common: ``SpawnProcess-1`` and ``-2`` are both ``SpawnProcess-*``."""
    return _NUMBERED.sub("*", name) if name else name


def by_role(sites: Sequence[SyncSite]) -> tuple[SyncSite, ...]:
    """Sums the sites of alike processes, most frequent first; in their order where no two are alike.

    Where a single process waits, its name says nothing, and is left out.
    """
    if len({site.process for site in sites}) == 1:
        return tuple(replace(site, process="") for site in sites)
    found: dict[SyncSite, list[SyncSite]] = {}
    for site in sites:
        found.setdefault(_alike(site), []).append(site)
    if len(found) == len(sites):
        return tuple(sites)
    return tuple(sorted(map(_one, found.values()), key=lambda site: -site.count))


def _alike(site: SyncSite) -> SyncSite:
    """What two sites of alike processes have in common; one of a single process is like no other."""
    times = {"blocked_ms": None, "lost_gpu_ms": None, "predicted_saving_ms": None}
    return replace(site, count=1, process=role_of(site.process), **times) if site.process else site


def _one(alike: Sequence[SyncSite]) -> SyncSite:
    if len(alike) == 1:
        return alike[0]
    names = dict.fromkeys(site.process for site in alike)
    process = role_of(alike[0].process) if len(names) > 1 else alike[0].process
    return replace(_alike(alike[0]), count=sum(site.count for site in alike), process=process)


def unwatched(
    followed: Sequence[Followed], sightings: Iterable[Sighting], notes: Iterable[Note]
) -> tuple[Process, ...]:
    """Gives the processes that may have used the device and were not armed: of those seen, and of those started.

    A launcher uses no device; what it started has been seen unless it ran for less than a moment, and then the process
    that started the launcher has noted it.
    """
    known = _Known(followed, {each.pid: each for each in sightings})
    found = [_as_process(each) for each in known.seen.values() if each.pid not in known.armed and _may_use(each)]
    noted = [note.process for note in notes if not known.holds(note)]
    return (*found, *(replace(each, why=each.why or _why(each.argv)) for each in noted))


class _Known:
    """What is known of processes: ``armed`` are those that still are what was armed, ``seen`` the last sightings."""

    def __init__(self, followed: Sequence[Followed], seen: dict[int, Sighting]) -> None:
        self.seen = seen
        self.armed = {each.process.pid for each in followed if not _has_become_another(each, seen)}
        self._times = Counter(each.process.pid for each in followed)
        self._forks = {each.process.pid for each in followed if each.is_fork}
        parents = {each.pid: each.ppid for each in seen.values()}
        parents |= {each.process.pid: each.ppid for each in followed if each.process.pid and each.ppid is not None}
        above = [parents[pid] for pid in parents if pid in self.armed or pid in seen]
        self._led = {*above, *(parents.get(pid) for pid in above)}
        """The parents and grandparents of what is armed or was seen."""

    def holds(self, note: Note) -> bool:
        """Whether what was noted is armed, or judged by having been seen, or led to what is."""
        pid = note.process.pid
        if pid is not None and pid == note.by:  # another program in the same process
            return self._times[pid] > 1 or self._is_judged(pid)
        if pid is not None and (pid in self.armed or (pid in self.seen and _says_all(self.seen[pid]))):
            return True
        return (note.by if pid is None else pid) in self._led

    def _is_judged(self, pid: int) -> bool:
        """Whether a process that became another program was seen as that, and is named or uses no device."""
        last = self.seen.get(pid)
        if last is None or last.is_fork:
            return False
        return not _may_use(last) or (pid in self._forks and pid not in self.armed)


def _has_become_another(each: Followed, seen: dict[int, Sighting]) -> bool:
    """Whether a fork runs another command by now, and that one is not armed."""
    last = seen.get(each.process.pid or 0)
    if not each.is_fork or last is None or last.argv == shown_argv(each.process.argv):
        return False
    return not last.is_python or is_python(last.argv)


def _may_use(sighting: Sighting) -> bool:
    argv = sighting.argv
    return bool(argv) and not (sighting.is_fork or cannot_use_device(argv) or only_starts_others(argv))


def _as_process(sighting: Sighting) -> Process:
    argv = sighting.argv
    why = _why(argv) if is_python(argv) or not sighting.is_python else NOT_ARMED  # it has a title
    return Process(name=readable(shlex.join(argv)), pid=sighting.pid, argv=argv, why=why)


def _why(argv: Sequence[str]) -> str:
    if not is_python(argv):
        return NO_PYTHON if argv else ""
    flags = python_parts(argv)[0]
    return next((f"it was started with -{letter}" for letter in IGNORES_US if f"-{letter}" in flags), NOT_ARMED)


def _says_all(sighting: Sighting) -> bool:
    """Whether a process was seen as what it is: not before its exec, and no launcher, whose own children matter."""
    return not sighting.is_fork and not only_starts_others(sighting.argv)


def note_of(process: Process, by: int) -> Note:
    """Makes a note of what a ledger says."""
    return Note(process=replace(process, pid=None) if process.pid == UNKNOWN_PID else process, by=by)
