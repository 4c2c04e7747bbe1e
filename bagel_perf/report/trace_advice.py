"""What to do about the time of a GPU, the largest part of it first."""

from __future__ import annotations

from dataclasses import dataclass

from bagel_perf.report.table import counted
from bagel_perf.report.trace_tables import CAUSE_LABELS, WIDE_NAME, place_of, range_text, short_name
from bagel_perf.schema.traces import Cause, Culprit, Phase, TraceReport, WaitSite
from bagel_perf.schema.waits import HINTS

SYNC_CAUSES: tuple[Cause, ...] = ("host_sync", "after_sync")
SECOND_SHARE = 0.2
"""Of the idle time: what takes this much and is not the first is named as well."""
EXPOSED_SHARE = 0.1
"""Of the busy time: so much communication, or copies, with nothing computed beside is worth a look by itself."""
MOSTLY = 0.5
BUSY_SHARE = 0.95
"""A stretch that is busy for this share has no idle time worth a look."""
STEADY_SHARE = 0.01
"""Of the time of steady steps: with less of it idle they are busy."""

ADVICE: dict[Cause, str] = {
    "host_sync": "take the waits of the table out of the loop",
    "after_sync": "take the waits of the table out of the loop",
    "unrecorded_work": "record what is missing (the other process, the kernels of graphs, a shorter stretch that loses "
    "no rows); until then busy time is a lower bound",
    "one_time_setup": "it is paid once; warm up before you record or time",
    "graph_capture": "capture before the steps that count, once for each shape, and replay afterwards",
    "allocator": "keep the memory (no empty_cache() in the loop, buffers made once; "
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True)",
    "data_loader": "load ahead while the GPU works (num_workers, prefetch_factor, pin_memory)",
    "cpu_elsewhere": "see what the CPU does there; do it ahead, on another thread, or on the GPU",
    "launch_bound": "launch less or faster (CUDA graphs, torch.compile, larger batches)",
    "launch_overhead": "launch less (CUDA graphs, fused kernels, larger batches)",
    "queued": "it was launched in time and waited on the device; see what the stream waits for (the event before the "
    "launch: another stream, device or process, or a host function); faster launches would not help",
    "unknown": "record the runtime calls with their correlation",
}
COPY_ADVICE = "copy less, from pinned memory that is allocated once, with non_blocking=True and other work meanwhile"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scope:
    """The stretch that advice is about: its idle time by cause, what it was in, and the words for the stretch."""

    idle_ms: dict[Cause, float]
    culprits: tuple[Culprit, ...]
    words: str
    start_ms: float
    end_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Option:
    """Something to do: the time at stake, and the words, which are a share of the idle time or stand by themselves."""

    time_ms: float
    text: str
    is_idle: bool = False


def advice(report: TraceReport) -> str:
    """What to do about the time of the steady steps, where those can be told apart, or else of the window.

    The largest part of the idle time, and the second where that is large as well; where there is little, the work.
    """
    if told := _warm_up_alone(report):
        return told
    scope = _scope(report)
    total_ms = sum(scope.idle_ms.values())
    if (
        total_ms <= (1 - BUSY_SHARE) * (scope.end_ms - scope.start_ms) * max(len(report.devices), 1)
        and report.gpu_busy_ms
    ):
        return _of_busy(report)
    found = sorted(_options(report, scope), key=lambda option: -option.time_ms)
    if not found:
        return "nothing that the host could do better"
    first = found[0]
    lead = f"of {total_ms:.2f} ms idle{scope.words}, " * first.is_idle
    second = next((option for option in found[1:] if option.time_ms >= SECOND_SHARE * total_ms), None)
    return f"{lead}{first.text}" + (f"; then {second.text}" if second else "")


def _warm_up_alone(report: TraceReport) -> str:
    """What to say where the idle time is the warm-up's and the steady steps are busy, else nothing."""
    warm_up, steady = _phase(report, "warm-up"), _phase(report, "steady")
    if warm_up is None or steady is None or not _is_busy(steady, report):
        return ""
    warm_up_ms, steady_ms, busy_ms = warm_up.gpu_idle_ms or 0.0, steady.gpu_idle_ms or 0.0, steady.gpu_busy_ms or 0.0
    outside_ms = (report.gpu_idle_ms or 0.0) - warm_up_ms - steady_ms
    if not busy_ms or warm_up_ms <= max(steady_ms, outside_ms):
        return ""
    cause = max(warm_up.idle_by_cause_ms, key=lambda name: warm_up.idle_by_cause_ms[name])
    mostly = _mostly(warm_up.culprits, cause, warm_up.idle_by_cause_ms[cause])
    busy = f"the steady steps are busy ({busy_ms / (busy_ms + steady_ms):.1%})"
    return (
        f"{busy}; {warm_up_ms:.2f} ms idle lie in the warm-up{mostly}: paid once, so warm up before you record or time"
    )


def _of_busy(report: TraceReport) -> str:
    """What to do about a GPU that has work nearly all of the time."""
    if exposed := _exposed(report):
        _, text = max(exposed)
        return f"the GPU is busy; {text}"
    kernel = short_name(report.kernels[0].name, WIDE_NAME) if report.kernels else "its kernels"
    return f"the GPU is busy; make its work faster, first {kernel}"


def _phase(report: TraceReport, name: str) -> Phase | None:
    return next((phase for phase in report.phases if phase.name == name and phase.gpu_idle_ms is not None), None)


def _is_busy(phase: Phase, report: TraceReport) -> bool:
    length_ms = (phase.end_ms - phase.start_ms) * len(report.devices)
    return (phase.gpu_idle_ms or 0.0) < STEADY_SHARE * length_ms


def _scope(report: TraceReport) -> _Scope:
    """The steady steps where idle time is theirs, else the whole window."""
    warm_up, steady = _phase(report, "warm-up"), _phase(report, "steady")
    if steady is not None and not _is_busy(steady, report):
        in_steps_ms = (steady.gpu_idle_ms or 0.0) + (warm_up.gpu_idle_ms or 0.0 if warm_up else 0.0)
        if (report.gpu_idle_ms or 0.0) - in_steps_ms <= (steady.gpu_idle_ms or 0.0):
            return _Scope(
                idle_ms=steady.idle_by_cause_ms,
                culprits=steady.culprits,
                words=" in the steady steps",
                start_ms=steady.start_ms,
                end_ms=steady.end_ms,
            )
    return _Scope(
        idle_ms=report.idle_by_cause_ms,
        culprits=report.culprits,
        words=" in the whole window, most of it outside of the steady steps" if steady is not None else "",
        start_ms=0.0,
        end_ms=report.window_ms,
    )


def _options(report: TraceReport, scope: _Scope) -> list[_Option]:
    """Everything that could be done, each with the time that is at stake."""
    total_ms = sum(scope.idle_ms.values())
    found = [_Option(time_ms=time_ms, text=text) for time_ms, text in _exposed(report)]
    for cause, time_ms in scope.idle_ms.items():
        if cause not in SYNC_CAUSES and time_ms > 0:
            share = f"{time_ms / total_ms:.0%} is {CAUSE_LABELS[cause]}{_where(report, scope, cause)}"
            found.append(_Option(time_ms=time_ms, text=f"{share}: {_remedy(scope, cause)}", is_idle=True))
    best = max(report.sites, key=_cost_ms, default=None)
    caused_ms = sum(report.idle_by_cause_ms.get(cause, 0.0) for cause in SYNC_CAUSES)
    sync_ms = sum(scope.idle_ms.get(cause, 0.0) for cause in SYNC_CAUSES)
    if best is not None and _cost_ms(best) > 0:
        # A price is known of all waits together; a stretch has as much of it as it has of the idle time in them.
        part = sync_ms / caused_ms if caused_ms else 1.0
        saved_ms = report.price_ms[1] * part if report.price_ms else sync_ms
        found.append(_Option(time_ms=saved_ms, text=_of_site(best)))
    return found


def _exposed(report: TraceReport) -> list[tuple[float, str]]:
    """Communication and copies with nothing computed beside them, where that is much of the busy time."""
    busy_ms = report.gpu_busy_ms or 0.0
    communication_ms = sum(device.exposed_communication_ms or 0.0 for device in report.devices)
    copy_ms = sum(device.exposed_copy_ms or 0.0 for device in report.devices)
    remedies = (
        (communication_ms, "communication", "overlap it, or trace all ranks together to see whom they wait for"),
        (copy_ms, "copies", COPY_ADVICE),
    )
    return [
        (time_ms, f"{time_ms / busy_ms:.0%} of the busy time is {what} with nothing computed beside: {remedy}")
        for time_ms, what, remedy in remedies
        if busy_ms and time_ms >= EXPOSED_SHARE * busy_ms
    ]


def _where(report: TraceReport, scope: _Scope, cause: Cause) -> str:
    """What took most of a cause, where that is known, and where its longest gap in the scope is."""
    inside = (gap for gap in report.gaps if scope.start_ms <= gap.start_ms + gap.duration_ms / 2 <= scope.end_ms)
    gap = next((gap for gap in inside if gap.cause == cause), None)
    device = f" on GPU {gap.device}" if gap and len(report.devices) > 1 else ""
    at = f"longest gap at {gap.start_ms:.2f} ms{device}" if gap else ""
    mostly = _mostly(scope.culprits, cause, scope.idle_ms[cause]).strip(" ()")
    found = ", ".join(part for part in (mostly, at) if part)
    return f" ({found})" if found else ""


def _mostly(culprits: tuple[Culprit, ...], cause: Cause, cause_ms: float) -> str:
    """What took at least half of a cause, in brackets; nothing where that has no name."""
    worst = max((each for each in culprits if each.cause == cause), key=lambda each: each.idle_ms, default=None)
    if worst is None or not worst.what or worst.idle_ms < MOSTLY * cause_ms:
        return ""
    what = short_name(worst.what, WIDE_NAME)
    return f" ({what})" if what[0].isdigit() else f" (mostly {what})"


def _remedy(scope: _Scope, cause: Cause) -> str:
    worst = next((culprit.what for culprit in scope.culprits if culprit.cause == cause), "")
    if cause == "launch_overhead" and "Memcpy" in worst:
        return COPY_ADVICE
    if cause == "launch_overhead" and "GraphLaunch" in worst:
        return "capture more of the work in one graph, so that fewer are launched"
    return ADVICE[cause]


def _of_site(site: WaitSite) -> str:
    cost = f"{range_text(site.price_ms)} ms" if site.price_ms else f"{site.lost_gpu_ms or 0.0:.2f} ms idle"
    return f"{place_of(site)} ({counted(site.count, 'wait')}, {cost}): try {HINTS[site.kind].advice}"


def _cost_ms(site: WaitSite) -> float:
    """What a site costs: its price, else the idle time that it caused."""
    return site.price_ms[1] if site.price_ms else site.lost_gpu_ms or 0.0
