"""The report of a watched program: every host sync by source line, what saw it, what it cost; and what changed.

History of both formats: version 1, the first.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import msgspec

from bagel_perf.records import codec
from bagel_perf.records.blockers import CaptureReport
from bagel_perf.records.copies import CopySite
from bagel_perf.records.errors import BagelPerfError, CountersDrifted, Inconclusive, UsageError
from bagel_perf.records.runs import SyncDevice
from bagel_perf.records.sites import HELD, Kind, QuietOperator, SyncSite, UnjudgedSite
from bagel_perf.records.trace_differences import Change
from bagel_perf.records.traces import TraceReport, upgraded
from bagel_perf.records.version1 import in_words

SCHEMA = "bagel-perf.syncs"
VERSION = 1
HEADER = {"schema": SCHEMA, "version": VERSION}
MAX_NAMES = 3
UNJUDGED_REMEDY = "run it on a GPU, leave these operators out, or say why they do not wait: --quiet-op, quiet_ops"
UNWATCHED_REMEDY = "start them as Python, with the environment of the program and without -I, -E, -S"
HELD_REMEDY = "copy into pinned and dense memory, or let a GPU's clock tell"
UNUSED_REMEDY = 'let the program put its tensors on "cuda", as it does where there is a GPU'
UNKNOWN_PID = 2**32
"""In a ledger, of a process that may use the device and has no number there."""

DoubtKind = Literal["unjudged", "unused", "unwatched", "untested", "held", "window", "running"]


class SyncBudgetExceeded(CountersDrifted):
    """A region waited more often than its budget allows, or was never entered.

    Where it is raised at a wait, ``site`` is that one wait and ``budget`` what it is over.
    """

    site: SyncSite | None = None
    budget: BudgetCheck | None = None


class Witnesses(msgspec.Struct, frozen=True, kw_only=True):
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


class BudgetCheck(msgspec.Struct, frozen=True, kw_only=True):
    """A region's budget of host syncs per entry, and how it was kept; allowed host syncs do not count.

    The uploads of a model's set-up count like others, in a region and in the whole: who does not want that puts them
    under ``allow_sync("set-up")``.
    A budget that no entry was held to is not kept: it would guard nothing. ``used_device`` says whether anything ran on
    the device in one of the entries, None where that cannot be told.
    """

    region: str
    limit: int
    num_entries: int
    worst: int
    num_exceeded: int
    used_device: bool | None = None

    @property
    def ok(self) -> bool:
        return self.num_exceeded == 0 and self.num_entries > 0


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """What watching costs, measured beside it: microseconds more for each wait and each other torch call.

    ``plain_wait_us`` is a wait without it, on an idle GPU. ``plain_wall_ms`` and ``watched_wall_ms`` are the same work
    without (median) and with the instruments of the profiled pass, None where the work could not be repeated.
    """

    wait_us: float
    call_us: float
    plain_wait_us: float
    plain_wall_ms: float | None = None
    watched_wall_ms: float | None = None


class SavingCheck(msgspec.Struct, frozen=True, kw_only=True):
    """A predicted saving put to the test: the waits of one component removed through a mixture, both timed in pairs.

    Times are in ms, positive where time is saved. ``predicted_ms`` is the predicted saving of the component's waits as
    in ``SyncSite``, ``measured_ms`` the median saving with its 95 % interval (None for too few pairs), ``agrees``
    whether they overlap.
    """

    component: str
    reference: str
    mixture: str
    stage: str
    num_pairs: int
    predicted_ms: tuple[float, float]
    measured_ms: float
    measured_ci_ms: tuple[float, float] | None
    agrees: bool | None


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A process of the program; ``host_syncs`` is None where nobody watched it, ``pid`` and exit code where unknown.

    ``why`` says what kept it from being watched, or from being watched to its end. ``rank`` is that of torchrun and its
    like, ``used_device`` whether anything ran on the device, None where that cannot be told. One that ``still_runs``
    outlived the command, and was counted until then.
    """

    name: str
    pid: int | None = None
    argv: tuple[str, ...] = ()
    exit_code: int | None = None
    host_syncs: int | None = None
    watched: bool = False
    why: str = ""
    rank: int | None = None
    used_device: bool | None = None
    still_runs: bool = False


class SyncReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one watch saw; ``sites`` by the idle time that they caused where it is known, else by count.

    ``unexplained`` counts the waits on which the witnesses disagree. ``unjudged`` names operators that the simulated
    device met and cannot judge, with the number of calls; their waits are in no count. ``unjudged_sites`` are the lines
    where they ran, missing in older reports; ``quiet_operators`` are those that the user answers for, and so not among
    the unjudged. ``hazards`` are calls that do not wait but may stall, at ``hazard_sites``, ``notes`` sentences about
    what limits the figures. ``exit_code`` is that of the program that was watched; a failing one is reported as far
    as it came; ``signal`` is the name of the signal that ended it. ``profile`` is all that the profiled run's trace
    says. ``used_device`` says whether anything ran on the device, None where that cannot be told. ``processes`` are
    the program and those it started that could use the device. ``untested`` names what this tool was not tested
    with. ``copies`` are those between host and device, None where nobody looked for them. ``not_begun`` is the region
    after which counting was to begin, where that was never left. ``captures`` say what prevents a CUDA graph of the
    region that was asked about, in each process. ``is_unstarted`` says that the watch was paused from its beginning to
    its end.
    """

    device: SyncDevice
    host_syncs: int
    unexplained: int
    sites: tuple[SyncSite, ...]
    witnesses: Witnesses
    subject: str = ""
    exit_code: int = 0
    budgets: tuple[BudgetCheck, ...] = ()
    unjudged: dict[str, int] = {}
    unjudged_sites: tuple[UnjudgedSite, ...] = ()
    hazard_sites: tuple[UnjudgedSite, ...] = ()
    quiet_operators: tuple[QuietOperator, ...] = ()
    hazards: dict[str, int] = {}
    notes: tuple[str, ...] = ()
    instrument: Instrument | None = None
    saving_check: SavingCheck | None = None
    profile: TraceReport | None = None
    signal: str | None = None
    used_device: bool | None = None
    processes: tuple[Process, ...] = ()
    untested: tuple[str, ...] = ()
    copies: tuple[CopySite, ...] | None = None
    not_begun: str = ""
    captures: tuple[CaptureReport, ...] = ()
    is_unstarted: bool = False

    @property
    def unwatched(self) -> tuple[Process, ...]:
        """Processes of the program whose waits are in no count."""
        return tuple(process for process in self.processes if not process.watched)

    def __post_init__(self) -> None:
        total = sum(site.count for site in self.sites)
        if total != self.host_syncs:
            raise UsageError("sites do not add up", value=total, allowed=f"{self.host_syncs} host syncs in all")

    def total(self, region: str = "") -> int:
        """Host syncs in a region and the regions inside it."""
        return sum(site.count for site in self.sites if is_within(site.region, region))

    def unjudged_in(self, region: str) -> tuple[str, ...]:
        """Operators that nobody can judge and that may have run in a region, "" for the whole."""
        placed = {each.operator for each in self.unjudged_sites}
        here = {each.operator for each in self.unjudged_sites if touches(each.region, region)}
        return tuple(name for name in self.unjudged if name in here or name not in placed)

    def held_in(self, region: str) -> tuple[UnjudgedSite, ...]:
        """Asynchronous copies in a region, "" for the whole, of which it is known that they hold the host."""
        return tuple(each for each in self.hazard_sites if each.operator == HELD and touches(each.region, region))

    def unused(self, region: str = "") -> bool:
        """Whether it is known that nothing ran on the device, in all or in a region with a budget."""
        checks = [check.used_device for check in self.budgets if check.region == region and check.num_entries]
        return self.used_device is False or (bool(region) and False in checks)

    def budget_error(self) -> BagelPerfError | None:
        """The error of the first budget that was not kept, else of the budgets that are open; None if all were kept.

        ``SyncBudgetExceeded`` names the lines that spent it, ``Inconclusive`` every reason why nobody can tell.
        """
        exceeded = next((check for check in self.budgets if check.num_exceeded), None)
        if exceeded is not None:
            return self._exceeded(exceeded)
        absent = next((check for check in self.budgets if not check.ok), None)
        if absent is not None and not self.unwatched:
            remedy = "name a region that the program enters, or drop the budget"
            return SyncBudgetExceeded("a region with a budget was never entered", value=absent.region, remedy=remedy)
        return self._open_error(absent)

    def _exceeded(self, check: BudgetCheck) -> SyncBudgetExceeded:
        place = f"region {check.region}" if check.region else "the program"
        spent = [site for site in self.sites if not site.is_excused and touches(site.region, check.region)]
        spent.sort(key=lambda site: site.is_setup)  # it is named where nothing else waited
        counts = Counter[tuple[str, str]]()  # alike in several processes
        for site in spent:
            counts[f"{site.file}:{site.line}", site.kind] += site.count
        lines = ", ".join(f"{line} ({count} x {kind})" for (line, kind), count in list(counts.items())[:3])
        entries = f"{check.num_exceeded} of {check.num_entries} entries over budget"
        return SyncBudgetExceeded(
            f"{place} waited for the device {check.worst} times",
            value=entries if check.region else None,
            allowed=f"budget {check.limit}",
            remedy=f"look at {lines}" if lines else "",
        )

    def _open_error(self, absent: BudgetCheck | None) -> Inconclusive | None:
        reasons = {doubt: None for check in self.budgets for doubt in doubts(self, check.region)}
        if not reasons:
            return None
        names = ", ".join(check.region or "the whole" for check in self.budgets if doubts(self, check.region))
        first = () if absent is None else (f"{absent.region} was never entered in the process that was watched",)
        return Inconclusive("budgets are open", value=names, allowed=", and ".join([*first, *map(str, reasons)]))

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {**HEADER, **codec.to_json(self)}

    @classmethod
    def from_json(cls, data: object) -> SyncReport:
        """The report of a JSON object; ``UsageError`` when it is none, or of a newer version."""
        found = dict(codec.check_header(data, SCHEMA, VERSION))
        found = in_words(upgraded(found))
        if isinstance(found.get("saving_check"), dict):
            found["saving_check"] = in_words(found["saving_check"])
        return codec.from_json(cls, {**found, "profile": upgraded(found.get("profile"))})


def is_within(region: str, outer: str) -> bool:
    """Whether a region path, names joined by ``/``, is ``outer`` or inside it; every region is inside ""."""
    return not outer or region == outer or region.startswith(f"{outer}/")


def touches(region: str, name: str) -> bool:
    """Whether a region path is inside a region of this name, at whatever depth that lies; a name may hold ``/``."""
    return not name or f"/{name}/" in f"/{region}/"


class Doubt(msgspec.Struct, frozen=True):
    """Why a budget is open although no count exceeds it: what ``kind`` of reason, in words, and what helps."""

    kind: DoubtKind
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.text} ({self.remedy})"


def doubts(report: SyncReport, region: str = "") -> tuple[Doubt, ...]:
    """Every reason why nobody can tell whether a region, "" for the whole, kept its budget."""
    found = []
    if operators := report.unjudged_in(region):
        text = f"the simulated device cannot judge {', '.join(operators)}"
        found.append(Doubt("unjudged", text, UNJUDGED_REMEDY))
    if held := report.held_in(region):
        lines = ", ".join(f"{each.file}:{each.line}" for each in held[:MAX_NAMES])
        found.append(Doubt("held", f"an {HELD}, at {lines}", HELD_REMEDY))
    if report.unused(region):
        place = f" in region {region}" if region else ""
        found.append(Doubt("unused", f"nothing ran on the device{place}", UNUSED_REMEDY))
    if report.unwatched:
        names = ", ".join(process.name for process in report.unwatched[:MAX_NAMES])
        more = f" and {len(report.unwatched) - MAX_NAMES} more" * (len(report.unwatched) > MAX_NAMES)
        text = f"nobody watched these processes: {names}{more}"
        found.append(Doubt("unwatched", text, UNWATCHED_REMEDY))
    if report.is_unstarted:
        found.append(Doubt("window", "counting was never started", "bagel-perf syncs --attach PID start"))
    if running := [process.name for process in report.processes if process.still_runs]:
        text = f"still running when the command had ended: {', '.join(running[:MAX_NAMES])}"
        found.append(Doubt("running", text, "let the command wait for what it starts"))
    if report.not_begun:
        remedy = "name a region that the program enters and leaves, or drop --after"
        found.append(Doubt("window", f"counting never began: region {report.not_begun} was never left", remedy))
    if report.untested:
        text = f"this was not tested with {', '.join(report.untested)}"
        found.append(Doubt("untested", text, "take a version that was tested"))
    return tuple(found)


DIFFERENCES_SCHEMA = "bagel-perf.syncs-against"
DIFFERENCES_VERSION = 1


class SyncChange(msgspec.Struct, frozen=True, kw_only=True):
    """Waits of one kind and text in one function whose number changed; 0 is none, None unknown.

    ``line`` is where they are now, or were; ``why_unknown`` says what was not seen.
    """

    change: Change
    kind: Kind
    file: str
    line: int
    function: str
    expressions: tuple[str, ...]
    count_before: int | None
    count_after: int | None
    why_unknown: str = ""


class SyncDifference(msgspec.Struct, frozen=True, kw_only=True):
    """From ``before`` to ``after``, the subjects of two reports; totals are None where they are unknown.

    ``num_same`` places have the same number in both, together ``host_syncs_same`` waits. ``notes`` say what keeps the
    two from being compared at face value.
    """

    before: str
    after: str
    host_syncs_before: int | None
    host_syncs_after: int | None
    changes: tuple[SyncChange, ...]
    num_same: int
    host_syncs_same: int
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The difference as a JSON object."""
        return {"schema": DIFFERENCES_SCHEMA, "version": DIFFERENCES_VERSION, **codec.to_json(self)}

    @classmethod
    def from_json(cls, data: object) -> SyncDifference:
        """The difference of a JSON object; ``UsageError`` when it is none."""
        return codec.from_json(cls, codec.check_header(data, DIFFERENCES_SCHEMA, DIFFERENCES_VERSION))
