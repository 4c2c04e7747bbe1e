"""What ``trace`` found in a recorded trace: totals, and the same by region, by place that waits, by gap.

History of the format: version 1, the first. Milliseconds throughout. A figure that the trace cannot give is null. Since
2026-11-30 idle time is split by cause (``idle_by_cause_ms``, ``GapRow.parts``); ``upgraded`` reads files from before.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

from bagel_perf.records import codec
from bagel_perf.records.sites import Kind
from bagel_perf.records.trace_differences import TraceDifference
from bagel_perf.records.version1 import in_words

SCHEMA = "bagel-perf.trace"
VERSION = 1

Cause = Literal[
    "host_sync",
    "after_sync",
    "unrecorded_work",
    "one_time_setup",
    "graph_capture",
    "allocator",
    "data_loader",
    "cpu_elsewhere",
    "launch_bound",
    "launch_overhead",
    "queued",
    "unknown",
]
"""Why a device had nothing to do for a part of a gap, by what the launching thread and the launched work did then."""
CAUSES: tuple[Cause, ...] = get_args(Cause)

PhaseName = Literal["warm-up", "steady"]

PATH_SEPARATOR = " > "

LANES = ("cpu", "syncs", "gpu", "idle")
"""The fields of ``Lanes`` that are drawn, and the keys of its ``shares``."""
MAX_SEGMENTS = 1000
"""Of a lane: more are merged down to this number; before 2026-12-01 it was 400."""


class TraceSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where the trace comes from; ``versions`` are the recorder's own words, ``file`` has no folder."""

    format: Literal["kineto", "nsys"]
    file: str
    num_bytes: int
    num_events: int
    versions: dict[str, str]
    has_stacks: bool


class DeviceTime(msgspec.Struct, frozen=True, kw_only=True):
    """How long a device was busy and idle in the window.

    ``busy_ms`` is time of computing, then of communication and of copies with nothing computed beside them; these three
    add up to it, and are None in files from before 2026-11-30.
    """

    device: int
    name: str
    busy_ms: float
    idle_ms: float | None
    compute_ms: float | None = None
    exposed_communication_ms: float | None = None
    exposed_copy_ms: float | None = None


class StreamTime(msgspec.Struct, frozen=True, kw_only=True):
    """How long a stream was busy in the window, and with how many activities; it was idle for the rest."""

    device: int
    stream: int
    activities: int
    busy_ms: float
    idle_ms: float


class QueueLength(msgspec.Struct, frozen=True, kw_only=True):
    """How much work of a device was launched and had not begun.

    ``mean`` is over the window, ``empty_share`` the share of it in which there was none, ``means`` the mean in each of
    equal stretches of the window.
    """

    device: int
    mean: float
    longest: int
    empty_share: float
    means: tuple[float, ...]


class LaunchDelay(msgspec.Struct, frozen=True, kw_only=True):
    """From the begin of a launch call to the begin of its work, in us, by class of work."""

    work: str
    count: int
    median_us: float
    p95_us: float
    longest_us: float


class Culprit(msgspec.Struct, frozen=True, kw_only=True):
    """Idle time of one cause through one thing: a line, a call, an operator, an annotation.

    ``what`` is empty where nothing was recorded. ``parts`` of gaps took ``idle_ms`` together.
    """

    cause: Cause
    what: str
    parts: int
    idle_ms: float


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """Steps of the window: those of the warm-up, or the steady ones after them.

    ``found_by`` names what tells the steps apart; ``step_ms`` is the median length of one.
    """

    name: PhaseName
    found_by: str
    steps: int
    start_ms: float
    end_ms: float
    step_ms: float
    host_syncs: int | None
    launches: int | None
    gpu_busy_ms: float | None
    gpu_idle_ms: float | None
    idle_by_cause_ms: dict[Cause, float]
    culprits: tuple[Culprit, ...] = ()


class StepTime(msgspec.Struct, frozen=True, kw_only=True):
    """One step: from its begin to that of the next one, to its own end if it is the last.

    ``number`` counts from 0. Busy and idle time are those of its stretch; ``communication_ms`` is the time in kernels
    of communication that the step launched, and ``exposed_communication_ms`` what of it nothing was computed beside.
    All are sums over devices, null where unknown; causes that do not occur are left out of ``idle_by_cause_ms``.
    """

    number: int
    is_warm_up: bool
    start_ms: float
    wall_ms: float
    host_syncs: int | None
    gpu_busy_ms: float | None
    gpu_idle_ms: float | None
    communication_ms: float | None
    exposed_communication_ms: float | None
    idle_by_cause_ms: dict[Cause, float]


class WaitSite(msgspec.Struct, frozen=True, kw_only=True):
    """Waits of one kind from one place: operator, line (0 and empty without stacks) and region.

    ``blocked_ms`` is how long they held the host, ``lost_gpu_ms`` the device's idle time that they caused.
    ``predicted_saving_ms`` is how much less the program would have taken without them: at least, if they alone went,
    and at most, if what only computes their answers went too; null beyond the first places, and where it cannot be
    told.
    """

    kind: Kind
    file: str
    line: int
    function: str
    region: str
    op: str
    api: str
    count: int
    blocked_ms: float
    lost_gpu_ms: float | None
    predicted_saving_ms: tuple[float, float] | None


class RegionTime(msgspec.Struct, frozen=True, kw_only=True):
    """A region with all that lies in it; the empty path stands for what lies in no region.

    Work of the device belongs to the region that launched it, idle time to the region in which the launching thread was
    meanwhile, and ``lost_gpu_ms`` to that of the wait. ``wall_ms`` is the time between begin and end on the host.
    """

    path: tuple[str, ...]
    calls: int
    wall_ms: float
    launches: int | None
    host_syncs: int | None
    syncs_by_kind: dict[Kind, int]
    blocked_ms: float | None
    gpu_busy_ms: float | None
    gpu_idle_ms: float | None
    idle_by_cause_ms: dict[Cause, float]
    lost_gpu_ms: float | None


class GapPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a gap with one cause, and ``what`` the launching thread was in: empty where nothing was recorded."""

    cause: Cause
    duration_ms: float
    what: str


class GapRow(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch without work on a device, with what stands around it.

    ``parts`` follow each other and add up to it; ``cause`` is that of most of it, ``lost_gpu_ms`` the time in waits and
    from their end to the next work. ``before`` and ``after`` are the work around it, empty at the ends of the window,
    ``launch`` the call that ended it, and ``region`` where most of it passed.
    """

    device: int
    start_ms: float
    duration_ms: float
    cause: Cause
    lost_gpu_ms: float | None
    before: str
    after: str
    launch: str
    region: str
    parts: tuple[GapPart, ...] = ()


class KernelTime(msgspec.Struct, frozen=True, kw_only=True):
    """Kernels of one name."""

    name: str
    count: int
    total_ms: float


Segment = tuple[float, float, str]


class Lanes(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of time as lanes to draw: begin, end and label of each segment, neighbours merged where too many.

    ``cpu`` is the launching thread in operators or calls, ``syncs`` are waits by kind, ``gpu`` is the device at work,
    ``idle`` its gaps by class. ``region`` is the path, empty for the whole window; the stretch is the one call of the
    region that caused most idle time. ``places`` says for each of ``syncs`` which of the ``sites`` of the report of
    ``syncs`` it is one of, -1 where that is not known; it is empty in reports of ``trace`` and in files from before
    2026-11-28. ``shares`` says by the name of a lane which part of each segment is filled, 1 where it was not merged;
    files from before 2026-11-28 have none. ``sites`` says for each of ``syncs`` which of the ``sites`` of the report of
    ``trace`` it is one of; files from before 2026-12-01 have none. ``device`` is named where the trace has several;
    beside the whole window of the first one there is that of each other one, with ``gpu`` and ``idle`` alone.
    """

    region: str
    start_ms: float
    end_ms: float
    cpu: tuple[Segment, ...]
    syncs: tuple[Segment, ...]
    gpu: tuple[Segment, ...]
    idle: tuple[Segment, ...]
    places: tuple[int, ...] = ()
    shares: dict[str, tuple[float, ...]] = {}
    sites: tuple[int, ...] = ()
    device: int | None = None


class TraceReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one trace; device times are sums over its devices.

    What the trace cannot tell is null: waits and launches without runtime calls, device times without its activities.
    ``idle_by_cause_ms`` adds up to ``gpu_idle_ms``. ``predicted_saving_ms`` is that of all waits together.
    ``captured_launches`` went into a graph that was being captured, and are no ``launches``; of
    ``launches_without_work`` nothing is recorded on the device. ``is_idle_reliable`` is False where work of the device
    was not recorded; idle times are null then. ``warnings`` say what the figures cannot be trusted for, ``notes`` what
    was left out or assumed.
    """

    source: TraceSource
    window_ms: float
    host_syncs: int | None
    launches: int | None
    graph_launches: int
    blocked_ms: float | None
    gpu_busy_ms: float | None
    gpu_idle_ms: float | None
    idle_by_cause_ms: dict[Cause, float]
    lost_gpu_ms: float | None
    predicted_saving_ms: tuple[float, float] | None
    is_idle_reliable: bool
    syncs_by_kind: dict[Kind, int]
    allocator_calls: int | None
    allocator_ms: float | None
    pageable_copies: int | None
    pageable_copy_ms: float | None
    stream_waits: int
    profiler_syncs: int
    unmatched_markers: int
    devices: tuple[DeviceTime, ...]
    sites: tuple[WaitSite, ...]
    regions: tuple[RegionTime, ...]
    gaps: tuple[GapRow, ...]
    kernels: tuple[KernelTime, ...]
    lanes: tuple[Lanes, ...]
    captured_launches: int = 0
    launches_without_work: int | None = None
    phases: tuple[Phase, ...] = ()
    steps: tuple[StepTime, ...] = ()
    culprits: tuple[Culprit, ...] = ()
    streams: tuple[StreamTime, ...] = ()
    queues: tuple[QueueLength, ...] = ()
    launch_delays: tuple[LaunchDelay, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    difference: TraceDifference | None = None

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {"schema": SCHEMA, "version": VERSION, **codec.to_json(self)}

    @classmethod
    def from_json(cls, data: object) -> TraceReport:
        """The report of a JSON object; ``UsageError`` when it is none, or of a newer version."""
        return codec.from_json(cls, upgraded(codec.check_header(data, SCHEMA, VERSION)))


_OLD_CAUSES = {"nothing_to_do": "unknown"}


def upgraded(data: Any) -> Any:
    """A report as JSON with the names that files from before 2026-11-30 lack; anything else as it is.

    In those, ``after_sync`` holds all of a gap that opened in a wait, and the ends of the window have no cause.
    """
    if not isinstance(data, dict):
        return data
    data = in_words(data)
    if isinstance(data.get("sites"), list):
        data = {**data, "sites": [in_words(site) if isinstance(site, dict) else site for site in data["sites"]]}
    if "idle_ms" not in data:
        return data
    new = _renamed(data)
    for name, mend in (("regions", _renamed), ("gaps", _mended_gap), ("lanes", _mended_lane)):
        if isinstance(new.get(name), list):
            new[name] = [mend(row) if isinstance(row, dict) else row for row in new[name]]
    return new


def _renamed(row: dict[str, Any]) -> dict[str, Any]:
    new = {name: value for name, value in row.items() if name != "idle_ms"}
    old = row.get("idle_ms")
    if isinstance(old, dict) and old:
        sums: dict[str, Any] = dict.fromkeys(CAUSES, 0.0)
        for cause, time_ms in old.items():
            known = str(_new_cause(cause))
            before = sums.get(known, 0.0)
            are_numbers = all(isinstance(each, int | float) for each in (time_ms, before))
            sums[known] = before + time_ms if are_numbers else time_ms
        old = sums
    return {**new, "idle_by_cause_ms": old}


def _mended_gap(gap: dict[str, Any]) -> dict[str, Any]:
    new = {name: value for name, value in gap.items() if name not in ("during", "wait")}
    cause = _new_cause(gap.get("cause"))
    what = gap.get("wait") or gap.get("during") or ""
    return {**new, "cause": cause, "parts": [{"cause": cause, "duration_ms": gap.get("duration_ms"), "what": what}]}


def _mended_lane(lane: dict[str, Any]) -> dict[str, Any]:
    idle = lane.get("idle")
    if not isinstance(idle, list):
        return lane
    mended = [[*each[:2], _new_cause(each[2])] if isinstance(each, list) and len(each) == 3 else each for each in idle]
    return {**lane, "idle": mended}


def _new_cause(cause: Any) -> Any:
    return _OLD_CAUSES.get(cause, cause) if isinstance(cause, str) else cause
