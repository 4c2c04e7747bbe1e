"""The report of a gate over results: what disproves them, the latencies judged, and what nobody could judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bagel_perf.analysis.dropping import median_clock
from bagel_perf.analysis.gated_cells import Gated, cell_findings, control_findings, judge_gated
from bagel_perf.analysis.stage_sums import disagreements
from bagel_perf.schema.errors import EnvironmentUnfit
from bagel_perf.schema.gates import Finding, GatedCell, GateReport
from bagel_perf.schema.results import Result
from bagel_perf.schema.runs import TimedRun, runs_of

NO_CONTROL = "the reference was not timed against itself, so what equals differ by is not known"
ON_CPU = "CPU latencies predict nothing about a GPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A result, and what to call it."""

    result: Result
    name: str

    @property
    def clock_mhz(self) -> float | None:
        return median_clock(run.conditions for run in runs_of(TimedRun, self.result.runs))


def report_of(
    sources: Sequence[Source], gated: Sequence[Gated], disproved: Sequence[Finding], subject: str, notes: list[str]
) -> GateReport:
    """Judges what is ``gated`` unless something disproves the results; ``subject`` says what is held against what."""
    findings = list(disproved)
    cells: tuple[GatedCell, ...] = ()
    if not disproved:
        cells = judge_gated(gated) if gated else ()
        findings += [finding for source in sources for finding in _unfinished(source)]
        findings += _without_samples(gated, cells)
        for source in sources:
            findings += control_findings(gated, source.result.runs, source.clock_mhz, source.name)
            apart = disagreements(source.result.stage_sums, source.result.environment)
            findings += [Finding(kind="environment", message=f"{source.name}: {each}") for each in apart]
        findings += cell_findings(cells)
    return GateReport(
        findings=tuple(dict.fromkeys(findings)),
        checks=_checks(findings, f"{sources[0].result.outline.noun}s", is_judged=not disproved),
        notes=(*notes, *_notes(sources)),
        subject=subject,
        cells=cells,
    )


def _unfinished(source: Source) -> Iterator[Finding]:
    result = source.result
    if not result.complete:
        what = result.error or "; ".join(result.findings[:3]) or result.verdict
        is_unfit = result.exit_code == EnvironmentUnfit.exit_code
        yield Finding(kind="environment" if is_unfit else "incomplete", message=f"{source.name} ended early: {what}")


def _without_samples(gated: Sequence[Gated], cells: Sequence[GatedCell]) -> Iterator[Finding]:
    if not gated:
        yield Finding(kind="incomplete", message="no latency was judged")
    judged = {(cell.case, cell.stage, cell.variant) for cell in cells}
    for each in gated:
        if (each.arms.case, each.stage, each.arms.variant) not in judged:
            yield Finding(kind="incomplete", message=f"{each} has no latency that counts")


def _checks(findings: Sequence[Finding], nouns: str, *, is_judged: bool) -> tuple[tuple[str, str], ...]:
    kinds = {finding.kind for finding in findings}
    checks = [
        (nouns, "failed" if "picture" in kinds else "pass"),
        ("environment", "invalid" if "environment" in kinds else "pass"),
        ("complete", "incomplete" if "incomplete" in kinds else "pass"),
    ]
    return tuple(checks) if is_judged else (*checks[:2], ("latencies", "not judged"))


def _notes(sources: Sequence[Source]) -> Iterator[str]:
    results = [source.result for source in sources]
    if any(result.environment.device_kind == "cpu" for result in results):
        yield ON_CPU
    if not any(run.again for result in results for run in runs_of(TimedRun, result.runs)):
        yield NO_CONTROL


def place_text(result: Result) -> str:
    """What was timed where."""
    environment = result.environment
    what = "CPU latency" if environment.device_kind == "cpu" else f"Latency on {environment.device_name}"
    return f"{what}, {result.subject.title}"


def named(source: Source) -> str:
    """With the commit, and whether it names all that was measured."""
    environment = source.result.environment
    if environment.commit is None:
        return source.name
    state = {True: ", uncommitted changes", None: ", tree state unknown", False: ""}[environment.dirty]
    return f"{source.name} ({environment.commit}{state})"
