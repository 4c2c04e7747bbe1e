"""Tier 1 of the gate: the counters of counted runs, held to what is expected, in both directions."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bagel_perf.analysis.hints import hint_of
from bagel_perf.schema.expected import Counters, Expected, ExpectedRun
from bagel_perf.schema.gates import Finding
from bagel_perf.schema.requests import Request
from bagel_perf.schema.runs import Environment, Run
from bagel_perf.schema.sites import Site
from bagel_perf.schema.slots import Stage
from bagel_perf.schema.waits import HINTS

STAGES: tuple[Stage, ...] = ("ar", "dit")
STAGE_NAMES = {"ar": "AR", "dit": "DiT"}
ALL_SYNCS = "host syncs"
HASH_DIGITS = 16
UPDATE = 'bagel-perf gate --update "REASON" records it'
PLACE = re.compile(r" at (?P<file>\S+\.py):(?P<line>\d+) in ")
"""In the name of a counter that no variant has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A counter of one run that is not as expected."""

    stage: Stage
    name: str
    before: int
    after: int
    run: str


def request_label(request: Request) -> str:
    """What tells a request from another, in words."""
    guidance = request.guidance
    bounds = f"{guidance.interval[0]:g} to {guidance.interval[1]:g}"
    return f"{request.task} {request.width}x{request.height}, {request.steps} steps, {guidance.renorm} {bounds}"


def site_name(site: Site) -> str:
    """A site without its line, which moves with every edit: file, function and kind of wait."""
    return f"{site.file} {site.function}: {HINTS[site.kind].label}"


def made_with(environment: Environment) -> dict[str, str]:
    """What decides the last bit of a product on a CPU."""
    return {
        "torch": environment.torch,
        "device": environment.device_name,
        "cpu": environment.host_cpu or "",
        "threads": str(environment.num_threads),
    }


def measured(environment: Environment, requests: Sequence[Request], runs: Sequence[Run], reason: str) -> Expected:
    """What a finished tier 1 would expect of the next."""
    labels = {(request.width, request.height): request_label(request) for request in requests}
    return Expected(
        reason=reason,
        made_with=made_with(environment),
        runs=tuple(_measured(labels[run.width, run.height], run) for run in runs if run.purpose == "count"),
    )


def _measured(label: str, run: Run) -> ExpectedRun:
    ar, dit = (_counters(run, stage) for stage in STAGES)
    return ExpectedRun(
        request=label,
        variant=run.variant,
        pixels=run.picture.pixels_sha256[:HASH_DIGITS],
        latents=(run.picture.latents_sha256 or "")[:HASH_DIGITS],
        ar=ar,
        dit=dit,
    )


def _counters(run: Run, stage: Stage) -> Counters:
    found = run.measurement(stage)
    assert found is not None
    counters: defaultdict[str, int] = defaultdict(int, found.counters or {})
    for site in sites_of(run, stage):
        counters[site_name(site)] += site.count
    return {ALL_SYNCS: found.host_syncs or 0, **dict(sorted(counters.items()))}


def sites_of(run: Run, stage: Stage) -> list[Site]:
    """Where a counted run waited in a stage."""
    return [site for site in run.sites if site.region.split("/")[0] == stage]


def only_of(found: Expected, expected: Expected) -> Expected:
    """Expectations of the runs that were made, where others were refused."""
    made = {(run.request, run.variant) for run in found.runs}
    return replace(expected, runs=tuple(run for run in expected.runs if (run.request, run.variant) in made))


def drift(expected: Expected, found: Expected, sites: Mapping[str, Site]) -> Iterator[Finding]:
    """A finding for each counter that is not as expected, of all runs in which it differs.

    ``sites`` has a site that waited by its name, for the line.
    """
    theirs, ours = ({(run.request, run.variant): run for run in each.runs} for each in (expected, found))
    for request, variant in sorted(theirs.keys() - ours.keys()):
        yield Finding(kind="counter", message=f"{variant} was not counted under {request}; {UPDATE}")
    for request, variant in sorted(ours.keys() - theirs.keys()):
        yield Finding(kind="counter", message=f"nothing is expected of {variant} under {request}; {UPDATE}")
    changes: defaultdict[tuple[Stage, str], list[Change]] = defaultdict(list)
    for key in (key for key in ours if key in theirs):
        for change in _changes(theirs[key], ours[key]):
            changes[change.stage, change.name].append(change)
    for (_, name), alike in changes.items():
        yield _finding(alike, sites.get(name))


def _changes(theirs: ExpectedRun, ours: ExpectedRun) -> Iterator[Change]:
    """The sum of host syncs only where no site explains it."""
    for stage, before, after in zip(STAGES, (theirs.ar, theirs.dit), (ours.ar, ours.dit), strict=True):
        names = [name for name in dict.fromkeys((*before, *after)) if before.get(name, 0) != after.get(name, 0)]
        if any(": " in name for name in names):
            names = [name for name in names if name != ALL_SYNCS]
        run = f"{ours.variant} ({ours.request})"
        for name in names:
            yield Change(stage=stage, name=name, before=before.get(name, 0), after=after.get(name, 0), run=run)


def _finding(alike: Sequence[Change], site: Site | None) -> Finding:
    first, more = alike[0], len(alike) - 1
    numbers = f"{first.after}, expected {first.before}"
    others = f" and {more} more run{'s' * (more > 1)}" if more else ""
    where = f"in {STAGE_NAMES[first.stage]} of {first.run}{others}"
    if site is None and ": " in first.name:
        return Finding(kind="counter", message=f"fewer host syncs at {first.name}, {numbers} {where}; {UPDATE}")
    if site is None:
        named = PLACE.search(first.name)
        file, line = (named["file"], int(named["line"])) if named else (None, None)
        return Finding(kind="counter", message=f"{first.name}: {numbers} {where}; {UPDATE}", file=file, line=line)
    label = HINTS[site.kind].label
    amount = "new" if not first.before else "more" if first.after > first.before else "fewer"
    place = f"{site.file}:{site.line} in {site.function}"
    advice = f"{hint_of(site).advice}; or {UPDATE}" if first.after > first.before else UPDATE
    message = f"{amount} host syncs at {place}: {label}, {numbers} {where}; {advice}"
    return Finding(kind="counter", message=message, file=site.file, line=site.line)


def sites_by_name(runs: Iterable[Run]) -> dict[str, Site]:
    """A site of each name, the most frequent one."""
    found: dict[str, Site] = {}
    for site in (site for run in runs for site in run.sites):
        name = site_name(site)
        if name not in found or found[name].count < site.count:
            found[name] = site
    return found
