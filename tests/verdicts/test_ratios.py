"""Rates against a floor and the share of a stage in which the GPU was busy follow from the records."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bagel_perf.records.results import Cell, Component, StageFloor
from bagel_perf.records.runs import DeviceWork
from bagel_perf.verdicts.compare import Session, build_result
from bagel_perf.verdicts.work import against_floor, busy_share
from scripted import ENVIRONMENT, make_outline, make_plan, make_runs

WORK = DeviceWork(launches=1, graph_launches=0, kernels=1, copies={}, busy_ms=50.0)


def cell() -> Cell:
    """A stage of 200 ms."""
    plan = make_plan()
    session = Session(
        command="bagel-perf", created="2026-11-26T00:00:00+00:00", pairs=5, warmup=1, order_seed=0, processes=5
    )
    return build_result(make_outline(plan), ENVIRONMENT, list(make_runs(plan)), session).cells[0]


def test_rates_are_those_of_the_floors_work_in_the_measured_time() -> None:
    parts = tuple(Component(name=name, flops=7e12, bytes=2e9, floor_ms=20.0) for name in ("a", "b"))
    against = against_floor(200.0, StageFloor(case="256x256", stage="ar", components=parts))
    assert (against.times_floor, against.tflops, against.gbps) == pytest.approx((5.0, 70.0, 20.0))


def test_a_gpu_is_busy_for_a_share_of_the_median() -> None:
    assert busy_share(replace(cell(), work=WORK)) == pytest.approx(0.25)


def test_without_a_profile_or_a_latency_there_is_no_share() -> None:
    assert busy_share(cell()) is None
    assert busy_share(replace(cell(), work=WORK, latency_ms=(), median_ms=None)) is None
