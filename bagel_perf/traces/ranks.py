"""Traces of several ranks side by side: who arrived last in each step, and for how long the others waited.

Clocks of ranks are not synchronous, so moments of different traces cannot be compared; lengths can. In a collective the
kernels of all ranks end together, and each has run since its own rank arrived: the rank with the least time in kernels
of communication arrived last, and what others spent in them beyond that, they waited.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median

from bagel_perf.records.errors import UsageError
from bagel_perf.records.trace_ranks import RanksReport, RankStep, RankTrace, Reason, SharedStep, Straggler
from bagel_perf.records.traces import CAUSES, Cause, StepTime, TraceReport
from bagel_perf.traces.names import is_communication

LEAST_SHARE = 0.01
"""Of a step: where nobody waited for longer, ranks arrived together."""
_RANK = re.compile(r"(?i)rank[-_. =]?(\d{1,6})(?!\d)")


def ranked(reports: Sequence[TraceReport]) -> tuple[dict[int, TraceReport], tuple[str, ...]]:
    """The reports by the rank that the trace says, else the name of its file, else by their order; with notes.

    Raises ``UsageError`` where two are of one rank.
    """
    numbers = [rank_of(report) for report in reports]
    notes: tuple[str, ...] = ()
    known = [number for number in numbers if number is not None]
    if len(known) < len(numbers):
        nameless = next(report for report, number in zip(reports, numbers, strict=True) if number is None)
        notes = (f"ranks are numbered as the files were given: {nameless.source.file} does not say of which it is",)
        known = list(range(len(reports)))
    found: dict[int, TraceReport] = {}
    for number, report in zip(known, reports, strict=True):
        if number in found:
            files = f"{found[number].source.file}, {report.source.file}"
            raise UsageError(
                f"two traces are of rank {number}", value=files, allowed="one of each rank", remedy="leave one out"
            )
        found[number] = report
    return dict(sorted(found.items())), notes


def rank_of(report: TraceReport) -> int | None:
    """The rank that a trace says it is of, else the number after "rank" in the name of its file."""
    said = report.source.versions.get("rank", "")
    if said.isascii() and said.isdigit() and len(said) <= 6:
        return int(said)
    found = _RANK.findall(report.source.file)
    return int(found[-1]) if found else None


def compare_ranks(reports: Mapping[int, TraceReport], notes: Sequence[str] = ()) -> RanksReport:
    """Reports by rank as one: their shared steps, and the rank that the others waited for."""
    unlike = _unlike_steps(reports)
    steps = () if unlike else tuple(_shared_steps(reports))
    has_waits = any(step.waited_ms is not None for step in steps)
    if not unlike and not has_waits:
        unlike = "who arrived last is unknown: there are ranks without kernels of communication"
    ranks = tuple(_rank_trace(rank, report, steps) for rank, report in reports.items())
    devices = {", ".join(sorted({device.name for device in report.devices})) for report in reports.values()}
    mixed = [f"the ranks have unlike devices: {'; '.join(sorted(devices))}"] if len(devices) > 1 else []
    return RanksReport(
        ranks=ranks,
        steps=steps,
        straggler=_straggler(ranks, steps) if has_waits else None,
        warnings=tuple(_warnings(reports)),
        notes=(*notes, *mixed, *([unlike] if unlike else [])),
    )


def _warnings(reports: Mapping[int, TraceReport]) -> Iterator[str]:
    """Each warning once, with the ranks that it is of."""
    by_text: dict[str, list[int]] = {}
    for rank, report in reports.items():
        for text in report.warnings:
            by_text.setdefault(text, []).append(rank)
    for text, ranks in by_text.items():
        whose = "all ranks" if len(ranks) == len(reports) else f"rank {', '.join(map(str, ranks))}"
        yield f"{whose}: {text}"


def _unlike_steps(reports: Mapping[int, TraceReport]) -> str:
    """Why the steps of the ranks cannot be matched."""
    missing = [rank for rank, report in reports.items() if not report.phases]
    if missing:
        ranks = ", ".join(map(str, missing[:8])) + ", ..." * (len(missing) > 8)
        return f"steps cannot be compared, nor who arrived last: rank {ranks} has none that can be told apart"
    numbers = {rank: sum(phase.steps for phase in report.phases) for rank, report in reports.items()}
    if len(set(numbers.values())) > 1:
        least, most = min(numbers, key=lambda rank: numbers[rank]), max(numbers, key=lambda rank: numbers[rank])
        different = f"rank {least} has {numbers[least]}, rank {most} has {numbers[most]}"
        return f"steps cannot be compared, nor who arrived last: their number differs ({different})"
    found_by = {report.phases[0].found_by for report in reports.values()}
    if len(found_by) > 1:
        return f"steps cannot be compared, nor who arrived last: they are unlike ({', '.join(sorted(found_by))})"
    return ""


def _shared_steps(reports: Mapping[int, TraceReport]) -> Iterator[SharedStep]:
    for number, steps in enumerate(zip(*(report.steps for report in reports.values()), strict=False)):
        times = [step.communication_ms for step in steps]
        known = [time for time in times if time]
        least = min(known) if len(known) == len(times) else None
        waited = [None if least is None or time is None else time - least for time in times]
        most = max((each for each in waited if each is not None), default=None)
        late = most is not None and most > LEAST_SHARE * max(step.wall_ms for step in steps)
        yield SharedStep(
            number=number,
            is_warm_up=any(step.is_warm_up for step in steps),
            straggler=list(reports)[waited.index(0.0)] if late else None,
            waited_ms=None if most is None else sum(each or 0.0 for each in waited),
            ranks=tuple(
                RankStep(
                    rank=rank,
                    wall_ms=step.wall_ms,
                    gpu_busy_ms=step.gpu_busy_ms,
                    communication_ms=step.communication_ms,
                    exposed_communication_ms=step.exposed_communication_ms,
                    gpu_idle_ms=step.gpu_idle_ms,
                    waited_ms=waited_ms,
                )
                for rank, step, waited_ms in zip(reports, steps, waited, strict=True)
            ),
        )


def _rank_trace(rank: int, report: TraceReport, steps: Sequence[SharedStep]) -> RankTrace:
    steady = [step for step in steps if not step.is_warm_up and step.waited_ms is not None]
    waits = {step.number: each.waited_ms or 0.0 for step in steady for each in step.ranks if each.rank == rank}
    late = [step for step in steady if step.straggler == rank]
    longest = max(waits, key=lambda number: waits[number], default=None)
    return RankTrace(
        rank=rank,
        report=report,
        waited_ms=sum(waits.values()) if steady else None,
        longest_wait_step=longest if longest is not None and waits[longest] else None,
        longest_wait_ms=waits[longest] if longest is not None and waits[longest] else None,
        delayed_ms=sum(step.waited_ms or 0.0 for step in late) if steady else None,
        late_steps=len(late) if steady else None,
    )


def _straggler(ranks: Sequence[RankTrace], steps: Sequence[SharedStep]) -> Straggler | None:
    """The rank that the others waited for most in the steady steps; None where nobody waited for long."""
    worst = max(ranks, key=lambda each: each.delayed_ms or 0.0)
    if not worst.delayed_ms:
        return None
    others = [each.report for each in ranks if each.rank != worst.rank]
    idle_ms = _extra([worst.report, *others], _idle_ms)
    work_ms = _extra([worst.report, *others], _work_ms)
    reason: Reason | None = None
    if max(idle_ms, work_ms) > 0:
        reason = "idle" if idle_ms >= work_ms else "compute"
    cause = _extra_cause(worst.report, others) if reason == "idle" else None
    what = _culprit(worst.report, cause) if cause else _extra_kernel(worst.report, others) if reason else ""
    return Straggler(
        rank=worst.rank,
        late_steps=worst.late_steps or 0,
        steps=sum(not step.is_warm_up and step.waited_ms is not None for step in steps),
        delayed_ms=worst.delayed_ms,
        reason=reason,
        extra_ms=max(idle_ms, work_ms, 0.0),
        cause=cause,
        what=what,
    )


def _steady(report: TraceReport) -> list[StepTime]:
    return [step for step in report.steps if not step.is_warm_up]


def _idle_ms(report: TraceReport) -> float:
    return sum(step.gpu_idle_ms or 0.0 for step in _steady(report))


def _work_ms(report: TraceReport) -> float:
    """Busy time without the communication that nothing is computed beside."""
    return sum((step.gpu_busy_ms or 0.0) - (step.exposed_communication_ms or 0.0) for step in _steady(report))


def _extra(reports: Sequence[TraceReport], figure: Callable[[TraceReport], float]) -> float:
    """How much more the first has of a figure than the median of the others."""
    first, *others = (figure(report) for report in reports)
    return first - median(others)


def _extra_cause(report: TraceReport, others: Sequence[TraceReport]) -> Cause:
    """The cause of idle time of which a rank has most beyond the others."""

    def extra_ms(cause: Cause) -> float:
        sums = [sum(step.idle_by_cause_ms.get(cause, 0.0) for step in _steady(each)) for each in (report, *others)]
        return sums[0] - median(sums[1:])

    return max(CAUSES, key=extra_ms)


def _culprit(report: TraceReport, cause: Cause) -> str:
    """What takes most of the idle time of a cause, as far as that is known."""
    steady = next((phase.culprits for phase in report.phases if phase.name == "steady"), report.culprits)
    return next((each.what for each in steady if each.cause == cause and each.what), "")


def _extra_kernel(report: TraceReport, others: Sequence[TraceReport]) -> str:
    """The kernel on which a rank spends most time beyond the others, "" where there is none."""
    times = [{kernel.name: kernel.total_ms for kernel in each.kernels} for each in others]
    extra = {
        kernel.name: kernel.total_ms - median(each.get(kernel.name, 0.0) for each in times)
        for kernel in report.kernels
        if not is_communication(kernel.name)
    }
    name = max(extra, key=lambda each: extra[each], default="")
    return name if name and extra[name] > 0 else ""
