"""A predicted saving is put to the test by a mixture: which component is out, what is timed, and what compared."""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import torch
from msgspec.structs import replace

from bagel_perf.measure.stages import Stage, Subject
from bagel_perf.records.bagel import Request
from bagel_perf.records.plans import Plan
from bagel_perf.records.sites import SyncSite
from bagel_perf.records.syncs import Instrument, SyncReport, Witnesses
from bagel_perf.subjects.bagel import syncs
from bagel_perf.subjects.bagel.syncs import Watched, check_saving
from bagel_perf.syncs import SyncWatch
from bagel_perf.syncs.cost import with_predicted_savings, without_instrument
from scripted_clock import ScriptedClock

FREE = Instrument(wait_us=0, call_us=0, plain_wait_us=0)
SLOW = Instrument(wait_us=10, call_us=1, plain_wait_us=4, plain_wall_ms=50, watched_wall_ms=100)


def site(region: str, lost_gpu_ms: float = 1.0, count: int = 100, allowed: str | None = None) -> SyncSite:
    return SyncSite(
        kind="scalar_read",
        file="a.py",
        line=1,
        function="f",
        region=region,
        count=count,
        lost_gpu_ms=lost_gpu_ms,
        allowed=allowed,
    )


def report_of(*sites: SyncSite, instrument: Instrument = FREE) -> SyncReport:
    total = sum(site.count for site in sites)
    return SyncReport(
        device="cuda",
        host_syncs=total,
        unexplained=0,
        sites=sites,
        witnesses=Witnesses(callbacks=total),
        instrument=instrument,
    )


@dataclass
class Watch:
    """Asked for the predicted saving of sites, gives a scripted one and remembers which sites were meant."""

    report: SyncReport
    saving_ms: tuple[float, float] | None
    asked: list[SyncSite] = field(default_factory=list)

    def predicted_saving_ms(self, select: Callable[[SyncSite], bool]) -> tuple[float, float] | None:
        self.asked = [each for each in self.report.sites if select(each)]
        return self.saving_ms


class Scripted:
    """A watched variant whose stages take scripted times: ``latency_ms`` by variant, run and stage."""

    def __init__(self, variant: str, latency_ms: dict[str, dict[str, float]], pairs: int | None = None) -> None:
        self.variant = variant
        self.device = torch.device("cpu")
        self.plan = Plan(kind="syncs", requests=(Request(width=64, height=64),), variants=(variant,), pairs=pairs)
        self.clock = ScriptedClock()
        self.runs: list[str] = []
        self._latency_ms = latency_ms

    def bare_subject(self, variant: str) -> Subject:
        def run(stage: str) -> Callable[[Any], None]:
            def advance(_: Any) -> None:
                if stage == "ar":
                    self.runs.append(variant)
                # The first run is slower: it is the warm-up.
                is_first = self.runs.count(variant) == 1
                self.clock.advance(self._latency_ms[variant][stage] + 1000 * is_first)

            return advance

        return Subject(stages=tuple(Stage(name=name, run=run(name)) for name in ("ar", "dit")))


def checked(
    scripted: Scripted,
    report: SyncReport,
    predicted_saving_ms: tuple[float, float] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[SyncReport, Watch]:
    monkeypatch.setattr(syncs, "WallClock", lambda device: scripted.clock)
    monkeypatch.setattr(gc, "collect", lambda: 0)  # most of the time that the tests would take
    watch = Watch(report, predicted_saving_ms)
    return check_saving(cast(Watched, scripted), cast(SyncWatch, watch), report), watch


TWO_STAGES = {"baseline": {"ar": 30.0, "dit": 50.0}, "baseline+merge_kv": {"ar": 20.0, "dit": 49.0}}


def test_the_component_of_the_top_site_is_taken_out_and_its_stage_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = Scripted("baseline", TWO_STAGES, pairs=6)
    inside = site("ar/merge_kv", 9.0), site("dit/denoise_loop/merge_kv", 2.0)
    report, watch = checked(scripted, report_of(*inside, site("ar/route_experts", 1.0)), (8.0, 12.0), monkeypatch)
    assert watch.asked == list(inside), "the mixture takes the component out wherever it is"
    check = report.saving_check
    assert check is not None
    assert (check.component, check.reference, check.mixture, check.stage) == (
        "merge_kv",
        "baseline",
        "baseline+merge_kv",
        "ar",
    )
    assert (check.num_pairs, check.predicted_ms) == (6, (8.0, 12.0))
    assert check.measured_ms == pytest.approx(10) and check.measured_ci_ms == pytest.approx((10, 10))
    assert check.agrees is True
    assert replace(report, saving_check=None) == watch.report


def test_both_are_warmed_up_and_timed_equally_often_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = Scripted("baseline", TWO_STAGES)
    checked(scripted, report_of(site("ar/merge_kv")), (1.0, 2.0), monkeypatch)
    warm, timed = scripted.runs[:2], scripted.runs[2:]
    both = {"baseline", "baseline+merge_kv"}
    assert set(warm) == both and len(timed) == 2 * syncs.DEFAULT_PAIRS
    assert all(set(pair) == both for pair in zip(timed[::2], timed[1::2], strict=True))
    assert len({tuple(pair) for pair in zip(timed[::2], timed[1::2], strict=True)}) == 2, "in both orders"


@pytest.mark.parametrize(
    ("predicted_saving_ms", "pairs", "agrees"),
    [((11.0, 12.0), 6, False), ((1.0, 9.0), 6, False), ((1.0, 12.0), 2, None)],
)
def test_a_predicted_saving_beside_what_was_measured_does_not_agree_and_few_pairs_say_nothing(
    monkeypatch: pytest.MonkeyPatch, predicted_saving_ms: tuple[float, float], pairs: int, agrees: bool | None
) -> None:
    report, _ = checked(
        Scripted("baseline", TWO_STAGES, pairs), report_of(site("ar/merge_kv")), predicted_saving_ms, monkeypatch
    )
    assert report.saving_check is not None
    assert (report.saving_check.agrees, report.saving_check.num_pairs) == (agrees, pairs)
    assert (report.saving_check.measured_ci_ms is None) == (pairs == 2)


def test_what_the_instruments_added_to_all_waits_of_the_component_is_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    sites = site("ar/merge_kv", count=300), site("dit/merge_kv", count=100), site("ar/step_input", count=5000)
    report, _ = checked(
        Scripted("baseline", TWO_STAGES, 6), report_of(*sites, instrument=SLOW), (20.0, 60.0), monkeypatch
    )
    assert report.saving_check is not None
    assert report.saving_check.predicted_ms == (20 - 400 * 10 / 1e3, 30)


@pytest.mark.parametrize(
    ("variant", "regions", "component"),
    [
        ("baseline", ["ar/route_experts", "ar/merge_kv"], "route_experts"),
        ("baseline", ["ar", "dit/step", "dit/denoise_loop/step/step_input"], "step_input"),
        ("baseline", ["dit/denoise_loop/route_experts/experts"], "route_experts"),
        ("baseline+route_experts", ["ar/route_experts", "ar/merge_kv"], "merge_kv"),
        ("sync_free-merge_kv", ["ar/route_experts", "ar/merge_kv"], "merge_kv"),
    ],
)
def test_the_first_site_counts_whose_component_a_mixture_can_do_without(
    monkeypatch: pytest.MonkeyPatch, variant: str, regions: Sequence[str], component: str
) -> None:
    times = {"ar": 1.0, "dit": 1.0}
    scripted = Scripted(variant, {variant: times, f"{variant}+{component}": times}, pairs=1)
    report, _ = checked(scripted, report_of(*map(site, regions)), (0.0, 0.0), monkeypatch)
    assert report.saving_check is not None and report.saving_check.component == component
    assert scripted.runs


def test_an_allowed_wait_is_not_put_to_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    sites = site("ar/route_experts", 9.0, allowed="meant"), site("ar/merge_kv", 1.0)
    report, _ = checked(Scripted("baseline", TWO_STAGES, 1), report_of(*sites), (0.0, 0.0), monkeypatch)
    assert report.saving_check is not None and report.saving_check.component == "merge_kv"


@pytest.mark.parametrize(
    ("variant", "regions"), [("baseline", []), ("baseline", ["ar", "dit/step"]), ("sync_free", ["ar/merge_kv"])]
)
def test_without_such_a_component_there_is_a_note_and_nothing_is_timed(
    monkeypatch: pytest.MonkeyPatch, variant: str, regions: Collection[str]
) -> None:
    scripted = Scripted(variant, {})
    report, watch = checked(scripted, report_of(*map(site, regions)), (1.0, 2.0), monkeypatch)
    assert report.saving_check is None and scripted.runs == []
    assert report.notes == ("no predicted saving to test: no component of the best variant would remove the top sites",)
    assert replace(report, notes=()) == watch.report


def test_where_no_predicted_saving_can_be_told_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = Scripted("baseline", TWO_STAGES)
    report, watch = checked(scripted, report_of(site("ar/merge_kv")), None, monkeypatch)
    assert report == watch.report and scripted.runs == []


@pytest.mark.parametrize(
    ("predicted_saving_ms", "instrument", "expected"),
    [
        # Instruments that seemed to make waits shorter add nothing.
        ((5.0, 9.0), Instrument(wait_us=-3, call_us=0, plain_wait_us=1), (5.0, 9.0)),
        # Without a plain run the upper bound stays.
        ((5.0, 9.0), Instrument(wait_us=2, call_us=0, plain_wait_us=1), (3.0, 9.0)),
        # A profiled run that was the faster one, by noise, raises no predicted saving.
        (
            (5.0, 9.0),
            Instrument(wait_us=0, call_us=0, plain_wait_us=1, plain_wall_ms=90, watched_wall_ms=80),
            (5.0, 9.0),
        ),
        # The upper bound may fall below the lower one, and then they change places.
        (
            (8.0, 9.0),
            Instrument(wait_us=0, call_us=0, plain_wait_us=1, plain_wall_ms=30, watched_wall_ms=90),
            (3.0, 8.0),
        ),
    ],
)
def test_a_predicted_saving_of_a_plain_run_lies_within_what_the_instruments_leave(
    predicted_saving_ms: tuple[float, float], instrument: Instrument, expected: tuple[float, float]
) -> None:
    assert without_instrument(predicted_saving_ms, 1000, instrument) == pytest.approx(expected)


def test_each_site_is_freed_of_what_was_added_to_its_own_waits() -> None:
    sites = [replace(site("ar", count=count), predicted_saving_ms=(20.0, 60.0)) for count in (100, 1000)]
    unpredicted = site("dit")
    found = with_predicted_savings([*sites, unpredicted], SLOW)
    assert [each.predicted_saving_ms for each in found] == [(19.0, 30.0), (10.0, 30.0), None]
    assert found[2] == unpredicted
