"""Watches a stretch of a program: every host sync by source line, what saw it, and what it cost.

On CUDA up to three witnesses look: torch's callbacks, which name the line; the warnings of the sync debug mode; and,
with ``profile``, CUPTI's record of the runtime calls, which also tells how long each wait blocked the host and how long
the GPU stood idle for it. They are reconciled, and what they disagree on is reported as unexplained.

What the simulated device cannot judge, and what may stall, is collected beside the waits. Everything goes into a ledger
as it is counted, which outlives a program that is killed.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from msgspec.structs import replace

from bagel_perf.records import codec
from bagel_perf.records.ledger import USES, Ledger, unwatched_processes
from bagel_perf.records.runs import SyncDevice
from bagel_perf.records.sites import Kind, QuietOperator, SyncSite, UnjudgedSite
from bagel_perf.records.syncs import BudgetCheck, SyncReport, Witnesses
from bagel_perf.rules import torch_lacks, torch_versions
from bagel_perf.rules.code_places import CodePlace
from bagel_perf.simulated import SimulatedDevice, active_device
from bagel_perf.syncs.budgets import WHOLE, BudgetKeeper, uses_of_cuda, uses_of_simulated
from bagel_perf.syncs.cuda import WarningCount, callbacks_stay_on, counting_sync_warnings
from bagel_perf.syncs.frames import Folders, readable_path
from bagel_perf.syncs.nvtx_ranges import nvtx_ranges_as_regions
from bagel_perf.syncs.processes import watching_processes
from bagel_perf.syncs.profiling import TAKEN, Profiled, profiling
from bagel_perf.syncs.raising import OnWait, budgets_of, end_at_wait, keep_budgets
from bagel_perf.syncs.regions import RecordFunctionSink, current_region
from bagel_perf.syncs.sites import Place, SyncCollector, Texts, count_host_syncs, site_of
from bagel_perf.syncs.threads import Threads, counting_on, notes_elsewhere

_Place = tuple[str, str, int, str]
"""Operator, file, line, region."""


class UnjudgedCalls:
    """Takes in remarks from any thread; what is asked of it may be asked at any time.

    ``quiet`` are operators that the user answers for, with the reason: ``mine.sq``, ``mine::sq`` or
    ``mine.sq.default``. Raises ValueError for one without a reason.
    """

    def __init__(self, quiet: Mapping[str, str], counts_here: Callable[[], bool] = lambda: True) -> None:
        for name, reason in quiet.items():
            if not isinstance(reason, str) or not reason.strip():
                raise ValueError(f"quiet operator {name} has no reason; say why it does not wait")
        self._reasons = dict(quiet)
        self._counts_here = counts_here
        self._names = {name.replace("::", "."): name for name in quiet}
        self._calls_of_quiet: Counter[str] = Counter()
        self._calls: Counter[_Place] = Counter()
        self._hazards: Counter[_Place] = Counter()
        self._folders = Folders()
        self._lock = threading.RLock()  # collecting garbage inside may run a finalizer that is not judged

    def hear(self, what: str, name: str) -> None:
        """Takes in a remark of the simulated device, on the thread that it is about."""
        if what == "notes" or not self._counts_here():
            return
        quiet = self.answered(name) if what == "unjudged" else None
        if quiet is not None:
            with self._lock:
                self._calls_of_quiet[quiet] += 1
            return
        frame = self._folders.user_frame(sys._getframe(1))
        file, line = ("", 0) if frame is None else (readable_path(frame.f_code.co_filename), frame.f_lineno)
        with self._lock:
            calls = self._calls if what == "unjudged" else self._hazards
            calls[name, file, line, "/".join(current_region())] += 1

    def answered(self, operator: str) -> str | None:
        """The name by which the user answers for an operator; None where nobody does."""
        without_overload = operator.rpartition(".")[0]
        forms = (operator, without_overload, operator.removeprefix("aten."), without_overload.removeprefix("aten."))
        return next((self._names[form] for form in forms if form in self._names), None)

    def by_name(self) -> dict[str, int]:
        """Calls so far by operator."""
        found: Counter[str] = Counter()
        for site in self.sites():
            found[site.operator] += site.count
        return dict(sorted(found.items()))

    def sites(self) -> tuple[UnjudgedSite, ...]:
        """The calls so far by operator, line and region, most frequent first."""
        return self._sites_of(self._calls)

    def hazards(self) -> tuple[UnjudgedSite, ...]:
        """The calls so far that may stall, likewise."""
        return self._sites_of(self._hazards)

    def _sites_of(self, calls: Counter[_Place]) -> tuple[UnjudgedSite, ...]:
        with self._lock:
            most_common = calls.most_common()
        return tuple(
            UnjudgedSite(operator=operator, file=file, line=line, region=region, count=count)
            for (operator, file, line, region), count in most_common
        )

    def quiet(self) -> tuple[QuietOperator, ...]:
        """The operators that the user answers for."""
        with self._lock:
            calls = dict(self._calls_of_quiet)
        return tuple(
            QuietOperator(name=name, reason=reason, calls=calls.get(name, 0)) for name, reason in self._reasons.items()
        )


@contextmanager
def keeping(
    ledger: Ledger, collector: SyncCollector, unjudged: UnjudgedCalls, simulated: SimulatedDevice | None
) -> Iterator[None]:
    """Tells ``ledger`` of each wait, and of what the simulated device remarks, until the end of the context."""
    book = _Book(ledger, unjudged, collector)
    ledger.set(ledger.slot({"device": collector.device}), os.getpid())
    collector.on_wait = (*collector.on_wait, book.wait)
    collector.tell_copies(ledger)
    if simulated is None:
        yield
        return
    with simulated.remarks_to(book.remark):
        yield


class _Book:
    def __init__(self, ledger: Ledger, unjudged: UnjudgedCalls, collector: SyncCollector) -> None:
        self._ledger = ledger
        self._instruction_of = collector.instruction_of
        self._unjudged = unjudged
        self._texts = Texts()
        self._of_waits: dict[int, int] = {}
        self._of_remarks: dict[tuple[str, str], int] = {}

    def wait(self, number: int, kind: Kind, place: Place) -> None:
        """One more wait; the first of its kind at its place makes the record."""
        slot = self._of_waits.get(number)
        if slot is None:
            record: dict[str, Any] = {"site": codec.to_json(site_of(kind, place, 1, (), self._texts))}
            instruction = self._instruction_of(number)
            if place.code is not None and instruction is not None:
                record["text"] = codec.to_json(CodePlace.of(place.code, instruction))
            slot = self._of_waits.setdefault(number, self._ledger.slot(record))
        self._ledger.add(slot)

    def remark(self, what: str, name: str) -> None:
        """One more remark, unless it is about an operator that the user answers for."""
        if what == "unjudged" and self._unjudged.answered(name) is not None:
            return
        slot = self._of_remarks.get((what, name))
        if slot is None:
            slot = self._of_remarks.setdefault((what, name), self._ledger.slot({what: name}))
        self._ledger.add(slot)


STAYS_ON = "torch's callbacks stay on in this process: allocations are slower from here, so time nothing in it"

REMARKS = ("hazards", "notes")
"""What a simulated device remarks besides waits and what it cannot judge: counters by name."""


class SyncWatch:
    """What a watch has seen so far; made by ``watch_host_syncs``."""

    def __init__(
        self,
        collector: SyncCollector,
        keeper: BudgetKeeper,
        unjudged: UnjudgedCalls,
        *,
        ledger: Ledger,
        simulated: SimulatedDevice | None,
        warnings: WarningCount | None,
        profiled: Profiled | None,
    ) -> None:
        self._collector = collector
        self._keeper = keeper
        self._unjudged = unjudged
        self._ledger = ledger
        self._use = ledger.slot({"used_device": True})
        self._used: bool | None = False
        self._simulated = simulated
        self._warnings = warnings
        self._profiled = profiled
        self._predicted: SyncReport | None = None
        self._lacks = torch_lacks.lacking("cuda") if simulated is None else simulated.lacks
        self._before = self._remarks()
        self._after: dict[str, Counter[str]] | None = None

    @property
    def host_syncs(self) -> int:
        """Waits so far, allowed ones included."""
        return self._collector.total()

    @property
    def sites(self) -> tuple[SyncSite, ...]:
        """The waits so far by line, most frequent first."""
        return self._collector.sites()

    @property
    def budgets(self) -> tuple[BudgetCheck, ...]:
        """How the budgets were kept so far."""
        return self._keeper.checks()

    @property
    def used_device(self) -> bool | None:
        """Whether anything ran on the device so far; on CUDA None where that cannot be told, or not yet."""
        return True if self._collector.total() else self._used

    def notice(self, used: bool | None) -> bool:
        """Takes note of a use of the device, or of not knowing."""
        self._used = used
        self._ledger.set(self._use, USES.index(used))
        return used is True

    def report(self, subject: str = "") -> SyncReport:
        """All that was seen; with time blocked and idle time caused once a profiled watch has ended."""
        if self._profiled is None or self._profiled.marked is None:
            return replace(self._counted_report(), subject=subject)
        if self._predicted is None:
            self._predicted = self._profiled.with_predicted_savings(self._counted_report(), self._collector.counted())
        return replace(self._predicted, subject=subject)

    def raise_over(self, limit: int) -> None:
        """From here on the waits after the first ``limit`` raise, as with ``on_wait``; the end checks nothing."""
        keeper = BudgetKeeper({WHOLE: limit}, counts_here=self._keeper.counts_here)
        keep_budgets(keeper, self._collector, "raise")

    def check_budgets(self) -> None:
        """Raises ``SyncBudgetExceeded`` for the first budget that was not kept, ``Inconclusive`` for open ones."""
        error = self._counted_report().budget_error() if self._keeper.limits else None
        if error is not None:
            raise error

    def _counted_report(self) -> SyncReport:
        counted = self._collector.counted()
        total = sum(each.count for each in counted)
        witnesses = self._witnesses(total + self._collector.num_elsewhere)
        return SyncReport(
            device=cast(SyncDevice, self._collector.device),
            host_syncs=total,
            unexplained=witnesses.num_disputed,
            sites=self._collector.sites_of(counted),
            witnesses=witnesses,
            budgets=self._keeper.checks(),
            unjudged={**dict.fromkeys(torch_versions.open_names(self._lacks), 1), **self._unjudged.by_name()},
            unjudged_sites=self._unjudged.sites(),
            hazard_sites=self._unjudged.hazards(),
            quiet_operators=self._unjudged.quiet(),
            hazards=self._since("hazards"),
            notes=self._notes(),
            untested=() if torch_versions.is_tested() else (f"torch {torch.__version__}",),
            used_device=self.used_device,
            processes=unwatched_processes(self._ledger.counts()),
            copies=self._collector.copies(),
        )

    def _notes(self) -> tuple[str, ...]:
        notes = [*torch_versions.notes(self._lacks), *notes_elsewhere(self._collector.num_elsewhere)]
        if self._simulated is not None:
            return (*notes, *(f"{note} ({calls} x)" for note, calls in self._since("notes").items()))
        notes += [STAYS_ON] if callbacks_stay_on() else []
        if self._warnings is not None and self._warnings.doubt:
            notes.append(f"no second witness: {self._warnings.doubt}")
        if self._profiled is not None and self._profiled.was_taken:
            notes.append(TAKEN)
        return tuple(notes)

    def end(self) -> None:
        """From here on nothing that the simulated device remarks belongs to the watch."""
        self._after = self._remarks()

    def _remarks(self) -> dict[str, Counter[str]]:
        return {name: Counter(getattr(self._simulated, name, ())) for name in REMARKS}

    def _since(self, name: str) -> dict[str, int]:
        """What the simulated device remarked while the watch was open, and how often."""
        after = self._remarks() if self._after is None else self._after
        return dict(sorted((after[name] - self._before[name]).items()))

    def _witnesses(self, total: int) -> Witnesses:
        if self._simulated is not None:
            return Witnesses(simulated=total)
        warnings = self._warnings
        if warnings is None or warnings.doubt:
            return Witnesses(callbacks=total)
        return Witnesses(callbacks=total, debug_mode=warnings.total, blind=warnings.num_blind)

    def predicted_saving_ms(self, select: Callable[[SyncSite], bool]) -> tuple[float, float] | None:
        """What the profiled run would have saved without the waits of some sites together, in ms."""
        if self._profiled is None:
            return None
        return self._profiled.predicted_saving_ms(
            [each.number for each in self._collector.counted() if select(each.site())]
        )


@contextmanager
def watch_host_syncs(
    device: torch.device | str = "cuda",
    *,
    budgets: Mapping[str, int] | None = None,
    profile: bool = False,
    debug_mode: bool = True,
    keep_trace: Path | None = None,
    quiet_ops: Mapping[str, str] | None = None,
    ledger: Ledger | None = None,
    keeper: BudgetKeeper | None = None,
    on_wait: OnWait = "count",
    threads: Threads = "all",
) -> Iterator[SyncWatch]:
    """Watches until the end of the context; several may be open at once, one of them with ``profile``.

    ``device`` is a CUDA device, or that of an open ``SimulatedDevice``, on which ``profile`` and ``debug_mode`` mean
    nothing. ``budgets`` are host syncs per entry by the name of a region, ``""`` for the whole; at the end
    ``SyncBudgetExceeded`` is raised for the first that was not kept, ``Inconclusive`` where nobody can tell: nothing
    ran on the device, an operator cannot be judged, another process was started that may have waited. ``keep_trace`` is
    a file for the profile's trace, Kineto JSON, gzipped; ``ledger`` is told of all that is counted; ``keeper`` holds
    budgets that began before the watch. ``quiet_ops`` are operators that do not wait, with the reason why, where the
    simulated device cannot judge. With ``on_wait="raise"`` the first wait over budget raises, without budgets the first
    that is not allowed; see ``raising``. With ``threads="this"`` only the thread that opens the watch counts, with the
    backward passes that it starts; without ``profile``. Raises ValueError for a device that nobody waits for, a
    negative budget or an operator without a reason, RuntimeError where CUDA's callbacks do not fire.
    """
    counts_here = counting_on(threads, profile=profile)
    simulated = active_device()
    is_simulated = simulated is not None and simulated.owns(device)
    own = simulated if is_simulated else None
    told = ledger
    ledger = Ledger() if ledger is None else ledger
    keeper = keeper or BudgetKeeper(budgets_of(on_wait, budgets), told, counts_here)
    unjudged = UnjudgedCalls({} if quiet_ops is None else quiet_ops, counts_here)
    with ExitStack() as stack:
        stack.push(end_at_wait)
        # The profiler comes first and goes last, so that its own waits are not heard.
        profiled = stack.enter_context(profiling(keep_trace)) if profile and not is_simulated else None
        sinks = (keeper,) if profiled is None else (keeper, RecordFunctionSink())
        collector = stack.enter_context(count_host_syncs(device, *sinks))
        stack.enter_context(nvtx_ranges_as_regions)
        if simulated is not None and is_simulated:
            stack.enter_context(simulated.remarks_to(unjudged.hear))
        keep_budgets(keeper, collector, on_wait)
        if told is not None:
            stack.enter_context(keeping(told, collector, unjudged, own))
        wants_warnings = debug_mode and not is_simulated
        warnings = stack.enter_context(counting_sync_warnings()) if wants_warnings else None
        if profiled is not None:
            stack.enter_context(profiled.window(collector))
        watch = SyncWatch(
            collector, keeper, unjudged, ledger=ledger, simulated=own, warnings=warnings, profiled=profiled
        )
        stack.callback(watch.end)
        stack.enter_context(watching_processes(ledger))
        keeper.noticing = uses_of_simulated(simulated) if simulated is not None and is_simulated else uses_of_cuda()
        stack.enter_context(keeper.noticing(watch.notice))
        yield watch
    watch.check_budgets()
