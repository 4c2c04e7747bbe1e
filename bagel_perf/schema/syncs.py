"""The report of a watched program: every host sync by source line, what saw it, and what it cost.

History of the format: version 1, the first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bagel_perf.schema import codec
from bagel_perf.schema.errors import CountersDrifted, UsageError
from bagel_perf.schema.runs import SyncDevice
from bagel_perf.schema.sites import QuietOperator, Site, UnjudgedSite
from bagel_perf.schema.traces import TraceReport

SCHEMA = "bagel-perf.syncs"
VERSION = 1


class SyncBudgetExceeded(CountersDrifted):
    """A region waited more often than its budget allows, or was never entered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnesses:
    """How many host syncs each instrument saw; None where it was not there.

    ``callbacks`` are torch's own on CUDA, ``debug_mode`` the warnings of ``set_sync_debug_mode``, which is blind to
    the synchronization of devices and events (``blind`` of the callbacks), ``cupti`` the runtime calls in a profile;
    ``simulated`` is the count of the simulated device.
    """

    callbacks: int | None = None
    debug_mode: int | None = None
    cupti: int | None = None
    simulated: int | None = None
    blind: int = 0

    @property
    def num_disputed(self) -> int:
        """Waits on which callbacks and warnings disagree."""
        if self.callbacks is None or self.debug_mode is None:
            return 0
        return abs(self.callbacks - self.blind - self.debug_mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetCheck:
    """A region's budget of host syncs per entry, and how it was kept; allowed host syncs do not count.

    The uploads of a model's set-up count like others, in a region and in the whole: who does not want that puts them
    under ``allow_sync("set-up")``.
    A budget that no entry was held to is not kept: it would guard nothing.
    """

    region: str
    limit: int
    num_entries: int
    worst: int
    num_exceeded: int

    @property
    def ok(self) -> bool:
        return self.num_exceeded == 0 and self.num_entries > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """What watching costs, measured beside it: microseconds more for each wait and each other torch call.

    ``plain_wait_us`` is a wait without it, on an idle GPU. ``plain_wall_ms`` and ``watched_wall_ms`` are the same work
    without (median) and with the instruments of the profiled pass, None where the work could not be repeated.
    """

    wait_us: float
    call_us: float
    plain_wait_us: float
    plain_wall_ms: float | None = None
    watched_wall_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceCheck:
    """A price put to the test: the waits of one slot removed through a mixture, both timed in pairs.

    Times are in ms, positive where time is saved. ``predicted_ms`` is the price of the slot's waits as in ``Site``,
    ``measured_ms`` the median saving with its 95 % interval (None for too few pairs), ``agrees`` whether they overlap.
    """

    slot: str
    reference: str
    mixture: str
    stage: str
    num_pairs: int
    predicted_ms: tuple[float, float]
    measured_ms: float
    measured_ci_ms: tuple[float, float] | None
    agrees: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """What one watch saw; ``sites`` by lost GPU time where it is known, else by count.

    ``unexplained`` counts the waits on which the witnesses disagree. ``unjudged`` names operators that the simulated
    device met and cannot judge, with the number of calls; their waits are in no count. ``unjudged_sites`` are the lines
    where they ran, missing in older reports; ``quiet_operators`` are those that the user answers for, and so not among
    the unjudged. ``hazards`` are calls that do not wait but may stall, ``notes`` sentences about what limits the
    figures. ``exit_code`` is that of the program that was watched; a failing one is reported as far as it came.
    ``profile`` is all that the profiled run's trace says.
    """

    device: SyncDevice
    host_syncs: int
    unexplained: int
    sites: tuple[Site, ...]
    witnesses: Witnesses
    subject: str = ""
    exit_code: int = 0
    budgets: tuple[BudgetCheck, ...] = ()
    unjudged: dict[str, int] = field(default_factory=dict)
    unjudged_sites: tuple[UnjudgedSite, ...] = ()
    quiet_operators: tuple[QuietOperator, ...] = ()
    hazards: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    instrument: Instrument | None = None
    price_check: PriceCheck | None = None
    profile: TraceReport | None = None

    def __post_init__(self) -> None:
        total = sum(site.count for site in self.sites)
        if total != self.host_syncs:
            raise UsageError("sites do not add up", value=total, allowed=f"{self.host_syncs} host syncs in all")

    def total(self, region: str = "") -> int:
        """Host syncs in a region and the regions inside it."""
        return sum(site.count for site in self.sites if is_within(site.region, region))

    def unjudged_in(self, region: str) -> tuple[str, ...]:
        """Operators that nobody can judge and that may have run in a region, "" for the whole."""
        if not self.unjudged_sites:
            return tuple(self.unjudged)
        return tuple(dict.fromkeys(each.operator for each in self.unjudged_sites if touches(each.region, region)))

    def budget_error(self) -> SyncBudgetExceeded | None:
        """The error that names the first budget that was not kept and the lines that spent it; None if all were."""
        check = next((check for check in self.budgets if not check.ok), None)
        if check is None:
            return None
        if check.num_entries == 0:
            remedy = "name a region that the program enters, or drop the budget"
            return SyncBudgetExceeded("a region with a budget was never entered", value=check.region, remedy=remedy)
        place = f"region {check.region}" if check.region else "the program"
        spent = [site for site in self.sites if site.allowed is None and touches(site.region, check.region)]
        spent.sort(key=lambda site: site.is_setup)  # it is named where nothing else waited
        lines = ", ".join(f"{site.file}:{site.line} ({site.count} x {site.kind})" for site in spent[:3])
        entries = f"{check.num_exceeded} of {check.num_entries} entries over budget"
        return SyncBudgetExceeded(
            f"{place} waited for the device {check.worst} times",
            value=entries if check.region else None,
            allowed=f"budget {check.limit}",
            remedy=f"look at {lines}" if lines else "",
        )

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {"schema": SCHEMA, "version": VERSION, **codec.to_json(self)}

    @classmethod
    def from_json(cls, data: object) -> SyncReport:
        """The report of a JSON object; ``UsageError`` when it is none, or of a newer version."""
        return codec.from_json(cls, codec.check_header(data, SCHEMA, VERSION))


def is_within(region: str, outer: str) -> bool:
    """Whether a region path, names joined by ``/``, is ``outer`` or inside it; every region is inside ""."""
    return not outer or region == outer or region.startswith(f"{outer}/")


def touches(region: str, name: str) -> bool:
    """Whether a region path is inside a region of this name, at whatever depth that lies; a name may hold ``/``."""
    return not name or f"/{name}/" in f"/{region}/"
