"""What ``trace`` found in a recorded trace: totals, and the same by region, by place that waits, by gap.

History of the format: version 1, the first. Milliseconds throughout. A figure that the trace cannot give is null.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from bagel_perf.schema import codec
from bagel_perf.schema.trace_differences import TraceDifference
from bagel_perf.schema.waits import Kind

SCHEMA = "bagel-perf.trace"
VERSION = 1

IdleClass = Literal["after_sync", "launch_bound", "cpu_elsewhere", "queued", "nothing_to_do", "unknown"]
IDLE_CLASSES: tuple[IdleClass, ...] = get_args(IdleClass)

PATH_SEPARATOR = " > "

LANES = ("cpu", "syncs", "gpu", "idle")
"""The fields of ``Lanes`` that are drawn, and the keys of its ``shares``."""
MAX_SEGMENTS = 400
"""Of a lane: more are merged down to this number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSource:
    """Where the trace comes from; ``versions`` are the recorder's own words, ``file`` has no folder."""

    format: Literal["kineto", "nsys"]
    file: str
    num_bytes: int
    num_events: int
    versions: dict[str, str]
    has_stacks: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTime:
    """How long a device was busy and idle in the window."""

    device: int
    name: str
    busy_ms: float
    idle_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitSite:
    """Waits of one kind from one place: operator, line (0 and empty without stacks) and region.

    ``blocked_ms`` is how long they held the host, ``lost_gpu_ms`` the device's idle time that they opened.
    ``price_ms`` is how much less the program would have taken without them: at least, if they alone went, and at most,
    if what only computes their answers went too; null beyond the first places, and where it cannot be told.
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
    price_ms: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionTime:
    """A region with all that lies in it; the empty path stands for what lies in no region.

    Work of the device, and its idle time, belong to the region that launched it, or that launched what ended it.
    ``wall_ms`` is the time between begin and end on the host.
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
    idle_ms: dict[IdleClass, float]
    lost_gpu_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GapRow:
    """A stretch without work on a device, with what stands around it.

    ``cause`` is the class of its larger part, ``lost_gpu_ms`` the part that waits opened. ``during`` is what the
    launching thread did for most of it, ``launch`` the call that ended it, ``wait`` the place of the last wait in it.
    """

    device: int
    start_ms: float
    duration_ms: float
    cause: IdleClass
    lost_gpu_ms: float | None
    before: str
    after: str
    launch: str
    during: str
    wait: str
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTime:
    """Kernels of one name."""

    name: str
    count: int
    total_ms: float


Segment = tuple[float, float, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """A stretch of time as lanes to draw: begin, end and label of each segment, neighbours merged where too many.

    ``cpu`` is the launching thread in operators or calls, ``syncs`` are waits by kind, ``gpu`` is the device at work,
    ``idle`` its gaps by class. ``region`` is the path, empty for the whole window; the stretch is the one call of the
    region that lost most. ``places`` says for each of ``syncs`` which of the ``sites`` of the report of ``syncs`` it is
    one of, -1 where that is not known; it is empty in reports of ``trace`` and in files from before 2026-11-28.
    ``shares`` says by the name of a lane which part of each segment is filled, 1 where it was not merged; files from
    before 2026-11-28 have none.
    """

    region: str
    start_ms: float
    end_ms: float
    cpu: tuple[Segment, ...]
    syncs: tuple[Segment, ...]
    gpu: tuple[Segment, ...]
    idle: tuple[Segment, ...]
    places: tuple[int, ...] = ()
    shares: dict[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceReport:
    """Everything about one trace; device times are sums over its devices.

    What the trace cannot tell is null: waits and launches without runtime calls, device times without its activities.
    ``idle_ms`` adds up to ``gpu_idle_ms``. ``price_ms`` is that of all waits together.
    ``is_idle_reliable`` is False where work of the device was not recorded; idle times are null then. ``warnings`` say
    what the figures cannot be trusted for, ``notes`` what was left out or assumed.
    """

    source: TraceSource
    window_ms: float
    host_syncs: int | None
    launches: int | None
    graph_launches: int
    blocked_ms: float | None
    gpu_busy_ms: float | None
    gpu_idle_ms: float | None
    idle_ms: dict[IdleClass, float]
    lost_gpu_ms: float | None
    price_ms: tuple[float, float] | None
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
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    difference: TraceDifference | None = None

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {"schema": SCHEMA, "version": VERSION, **codec.to_json(self)}

    @classmethod
    def from_json(cls, data: object) -> TraceReport:
        """The report of a JSON object; ``UsageError`` when it is none, or of a newer version."""
        return codec.from_json(cls, codec.check_header(data, SCHEMA, VERSION))
