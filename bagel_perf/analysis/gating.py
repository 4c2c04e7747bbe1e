"""Tier 2 of the gate: results, which somebody measured, held to limits of latency.

What disproves a result outranks its latencies: where pictures are wrong, or two results come from unlike machines, no
latency is judged at all. A result that ended early is judged with what it has, and does not pass.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from bagel_perf.analysis import pictures
from bagel_perf.analysis.alike import are_interleaved, unlike
from bagel_perf.analysis.dropping import median_clock
from bagel_perf.analysis.gate_reports import Source, named, place_text, report_of
from bagel_perf.analysis.gated_cells import Arms, gated_of
from bagel_perf.analysis.result_pictures import other_pictures, tolerant_variants, variants, wrong_pictures
from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.gates import Finding, GateReport
from bagel_perf.schema.limits import Limit, limits_for
from bagel_perf.schema.results import Result
from bagel_perf.schema.runs import CountedRun, TimedRun, runs_of

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
            reference=pictures.at(result.runs, case, first),
            candidate=pictures.at(result.runs, case, name),
            clocks_mhz=(clock, clock),
            is_paired=True,
            looks=result.looks,
        )
        for case in result.cases
        for name in names
    ]
    subject = f"{place_text(result)}: {', '.join(names)} against {first} in {named(source)}"
    wrong = [Finding(kind="picture", message=each) for each in wrong_pictures(result)]
    return report_of((source,), gated_of(arms, limits), wrong, subject, [])


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
            reference=pictures.at(reference.result.runs, case, name),
            candidate=pictures.at(candidate.result.runs, case, name),
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
