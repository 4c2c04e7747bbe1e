"""What recording took is told beside the latencies that it is in none of."""

from __future__ import annotations

from msgspec.structs import replace

from bagel_perf.records.runs import WarmupRun
from bagel_perf.report.summary import capture_lines
from bagel_perf.verdicts.compare import Session, build_result
from scripted import ENVIRONMENT, make_outline, make_plan, make_run, make_runs


def test_each_variant_and_shape_has_a_line() -> None:
    plan = make_plan(variants=("baseline", "captured"))
    recording = replace(make_run(WarmupRun, "captured", plan.requests[0]), captures_ms=(40.2, 11.0))
    session = Session(
        command="bagel-perf", created="2026-11-26T00:00:00+00:00", pairs=5, warmup=1, order_seed=0, processes=5
    )
    result = build_result(make_outline(plan), ENVIRONMENT, [recording, *make_runs(plan)], session)
    assert list(capture_lines(result)) == [
        "- captured at 256x256: 2 graphs were recorded in 51 ms, once a shape, which no latency holds"
    ]
