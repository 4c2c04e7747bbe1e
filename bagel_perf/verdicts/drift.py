"""Tier 1 of the gate: the counters of counted runs, held to what is expected, in both directions."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bagel_perf.records.bagel import Request
from bagel_perf.records.expectations import Counters, Expected, ExpectedPicture, ExpectedRun
from bagel_perf.records.gates import Finding
from bagel_perf.records.runs import CountedRun, Environment, Run, runs_of
from bagel_perf.records.sites import HINTS, SyncSite
from bagel_perf.verdicts.hints import hint_of

STAGES = ("ar", "dit")
STAGE_NAMES = {"ar": "AR", "dit": "DiT"}
ALL_SYNCS = "host syncs"
HASH_DIGITS = 16
UPDATE = 'bagel-perf gate --update "REASON" records it'
PLACE = re.compile(r" at (?P<file>\S+):(?P<line>\d+) in (?P<function>.+)$")
"""In the name of a counter that has a line."""
COMPREHENSION = re.compile(r"(\.<locals>\.)?<(list|dict|set)comp>|<genexpr>")
"""Functions of their own in some versions of Python, and not in others."""
PASSES = ("first", "again", "another")
"""Of the counted runs of a request, by their number."""
OF_RELEASE = ("operators", "random numbers")
ALL_LINES = 6
"""Lines that a finding names, where it is not known which of them is the cause."""

Key = tuple[str, str, int]
"""Request, variant, number of the pass."""
Stages = dict[str, Counters]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A line at which a counter was counted in one stage of one run; ``site`` is the wait, where it is one."""

    name: str
    file: str
    line: int
    function: str
    count: int
    site: SyncSite | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A counter of one run that is not as expected, and where it was counted."""

    stage: str
    name: str
    before: int
    after: int
    run: str
    spots: tuple[Spot, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What tier 1 counted: counters without lines, and their lines."""

    counters: dict[Key, Stages]
    spots: dict[Key, dict[str, tuple[Spot, ...]]]


def request_label(request: Request) -> str:
    """What tells a request from another, in words."""
    guidance = request.guidance
    bounds = f"{guidance.interval[0]:g} to {guidance.interval[1]:g}"
    return f"{request.task} {request.case}, {request.steps} steps, {guidance.renorm} {bounds}"


def named(file: str, function: str, what: str) -> str:
    """A counter without its line, which moves with every edit: file, function and what is counted."""
    return f"{file} {COMPREHENSION.sub('', function) or function}: {what}"


def _spot_of_site(site: SyncSite) -> Spot:
    """A wait inside a library is at the line of the program that got there."""
    file, line, function = site.file, site.line, site.function
    if site.caller is not None:
        inner = f"{function} of {file}"
        file, _, number = site.caller.rpartition(":")
        line, function = int(number), inner
    name = named(file, function, HINTS[site.kind].label)
    return Spot(name=name, file=file, line=line, function=function, count=site.count, site=site)


def _spot_of_counter(name: str, count: int) -> Spot | None:
    """Of a counter whose name has a line."""
    place = PLACE.search(name)
    if place is None:
        return None
    file, line, function = place["file"], int(place["line"]), place["function"]
    what = named(file, function, name[: place.start()])
    return Spot(name=what, file=file, line=line, function=function, count=count)


def made_with(environment: Environment) -> dict[str, str]:
    """What decides the last bit of a product on a CPU."""
    return {
        "torch": environment.torch or "",
        "device": environment.device_name,
        "cpu": environment.host_cpu or "",
        "threads": str(environment.num_threads),
    }


def found_in(requests: Sequence[Request], runs: Sequence[Run]) -> Found:
    """The counters of all counted runs."""
    labels = {request.case: request_label(request) for request in requests}
    counters: dict[Key, Stages] = {}
    spots: dict[Key, dict[str, tuple[Spot, ...]]] = {}
    for run in runs_of(CountedRun, runs):
        key = labels[run.case], run.variant, run.round or 0
        spots[key] = {stage: tuple(_spots(run, stage)) for stage in STAGES}
        counters[key] = {stage: _counters(run, stage, spots[key][stage]) for stage in STAGES}
    return Found(counters=counters, spots=spots)


def _spots(run: CountedRun, stage: str) -> Iterator[Spot]:
    yield from (_spot_of_site(site) for site in run.sites if site.region.split("/")[0] == stage)
    measurement = run.measurement(stage)
    assert measurement is not None
    for name, count in (measurement.counters or {}).items():
        spot = _spot_of_counter(name, count)
        if spot is not None:
            yield spot


def _counters(run: CountedRun, stage: str, spots: Sequence[Spot]) -> Counters:
    found = run.measurement(stage)
    assert found is not None
    bare = {name: count for name, count in (found.counters or {}).items() if not PLACE.search(name)}
    counters: defaultdict[str, int] = defaultdict(int, bare)
    for spot in spots:
        counters[spot.name] += spot.count
    return {ALL_SYNCS: found.host_syncs or 0, **dict(sorted(counters.items()))}


def measured(
    environment: Environment, requests: Sequence[Request], runs: Sequence[Run], reason: str, reference: str
) -> Expected:
    """What a finished tier 1 would expect of the next; ``reference`` is the variant whose pictures it holds."""
    found = found_in(requests, runs).counters
    return Expected(
        reason=reason,
        made_with=made_with(environment),
        pictures=tuple(_pictures(requests, runs, reference)),
        runs=tuple(_expected_run(key, found) for key in found if key[2] == 0),
    )


def _pictures(requests: Sequence[Request], runs: Sequence[Run], reference: str) -> Iterator[ExpectedPicture]:
    labels = {request.case: request_label(request) for request in requests}
    for run in runs_of(CountedRun, runs):
        if (run.variant, run.round) == (reference, 0):
            yield ExpectedPicture(
                request=labels[run.case],
                pixels=run.output.sha256[:HASH_DIGITS],
                latents=(run.output.latents_sha256 or "")[:HASH_DIGITS],
                contexts_print=run.output.contexts_print,
                latents_print=run.output.latents_print,
                pixels_print=run.output.pixels_print,
            )


def _expected_run(key: Key, found: Mapping[Key, Stages]) -> ExpectedRun:
    request, variant, _ = key
    first, again = found[key], found.get((request, variant, 1), found[key])
    return ExpectedRun(
        request=request,
        variant=variant,
        ar=first["ar"],
        dit=first["dit"],
        again_ar=_others(first["ar"], again["ar"]),
        again_dit=_others(first["dit"], again["dit"]),
    )


def _others(first: Counters, again: Counters) -> Counters:
    """The counters of a second request that are not the first one's; 0 where they are gone."""
    names = sorted({*first, *again})
    return {name: again.get(name, 0) for name in names if again.get(name, 0) != first.get(name, 0)}


def _expanded(runs: Iterable[ExpectedRun]) -> dict[Key, Stages]:
    """What each pass has to count: the second and the third are of one kind, though not of one request."""
    counters: dict[Key, Stages] = {}
    for run in runs:
        for number in range(len(PASSES)):
            ar, dit = (run.again_ar, run.again_dit) if number else ({}, {})
            counters[run.request, run.variant, number] = {"ar": {**run.ar, **ar}, "dit": {**run.dit, **dit}}
    return counters


def not_judged(theirs: Mapping[str, str], ours: Mapping[str, str]) -> tuple[str, ...]:
    """Of counters, where another release of torch may make other operators of the same calls; empty where none is."""
    before, after = (".".join(each.get("torch", "").split(".")[:2]) for each in (theirs, ours))
    if before == after:
        return ()
    return (
        f"operators that are no products, attentions or convolutions are not judged: torch is {after}, was {before}",
    )


def drift(expected: Iterable[ExpectedRun], found: Found, *, of_release: bool = True) -> Iterator[Finding]:
    """A finding for each counter that is not as expected, of all runs in which it differs.

    Without ``of_release`` the counters that depend on the release of torch are left out.
    """
    theirs, ours = _expanded(expected), found.counters
    for request, variant, number in sorted(theirs.keys() - ours.keys()):
        if number == 0:
            yield Finding(kind="counter", message=f"{variant} was not counted under {request}; {UPDATE}")
    for request, variant, number in sorted(ours.keys() - theirs.keys()):
        if number == 0:
            yield Finding(kind="counter", message=f"nothing is expected of {variant} under {request}; {UPDATE}")
    changes: defaultdict[tuple[str, str], list[Change]] = defaultdict(list)
    for key in (key for key in ours if key in theirs):
        for change in _changes(key, theirs[key], found):
            if of_release or change.name.rpartition(": ")[2] not in OF_RELEASE:
                changes[change.stage, change.name].append(change)
    for _, alike in sorted(changes.items(), key=lambda item: _rank(item[0][1])):
        yield _finding(alike)


def _rank(name: str) -> int:
    """Waits first, and last what mostly follows from others."""
    return 0 if _is_wait(name) else 2 if name.rpartition(": ")[2] in OF_RELEASE else 1


def _changes(key: Key, theirs: Stages, found: Found) -> Iterator[Change]:
    """The sum of host syncs only where no line explains it."""
    request, variant, number = key
    asked = "" if number == 0 else f", {PASSES[number]}"
    for stage in STAGES:
        before, after = theirs[stage], found.counters[key][stage]
        names = [name for name in dict.fromkeys((*before, *after)) if before.get(name, 0) != after.get(name, 0)]
        if any(_is_wait(name) for name in names):
            names = [name for name in names if name != ALL_SYNCS]
        for name in names:
            yield Change(
                stage=stage,
                name=name,
                before=before.get(name, 0),
                after=after.get(name, 0),
                run=f"{variant} ({request}{asked})",
                spots=tuple(spot for spot in found.spots[key][stage] if spot.name == name),
            )


def _is_wait(name: str) -> bool:
    return name.rpartition(": ")[2] in _LABELS


_LABELS = frozenset(hint.label for hint in HINTS.values())


def _finding(alike: Sequence[Change]) -> Finding:
    first, more = alike[0], len(alike) - 1
    numbers = f"{first.after}, expected {first.before}"
    others = f" and {more} more run{'s' * (more > 1)}" if more else ""
    where = f"in {STAGE_NAMES[first.stage]} of {first.run}{others}"
    grown = first.after > first.before
    amount = ("new" if not first.before else "more") if grown else "fewer"
    place, _, what = first.name.rpartition(": ")
    syncs = "host syncs" if _is_wait(first.name) else ""
    if not place:
        return Finding(kind="counter", message=f"{first.name}: {numbers} {where}; {UPDATE}")
    if not first.spots:
        head = f"fewer host syncs at {first.name}" if syncs else f"fewer {what} in {place}"
        return Finding(kind="counter", message=f"{head}, {numbers} {where}; {UPDATE}")
    cause = _cause(first)
    lines = ", ".join(f"{spot.file}:{spot.line}" for spot in cause)
    head = f"{amount} {syncs or what} at {lines} in {cause[0].function}{f': {what}' if syncs else ''}"
    site = cause[0].site
    advice = f"{hint_of(site).advice}; or {UPDATE}" if grown and site is not None else UPDATE
    message = f"{head}, {numbers} {where}; {advice}"
    return Finding(kind="counter", message=message, file=cause[0].file, line=cause[0].line)


def _cause(change: Change) -> list[Spot]:
    """The lines that may be it: the one that counts for all of the surplus, where there is one, else all of them."""
    by_line: dict[int, Spot] = {}
    for spot in sorted(change.spots, key=lambda spot: -spot.count):
        known = by_line.get(spot.line)
        by_line[spot.line] = spot if known is None else replace(known, count=known.count + spot.count)
    spots = list(by_line.values())
    surplus = [spot for spot in spots if spot.count == change.after - change.before]
    return (surplus if len(surplus) == 1 else spots)[:ALL_LINES]
