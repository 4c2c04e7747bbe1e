"""The third witness on CUDA: a profile of torch, in which each wait carries the number of the place that made it.

Right before a wait, the callback leaves an event with its place's number in the profile. That is what ties CUPTI's
record of the runtime call, with its begin and end, to a line of Python, without recording stacks.
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from msgspec.structs import replace
from torch.profiler import ProfilerActivity, profile, record_function

from bagel_perf.records.sites import Kind, SyncSite
from bagel_perf.records.syncs import SyncReport
from bagel_perf.rules import torch_names
from bagel_perf.syncs.sites import Counted, Place, SyncCollector
from bagel_perf.traces.analyse import MarkedTimes, MarkedTrace, report_of, shortened
from bagel_perf.traces.formats.reading import read_trace
from bagel_perf.traces.tables import MARKER_PREFIX, WINDOW_NAME
from bagel_perf.traces.trace import Trace

_marker: Any = torch_names.RECORD_FUNCTION_FAST.find()
NUM_PREDICTED = 12
"""Sites with a predicted saving, those that left the GPU idle most; each takes two replays of the whole profile."""

TAKEN = (
    "the program ran a profiler of torch's, which ended ours: no predicted savings; --no-profile leaves profiling to it"
)


class Profiled:
    """A profiled stretch; ``marked`` is what its trace says, once it has ended.

    There is one profiler in a process: ``was_taken`` says that the program began its own, so that there is no trace.
    """

    def __init__(self) -> None:
        self.marked: MarkedTrace | None = None
        self.was_taken = False

    @contextmanager
    def window(self, collector: SyncCollector) -> Iterator[None]:
        """The stretch to look at, in which each wait of the collector leaves its marker."""
        collector.on_wait = (*collector.on_wait, _mark)
        with record_function(WINDOW_NAME):
            yield

    def with_predicted_savings(self, report: SyncReport, counted: list[Counted]) -> SyncReport:
        """The report with the profile's times and the waits that only the profile saw; as it is while it goes on."""
        if self.marked is None:
            return report
        times = self.marked.times()
        sites = [_timed(each, times.get(each.number)) for each in counted]
        unseen = self.marked.unmarked_sites()
        num_lost_markers = len(self.marked.findings.waits.unmatched_markers)
        order = sorted(range(len(sites)), key=lambda i: -(sites[i].lost_gpu_ms or 0.0))
        for i in order[:NUM_PREDICTED]:
            if sites[i].kind == "staged_copy":
                continue
            sites[i] = replace(sites[i], predicted_saving_ms=self.marked.predicted_saving_ms({counted[i].number}))
        num_unseen = sum(site.count for site in unseen)
        found = [*sites, *unseen]
        ranks = sorted(range(len(found)), key=lambda i: -(found[i].lost_gpu_ms or 0.0))
        site_of_marker = {counted[i].number: rank for rank, i in enumerate(ranks) if i < len(counted)}
        return replace(
            report,
            host_syncs=report.host_syncs + num_unseen,
            unexplained=report.unexplained + num_unseen + num_lost_markers,
            sites=tuple(found[i] for i in ranks),
            witnesses=replace(report.witnesses, cupti=len(self.marked.findings.waits)),
            notes=(*report.notes, *self._notes(num_unseen, num_lost_markers)),
            profile=shortened(report_of(self.marked.findings, self.marked.savings, site_of_marker)),
        )

    def predicted_saving_ms(self, numbers: Collection[int]) -> tuple[float, float] | None:
        """What the profiled run would have saved without the waits of some ``Counted.number``."""
        return None if self.marked is None else self.marked.predicted_saving_ms(numbers)

    def _notes(self, num_unseen: int, num_lost_markers: int) -> Iterator[str]:
        assert self.marked is not None
        if num_unseen:
            yield f"{num_unseen} waits were seen by CUPTI alone: a library waits inside the operators named"
        if num_lost_markers:
            yield f"{num_lost_markers} waits that callbacks announced have no runtime call in the profile"


def _timed(counted: Counted, times: MarkedTimes | None) -> SyncSite:
    site = counted.site()
    if counted.kind == "staged_copy":
        return site
    if times is None:
        return replace(site, blocked_ms=0.0, lost_gpu_ms=0.0)
    kind = times.kind if site.kind == "unknown" else site.kind
    return replace(site, kind=kind, blocked_ms=times.blocked_ms, lost_gpu_ms=times.lost_gpu_ms)


@contextmanager
def profiling(keep_trace: Path | None = None) -> Iterator[Profiled]:
    """Profiles CPU and CUDA activity until the end of the context; what counts is inside ``Profiled.window``.

    ``keep_trace`` is where the trace is kept, gzipped.
    """
    profiled = Profiled()
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    profiler = profile(activities=activities, experimental_config=_config())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Profiler clears events.*")  # of cycles, and there is one
        profiler.start()
    try:
        with _noticing_another(profiled):
            yield profiled
    finally:
        if not profiled.was_taken:  # else torch may crash
            profiler.stop()
    if not profiled.was_taken:
        profiled.marked = MarkedTrace.of(_exported(profiler, keep_trace))


def _config() -> Any:
    """Waits in the trace, and those of all threads, where this version of torch knows how."""
    make = torch_names.EXPERIMENTAL_CONFIG.find()
    try:
        return make(enable_cuda_sync_events=True, profile_all_threads=True)
    except TypeError:
        return make(enable_cuda_sync_events=True)


@contextmanager
def _noticing_another(profiled: Profiled) -> Iterator[None]:
    """Notes whether a profiler is started meanwhile."""
    place = torch_names.ENABLE_PROFILER.place()
    if place is None:
        yield
        return
    original: Any = getattr(*place)

    def enable(*args: Any, **kwargs: Any) -> Any:
        profiled.was_taken = True
        return original(*args, **kwargs)

    with mock.patch.object(*place, enable):
        yield


def _exported(profiler: profile, keep_trace: Path | None) -> Trace:
    with tempfile.TemporaryDirectory(prefix="bagel_perf_") as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        if keep_trace is not None:
            with path.open("rb") as plain, gzip.open(keep_trace, "wb", compresslevel=6) as packed:
                shutil.copyfileobj(plain, packed)
        return read_trace(path)


def _mark(number: int, kind: Kind, place: Place) -> None:
    if kind == "staged_copy":  # it has no runtime call of a wait
        return
    with _marker(f"{MARKER_PREFIX}{number}"):
        pass
