"""Watches one request under one variant: every host sync by line, and on CUDA its predicted saving.

The saving of the top site is put to the test by a mixture without its waits.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from msgspec.structs import replace

from bagel_perf.measure.counting import part_of
from bagel_perf.measure.stages import Subject, WallClock, run_stages, shuffled_rounds, time_stages, time_whole
from bagel_perf.records.bagel import COMPONENTS, parse_variant
from bagel_perf.records.errors import EnvironmentUnfit, Inconclusive, UsageError
from bagel_perf.records.events import EnvironmentEvent, Event, ProgressEvent, SyncsEvent
from bagel_perf.records.plans import Plan
from bagel_perf.records.sites import SyncSite
from bagel_perf.records.syncs import SavingCheck, SyncReport, Witnesses
from bagel_perf.simulated import SimulatedDevice
from bagel_perf.subjects.bagel.edit import edit_subject, request_inputs
from bagel_perf.subjects.bagel.loading import Loaded, bind, with_regions
from bagel_perf.subjects.bagel.model.bagel import Bagel
from bagel_perf.subjects.bagel.model.parameters import map_tensors
from bagel_perf.syncs import SyncBudgetExceeded, SyncWatch, watch_host_syncs
from bagel_perf.syncs.cost import SavingRange, measure_instrument, with_predicted_savings, without_instrument
from bagel_perf.verdicts.statistics import median_interval

DEFAULT_PAIRS = 12


def check_saving(watched: Watched, watch: SyncWatch, report: SyncReport) -> SyncReport:
    """Takes the waits of the top site's component out by a mixture, times both, and compares with the prediction."""
    top = _top_component(report, watched.variant)
    assert report.instrument is not None
    if top is None:
        note = "no predicted saving to test: no component of the best variant would remove the top sites"
        return replace(report, notes=(*report.notes, note))
    component, stage = top
    sites = [site for site in report.sites if _component_of(site) == component]
    predicted_saving_ms = watch.predicted_saving_ms(lambda site: _component_of(site) == component)
    predicted_ms = without_instrument(predicted_saving_ms, sum(site.count for site in sites), report.instrument)
    if predicted_ms is None:
        return report
    mixture = f"{watched.variant}+{component}"
    savings_ms = _savings_ms(watched, mixture, stage)
    measured_ms, measured_ci_ms = median_interval(savings_ms)
    check = SavingCheck(
        component=component,
        reference=watched.variant,
        mixture=mixture,
        stage=stage,
        num_pairs=len(savings_ms),
        predicted_ms=predicted_ms,
        measured_ms=measured_ms,
        measured_ci_ms=measured_ci_ms,
        agrees=overlap(predicted_ms, measured_ci_ms),
    )
    return replace(report, saving_check=check)


def overlap(predicted_ms: SavingRange, measured_ci_ms: SavingRange | None) -> bool | None:
    """Whether two intervals have a point in common; None where one of them is missing."""
    if measured_ci_ms is None:
        return None
    return predicted_ms[0] <= measured_ci_ms[1] and measured_ci_ms[0] <= predicted_ms[1]


def _top_component(report: SyncReport, variant: str) -> tuple[str, str] | None:
    """Component and stage of the site that caused most idle time and that a mixture can do without."""
    for site in report.sites:
        component = _component_of(site)
        if site.allowed is None and component in COMPONENTS and _can_mix(f"{variant}+{component}"):
            return component, site.region.split("/")[0]
    return None


def _can_mix(mixture: str) -> bool:
    try:
        parse_variant(mixture)
    except UsageError:
        return False
    return True


def _savings_ms(watched: Watched, mixture: str, stage: str) -> Sequence[float]:
    """Latency of the stage under the variant less that under the mixture, for pairs in random order."""
    clock = WallClock(device=watched.device)
    subjects = {variant: watched.bare_subject(variant) for variant in (watched.variant, mixture)}
    for subject in subjects.values():
        time_stages(subject, clock)  # warm-up
    latency_ms: dict[str, list[float]] = {variant: [] for variant in subjects}
    num_pairs = watched.plan.pairs or DEFAULT_PAIRS
    for _, variant in shuffled_rounds(tuple(subjects), num_pairs, watched.plan.order_seed):
        latency_ms[variant].append(time_stages(subjects[variant], clock).latency_ms[stage])
    return [a - b for a, b in zip(*latency_ms.values(), strict=True)]


def _component_of(site: SyncSite) -> str:
    return part_of(tuple(site.region.split("/")), COMPONENTS)


NUM_PLAIN_RUNS = 3
"""Runs without instruments, whose median wall time stands beside the profiled run's."""


class Watched:
    """A plan to watch, bound to its model."""

    def __init__(self, plan: Plan, loaded: Loaded, emit: Callable[[Event], None]) -> None:
        (self.request,), (self.variant,) = plan.requests, plan.variants
        self.plan = plan
        self.model = loaded.model
        self.device = loaded.model.device
        self._emit = emit
        self._done = 0
        directory = Path(plan.weights) if plan.weights else None
        self._inputs = request_inputs(self.request, loaded.model.config, directory, self.request.seed)

    @property
    def subject_name(self) -> str:
        return f"{self.variant} at {self.request.width}x{self.request.height}"

    def subject(self, variant: str, model: Bagel | None = None) -> Subject:
        """The request under a variant, with a region around each component, on the model or another copy of it."""
        return edit_subject(model or self.model, self._inputs, with_regions(bind(variant)))

    def bare_subject(self, variant: str) -> Subject:
        """The request under a variant as it is timed."""
        return edit_subject(self.model, self._inputs, bind(variant))

    def progress(self, text: str, total: int) -> None:
        """Announces the next of ``total`` steps."""
        self._emit(ProgressEvent(text=f"{self.subject_name}: {text}", done=self._done, total=total))
        self._done += 1


def run_syncs(plan: Plan, loaded: Loaded, emit: Callable[[Event], None]) -> None:
    """Watches a plan's request; sends one SyncsEvent."""
    emit(EnvironmentEvent(environment=loaded.environment, pairs=0, warmup=0))
    watched = Watched(plan, loaded, emit)
    report = _on_cuda(watched) if watched.device.type == "cuda" else _simulated(watched)
    emit(SyncsEvent(report=report))


def _simulated(watched: Watched) -> SyncReport:
    if watched.plan.check_saving or watched.plan.trace_path is not None:
        option = "--check-saving" if watched.plan.check_saving else "--keep-trace"
        raise EnvironmentUnfit("the simulated device takes no time", value=option, remedy="run it on a GPU")
    watched.progress("counting on the simulated device", 1)
    with SimulatedDevice() as device:
        subject = watched.subject(watched.variant, map_tensors(watched.model, device.wrap))
        with (
            suppress(SyncBudgetExceeded, Inconclusive),
            watch_host_syncs(device.device, budgets=watched.plan.budgets) as watch,
        ):
            run_stages(subject)
    return watch.report(watched.subject_name)


def _on_cuda(watched: Watched) -> SyncReport:
    """Counts in one run; then times plain runs, and profiles another, which has to give the same counts."""
    subject = watched.subject(watched.variant)
    total = 2 + 2 * watched.plan.profile + watched.plan.check_saving
    watched.progress("warm-up", total)
    run_stages(subject)
    watched.progress("counting host syncs", total)
    with (
        suppress(SyncBudgetExceeded, Inconclusive),
        watch_host_syncs(watched.device, budgets=watched.plan.budgets) as watch,
    ):
        run_stages(subject)
    counted = watch.report(watched.subject_name)
    if not watched.plan.profile:
        instrument = measure_instrument(watched.device, lambda: watch_host_syncs(watched.device))
        return replace(counted, instrument=instrument)
    return _profiled(watched, subject, counted, total)


def _profiled(watched: Watched, subject: Subject, counted: SyncReport, total: int) -> SyncReport:
    clock = WallClock(device=watched.device)
    watched.progress("timing without instruments", total)
    bare = watched.bare_subject(watched.variant)
    plain_ms = [time_whole(bare, clock).latency_ms["e2e"] for _ in range(NUM_PLAIN_RUNS)]
    watched.progress("profiling", total)
    keep = None if watched.plan.trace_path is None else Path(watched.plan.trace_path)
    with suppress(SyncBudgetExceeded, Inconclusive), _profiling(watched, keep) as watch:
        run_stages(subject)
    profiled = watch.report(watched.subject_name)
    instrument = replace(
        measure_instrument(watched.device, lambda: _profiling(watched)),
        plain_wall_ms=statistics.median(plain_ms),
        watched_wall_ms=profiled.profile.window_ms if profiled.profile else None,
    )
    report = replace(
        profiled,
        sites=with_predicted_savings(profiled.sites, instrument),
        budgets=counted.budgets,
        instrument=instrument,
        witnesses=replace(counted.witnesses, cupti=profiled.witnesses.cupti),
        unexplained=profiled.unexplained + counted.unexplained + _difference(profiled.witnesses, counted.witnesses),
    )
    if not watched.plan.check_saving:
        return report
    watched.progress("putting the top predicted saving to the test", total)
    return check_saving(watched, watch, report)


def _difference(profiled: Witnesses, counted: Witnesses) -> int:
    """Waits by which the callbacks of two passes differ: a count is the same on every run."""
    return abs((profiled.callbacks or 0) - (counted.callbacks or 0))


def _profiling(watched: Watched, keep_trace: Path | None = None) -> AbstractContextManager[SyncWatch]:
    return watch_host_syncs(watched.device, profile=True, debug_mode=False, keep_trace=keep_trace)
