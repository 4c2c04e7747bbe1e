"""What a GPU did comes from the profiled run, and stands in a table where there was one."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bagel_perf.records.errors import UsageError
from bagel_perf.records.results import Result
from bagel_perf.records.runs import DeviceWork, ProfiledRun, StageWork
from bagel_perf.report.tables import result_tables
from bagel_perf.verdicts.compare import Session, build_result
from scripted import ENVIRONMENT, make_outline, make_plan, make_run, make_runs

AR = DeviceWork(launches=100, graph_launches=0, kernels=100, copies={"HtoD": 3}, busy_ms=50.0)
LOOP = DeviceWork(launches=42, graph_launches=14, kernels=900, copies={"DtoD": 28}, busy_ms=80.0)
DIT = DeviceWork(launches=60, graph_launches=14, kernels=950, copies={"DtoD": 30, "DtoH": 1}, busy_ms=90.0)
NUM_STEPS = 14


def result_with(*profiled: StageWork) -> Result:
    plan = make_plan(variants=("baseline", "captured"))
    run = replace(make_run(ProfiledRun, "captured", plan.requests[0]), measurements=profiled)
    runs = [*make_runs(plan), *([run] if profiled else [])]
    session = Session(
        command="bagel-perf", created="2026-11-26T00:00:00+00:00", pairs=5, warmup=1, order_seed=0, processes=5
    )
    return build_result(make_outline(plan), ENVIRONMENT, runs, session)


def profiled_result() -> Result:
    return result_with(
        StageWork(stage="ar", work=AR), StageWork(stage="dit", work=DIT, loop_work=LOOP, loop_steps=NUM_STEPS)
    )


def test_a_cell_counts_launches_of_its_stage_and_per_step() -> None:
    result = profiled_result()
    cells = {cell.stage: cell for cell in result.cells if cell.variant == "captured" and cell.case == "256x256"}
    assert {stage: cell.launches for stage, cell in cells.items()} == {"ar": 100, "dit": 60, "e2e": 160}
    assert cells["dit"].launches_per_step == 42 / NUM_STEPS
    assert cells["ar"].launches_per_step is None
    assert cells["e2e"].work is not None
    assert cells["e2e"].work.copies == {"DtoD": 30, "DtoH": 1, "HtoD": 3}
    assert Result.from_json(result.to_json()) == result


def test_the_table_has_a_row_per_profiled_stage() -> None:
    table = next(table for table in result_tables(profiled_result()) if table.title == "GPU work")
    assert [(row[1], row[3], row[5]) for row in table.rows] == [("AR", "100", "100"), ("DiT", "60", "950")]


def test_without_a_profile_there_is_no_table() -> None:
    assert "GPU work" not in [table.title for table in result_tables(result_with())]


def test_graph_launches_are_among_all() -> None:
    with pytest.raises(UsageError, match="are not among the launches"):
        replace(AR, graph_launches=101)
