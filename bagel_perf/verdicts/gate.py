"""Tier 2 of the gate: results, which somebody measured, held to limits of latency.

What disproves a result outranks its latencies: where pictures are wrong, or two results come from unlike machines, no
latency is judged at all. A result that ended early is judged with what it has, and does not pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from bagel_perf.records.errors import EnvironmentUnfit, UsageError
from bagel_perf.records.gates import Finding, GatedCell, GateReport, Limit, limits_for
from bagel_perf.records.results import Result
from bagel_perf.records.runs import CountedRun, TimedRun, runs_of
from bagel_perf.verdicts import identity
from bagel_perf.verdicts.comparability import are_interleaved, median_clock, unlike
from bagel_perf.verdicts.gated_cells import Arms, Gated, cell_findings, control_findings, gated_of, judge_gated
from bagel_perf.verdicts.identity import other_pictures, tolerant_variants, variants, wrong_pictures
from bagel_perf.verdicts.plausible import disagreements

NO_CONTROL = "the reference was not timed against itself, so what equals differ by is not known"
ROUNDS = "rounds stand for processes: each server is one, whose luck is in the change, and no interval covers it"
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
    if not any(run.is_control for result in results for run in runs_of(TimedRun, result.runs)):
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


APART = (
    "the two were not measured in turns: what else changed between them, clocks, temperature, other load, is in the "
    "change, and no interval covers it; gate revision REV measures in turns"
)


def judge_result(source: Source, limits: Sequence[Limit], variant: str | None = None) -> GateReport:
    """Each candidate of a result, or the one that is named, against the first variant, round by round.

    ``UsageError`` where there is none, or a limit names a case or a stage that was not measured.
    """
    result, clock = source.result, source.clock_mhz
    first = result.named[0]
    names = _candidates(result, variant)
    limits = limits_for(limits, result.cases, result.timed_stages)
    arms = [
        Arms(
            variant=name,
            case=case,
            stages=result.timed_stages,
            reference=identity.at(result.runs, case, first),
            candidate=identity.at(result.runs, case, name),
            clocks_mhz=(clock, clock),
            is_paired=True,
            looks=result.looks,
            unit="round" if result.unit == "round" else "process",
        )
        for case in result.cases
        for name in names
    ]
    subject = f"{place_text(result)}: {', '.join(names)} against {first} in {named(source)}"
    wrong = [Finding(kind="picture", message=each) for each in wrong_pictures(result)]
    notes = [ROUNDS] if result.unit == "round" else []
    return report_of((source,), gated_of(arms, limits), wrong, subject, notes)


def judge_against(
    reference: Source,
    candidate: Source,
    limits: Sequence[Limit],
    variant: str | None = None,
    *,
    unknown: Collection[str] = (),
) -> GateReport:
    """Each variant of two results, or the one that is named, against itself; as pairs where they were interleaved.

    ``unknown`` are fields of the environment that one of the files does not record. ``UsageError`` where the two have
    nothing in common, or a limit names a case or a stage that they have not.
    """
    names = _shared_variants(reference, candidate, variant)
    shared = tuple(case for case in candidate.result.cases if case in reference.result.cases)
    if not shared:
        places = [", ".join(each.result.cases) for each in (candidate, reference)]
        raise UsageError(f"no case of {candidate.name} is in {reference.name}", value=" and ".join(places))
    limits = limits_for(limits, shared, candidate.result.timed_stages)
    is_paired = are_interleaved(reference.result, candidate.result)
    arms = _arms_of(reference, candidate, names, shared, is_paired=is_paired)
    subject = f"{place_text(candidate.result)}: {', '.join(names)} in {named(candidate)} against {named(reference)}"
    found = _disproved(reference, candidate, names, unknown)
    notes = _notes_against(reference, candidate, unknown, is_paired=is_paired)
    return report_of((reference, candidate), gated_of(arms, limits), found, subject, notes)


def _arms_of(
    reference: Source, candidate: Source, names: Sequence[str], shared: Sequence[str], *, is_paired: bool
) -> list[Arms]:
    clocks = reference.clock_mhz, candidate.clock_mhz
    if is_paired:
        both = median_clock(
            run.conditions for each in (reference, candidate) for run in runs_of(TimedRun, each.result.runs)
        )
        clocks = both, both
    return [
        Arms(
            variant=name,
            case=case,
            stages=candidate.result.timed_stages,
            reference=identity.at(reference.result.runs, case, name),
            candidate=identity.at(candidate.result.runs, case, name),
            clocks_mhz=clocks,
            is_paired=is_paired,
            looks=max(reference.result.looks, candidate.result.looks, key=len),
        )
        for case in shared
        for name in names
    ]


def _disproved(reference: Source, candidate: Source, names: Sequence[str], unknown: Collection[str]) -> list[Finding]:
    """Unlike machines and requests give other pictures as well, so those of the two are compared only otherwise."""
    wrong = [*wrong_pictures(reference.result), *wrong_pictures(candidate.result)]
    differences = unlike(reference.result, candidate.result, unknown)
    if not differences:
        wrong += other_pictures(reference.result, candidate.result, names, reference.name)
    found = [Finding(kind="picture", message=each) for each in dict.fromkeys(wrong)]
    if differences:
        message = f"{reference.name} and {candidate.name} differ: {'; '.join(differences)}"
        found.append(Finding(kind="environment", message=message))
    return found


def _notes_against(reference: Source, candidate: Source, unknown: Collection[str], *, is_paired: bool) -> list[str]:
    before, after = reference.result, candidate.result
    notes = [] if is_paired else [APART]
    if unknown:
        notes.append(f"not compared, as one of the files does not record it: {', '.join(sorted(unknown))}")
    left = [name for name in after.named if name not in variants(before)]
    left += [case for case in after.cases if case not in before.cases]
    if left:
        notes.append(f"not judged, as {reference.name} does not hold it: {', '.join(left)}")
    if before.warmup != after.warmup:
        notes.append(f"warm-ups differ: {before.warmup} and {after.warmup}")
    proofs = [len([*runs_of(CountedRun, each.runs)]) for each in (before, after)]
    if is_paired and proofs[0] != proofs[1] and after.complete:
        notes.append(
            f"processes did unlike work before they were timed: {proofs[0]} and {proofs[1]} proofs of an output"
        )
    return notes


def _candidates(result: Result, variant: str | None) -> tuple[str, ...]:
    first, *others = variants(result)
    if variant is not None:
        if variant not in others:
            what = "is the reference itself" if variant == first else "is not in the result"
            raise UsageError(f"--variant {what}", value=variant, allowed=f"it holds {', '.join(others) or 'no other'}")
        return (variant,)
    names = tuple(name for name in result.named[1:] if name in others and name not in tolerant_variants(result))
    if not names:
        allowed = f"it holds {', '.join((first, *others))}"
        raise UsageError("result has no bitwise candidate", allowed=allowed, remedy="name one with --variant")
    return names


def _shared_variants(reference: Source, candidate: Source, variant: str | None) -> tuple[str, ...]:
    before, after = reference.result, candidate.result
    shared = [name for name in variants(after) if name in variants(before)]
    tolerant = tolerant_variants(before) | tolerant_variants(after)
    usual = [name for name in after.named if name in shared and name not in tolerant]
    names = usual if variant is None else [name for name in shared if name == variant]
    if not names:
        what = f"no variant to hold {candidate.name} to {reference.name} by"
        raise UsageError(what, value=variant, allowed=f"both hold {', '.join(shared) or 'none'}")
    return tuple(names)
