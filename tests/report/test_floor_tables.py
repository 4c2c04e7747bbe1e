"""A floor stands in the tables with its parts, and each variant against it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bagel_perf.records.errors import UsageError
from bagel_perf.records.events import FloorsEvent, parse_event, to_line
from bagel_perf.records.results import Ceilings, Component, Result, StageFloor
from bagel_perf.report.tables import result_tables
from bagel_perf.verdicts.compare import Session, build_result
from scripted import ENVIRONMENT, make_outline, make_plan, make_runs

PARTS = (
    Component(name="gen GEMMs", flops=7e12, bytes=2e9, floor_ms=30.0),
    Component(name="pointwise", flops=None, bytes=4e9, floor_ms=10.0),
)
EVENT = FloorsEvent(
    ceilings=Ceilings(gemm_tflops=701.2, attention_tflops=512.0, copy_tbps=4.281, launch_us=5.04),
    floors=(StageFloor(case="256x256", stage="ar", components=PARTS),),
)


def result() -> Result:
    plan = make_plan()
    session = Session(
        command="bagel-perf", created="2026-11-26T00:00:00+00:00", pairs=5, warmup=1, order_seed=0, processes=5
    )
    built = build_result(make_outline(plan), ENVIRONMENT, list(make_runs(plan)), session)
    return replace(built, ceilings=EVENT.ceilings, floors=EVENT.floors)


def test_a_floor_is_the_sum_of_its_parts_at_the_measured_rates() -> None:
    table = next(table for table in result_tables(result()) if table.title == "Floors")
    assert [row[2:] for row in table.rows] == [
        ("gen GEMMs", "7.0", "2.0", "30.0"),
        ("pointwise", "-", "4.0", "10.0"),
        ("in all", "7.0", "6.0", "40.0"),
    ]
    assert all(f"{rate} TFLOP/s of {what}" in table.caption for rate, what in ((701, "GEMMs"), (512, "attention")))
    assert "4.28 TB/s of copies. A launch takes 5.0 us, which no floor holds." in table.caption


def test_each_variant_stands_against_the_floor_of_its_stage() -> None:
    table = next(table for table in result_tables(result()) if table.title == "Against the floor")
    first = table.rows[0]
    assert first[:3] == ("256x256", "AR", "baseline")
    assert first[3:] == ("200.0", "40.0", "5.00", "35", "30")
    assert {row[1] for row in table.rows} == {"AR"}


def test_floors_travel_and_are_kept() -> None:
    assert parse_event(to_line(EVENT)) == EVENT
    assert Result.from_json(result().to_json()) == result()


def test_without_ceilings_there_is_no_table() -> None:
    titles = [table.title for table in result_tables(replace(result(), ceilings=None, floors=()))]
    assert "Floors" not in titles
    assert "Against the floor" not in titles


def test_a_floor_is_not_negative() -> None:
    with pytest.raises(UsageError, match="floor of PNG is negative"):
        Component(name="PNG", flops=0.0, bytes=0.0, floor_ms=-1.0)
