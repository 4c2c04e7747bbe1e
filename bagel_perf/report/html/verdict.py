"""The first things to read: what is faster by how much, whether outputs are the same, which line is to blame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bagel_perf.records.results import Delta, IdentityCheck, Result
from bagel_perf.records.runs import CountedRun, TimedRun, runs_of
from bagel_perf.records.sites import HINTS, SyncSite
from bagel_perf.records.syncs import SyncReport
from bagel_perf.report.html.content import Bullets, Heading, Section, Text
from bagel_perf.report.html.profiles import of_result, size_of, variant_of
from bagel_perf.report.html.sites import place_text
from bagel_perf.report.summary import verdict_lines
from bagel_perf.report.sync_tables import split_setup
from bagel_perf.report.table import bitwise_variants, counted, noise_floor_of, tolerant_variants, unit_text
from bagel_perf.verdicts.plausible import contradictions
from bagel_perf.verdicts.statistics import MIN_PROCESSES


def culprit_lines(result: Result, reports: Sequence[SyncReport]) -> Iterator[str]:
    """Where the first variant waits most often at its largest size, and what left its GPU idle most where profiled."""
    first = result.named[0]
    counts = runs_of(CountedRun, result.runs)
    runs = [run for run in counts if run.variant == first and split_setup(run.sites)[0]]
    if runs:
        yield _most_frequent(runs[-1])
    for report in of_result(reports, result):
        costly = max(split_setup(report.sites)[0], key=lambda site: site.lost_gpu_ms or 0.0, default=None)
        if variant_of(report) == first and costly is not None and costly.lost_gpu_ms:
            yield _most_costly(report, costly)


def _most_frequent(run: CountedRun) -> str:
    total = sum(site.count for site in run.sites)
    top = max(split_setup(run.sites)[0], key=lambda site: site.count)
    where = f"{run.variant} at {run.case}"
    return f"{where} waits {counted(total, 'time')}, most often ({top.count}) at {_named(top)}."


def _most_costly(report: SyncReport, site: SyncSite) -> str:
    """Without a time, which a profiled run inflates as it does all times."""
    where = f"In its profiled run at {size_of(report)}{_inflation(report)}"
    return f"{where}, the GPU was idle most through {counted(site.count, 'wait')} at {_named(site)}."


def _inflation(report: SyncReport) -> str:
    cost = report.instrument
    if cost is None or not cost.plain_wall_ms or not cost.watched_wall_ms:
        return ""
    return f" ({cost.watched_wall_ms / cost.plain_wall_ms:.1f} times as long as without the profiler)"


def _named(site: SyncSite) -> str:
    code = f", {site.expressions[0]}" if site.expressions else ""
    return f"{place_text(site)}{code} ({HINTS[site.kind].label})"


def verdict_section(result: Result, reports: Sequence[SyncReport] = ()) -> Section:
    """One sentence a resolution, then the pictures, the line to blame, the verdict with findings, what is missing.

    Pictures come first where they differ: a wrong one is never fast.
    """
    pictures, lines = identity_sentence(result), [*headlines(result), *regressions(result)]
    ordered = [pictures, *lines] if wrong_places(result) else [*lines, pictures]
    wrong = contradictions(result)
    ordered = [f"This file contradicts itself: {' '.join(wrong)}", *ordered] if wrong else ordered
    leads = [Text(text=line, style="lead") for line in ordered]
    head, *rest = (line.removeprefix("- ") for line in verdict_lines(result))
    findings = (Bullets(items=tuple(rest)),) if rest else ()
    culprits = [Text(text=line) for line in culprit_lines(result, reports)]
    unknown = tuple(unknown_lines(result, has_timelines=bool(reports)))
    return Section(
        anchor="verdict",
        title="Verdict",
        blocks=(
            *leads,
            *culprits,
            Text(text=head),
            *findings,
            Heading(text="What is not known"),
            Bullets(items=unknown),
        ),
    )


def headlines(result: Result) -> Iterator[str]:
    """Of the bitwise variant that gains most of e2e at each resolution, among those whose picture is right."""
    for case in result.cases:
        found = list(_changes(result, case))
        if found:
            yield _headline(result, min(found, key=lambda each: each.delta_pct))
        else:
            yield f"At {case} no change of latency was measured of a variant with the right {result.outline.noun}."


def regressions(result: Result) -> Iterator[str]:
    """Of every other variant that makes e2e slower."""
    for case in result.cases:
        found = sorted(_changes(result, case), key=lambda each: each.delta_pct)
        yield from (_headline(result, each) for each in found[1:] if each.verdict == "regressed")


def _changes(result: Result, case: str) -> Iterator[Delta]:
    """Of e2e at a resolution, of the bitwise variants whose pictures are right."""
    wrong = {check.candidate for check in result.identity if check.case == case and not check.is_ok}
    candidates = set(bitwise_variants(result)[1:]) - wrong
    for delta in result.deltas:
        if (delta.case, delta.stage) == (case, "e2e") and delta.candidate in candidates:
            yield delta


def _headline(result: Result, delta: Delta) -> str:
    where = f"e2e latency at {delta.case}"
    how = f"({_interval(delta, unit_text(result))}; {_noise(result, delta)})"
    if delta.verdict == "improved":
        return f"{delta.candidate} takes {abs(delta.delta_pct):.1f}% off {where} {how}."
    if delta.verdict == "regressed":
        return f"{delta.candidate} adds {abs(delta.delta_pct):.1f}% to {where} {how}."
    return f"{delta.candidate} changes {where} by {delta.delta_pct:+.1f}%: {delta.verdict} {how}."


def _interval(delta: Delta, unit: str) -> str:
    if delta.ci_pct is None:
        return f"no interval: {counted(delta.num_processes, unit)}, {MIN_PROCESSES} needed"
    return f"interval of the change by itself {delta.ci_pct[0]:+.1f}% to {delta.ci_pct[1]:+.1f}%"


def _noise(result: Result, delta: Delta) -> str:
    floor_pct = noise_floor_of(result, delta.case, delta.stage)
    if floor_pct is None:
        return "noise not measured"
    return f"noise {floor_pct:.1f}%" + ", which is more than that" * (floor_pct > abs(delta.delta_pct))


def bitwise_checks(result: Result) -> list[IdentityCheck]:
    """Of all that has to be identical to the bit."""
    return [check for check in result.identity if check.candidate not in tolerant_variants(result)]


def wrong_places(result: Result) -> list[str]:
    """Where an output that has to be identical is not."""
    return [f"{each.candidate} at {each.case}" for each in bitwise_checks(result) if not each.identical]


def identity_sentence(result: Result) -> str:
    """Whether the outputs are the same."""
    checks, nouns = bitwise_checks(result), f"{result.outline.noun}s"
    if not checks:
        return f"No two {nouns} were compared."
    if wrong := wrong_places(result):
        return f"{nouns.capitalize()} differ from those of {result.named[0]}: {', '.join(wrong)}."
    runs = counted(sum(check.num_runs for check in checks), "run")
    return f"The {nouns} of all bitwise variants are md5-identical to those of {result.named[0]}, in {runs}."


OF_SERVERS = (
    "Luck of the processes: each server is one, so a change is of these processes alone.",
    "Host syncs and the work of a GPU: nobody watched the servers' processes.",
    "Code and machine: what the servers run, and on what, they do not tell.",
)


def unknown_lines(result: Result, *, has_timelines: bool = False) -> Iterator[str]:
    """What a reader might expect and this result cannot tell."""
    environment, deltas = result.environment, result.deltas
    is_server = result.outline.is_server
    if is_server:
        yield from OF_SERVERS
    if environment.device_kind == "cpu":
        yield "Latency on a GPU: these are CPU latencies, which predict nothing about one."
    if any(cell.sync_device == "simulated" for cell in result.cells):
        yield "Host syncs were counted on a simulated device, not on a GPU."
    if not result.noise:
        yield f"Noise floor: {result.named[0]} was not timed against itself, as in files from before 2026-11-27."
    if any(delta.ci_pct is None for delta in deltas):
        yield f"Intervals: some changes have fewer than {counted(MIN_PROCESSES, unit_text(result))}."
    readings = [run.conditions for run in runs_of(TimedRun, result.runs)]
    if not any(each is not None and each.num_samples for each in readings):
        yield "Clocks, temperature and power of a GPU were not recorded, so a slowdown by heat cannot be ruled out."
    if not any(run.sites for run in runs_of(CountedRun, result.runs)) and any(cell.host_syncs for cell in result.cells):
        yield "Source lines of the host syncs are not in the result."
    if result.ceilings is None and not is_server:
        yield "Floors: the rates that the device can reach were not measured."
    if not has_timelines and not is_server:
        yield "Timelines: none was given beside the result."
    if "random" in str(result.subject.details.get("weights", "")):
        yield f"Quality: weights are random; the {result.outline.noun}s show identity and nothing else."
    if not is_server and (environment.commit is None or environment.dirty is not False):
        yield "Code: the commit may not name all that was measured."
    if not result.complete:
        yield "The rest: the run ended early or lacks something; see the findings above."
