"""Every record survives JSON, and what is wrong in a document is named by its place, its value and what is allowed."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bagel_perf.records import codec
from bagel_perf.records.errors import RunFailed, UsageError
from bagel_perf.records.events import ErrorEvent, Event, parse_event, to_line
from bagel_perf.records.gates import GateReport
from bagel_perf.records.plans import Plan
from bagel_perf.records.runs import (
    CountedRun,
    CountedStage,
    DeviceWork,
    Output,
    ProfiledRun,
    Run,
    StageWork,
    TimedRun,
    TimedStage,
)
from scripted import make_plan, make_runs

OUTPUT = Output(kind="tensor", md5="a", sha256="b", contexts_print=(1.0, 2.0))
TIMED = codec.to_json(next(run for run in make_runs(make_plan()) if isinstance(run, TimedRun)))
COUNTED = codec.to_json(next(run for run in make_runs(make_plan()) if isinstance(run, CountedRun)))

names = st.text(max_size=5)
counts = st.integers(0, 2**70)
numbers = st.floats(allow_nan=False, allow_infinity=False)
outputs = st.builds(Output, md5=names, spread=st.none() | numbers, contexts_print=st.lists(numbers).map(tuple))
works = st.builds(
    DeviceWork, launches=counts, graph_launches=st.just(0), copies=st.dictionaries(names, counts), busy_ms=numbers
)
common: dict[str, Any] = {"variant": names, "output": outputs, "num_differing": st.none(), "distance": st.none()}
runs: st.SearchStrategy[Run] = st.one_of(
    st.builds(
        TimedRun,
        measurements=st.tuples(st.builds(TimedStage, latency_ms=st.floats(1e-9, 1e300))),
        conditions=st.none(),
        **common,
    ),
    st.builds(
        CountedRun,
        measurements=st.tuples(st.builds(CountedStage, host_syncs=counts, syncs_by_component=st.none())),
        **common,
    ),
    st.builds(ProfiledRun, measurements=st.tuples(st.builds(StageWork, work=works, loop_work=works)), **common),
)


@given(run=runs)
@settings(max_examples=60)
def test_a_run_survives_json_pickle_and_copy(run: Run) -> None:
    assert codec.from_json(Run, json.loads(json.dumps(codec.to_json(run)))) == run
    assert pickle.loads(pickle.dumps(run)) == copy.deepcopy(run) == run


@given(values=st.lists(st.floats(), max_size=4).map(tuple), spread=st.none() | st.floats())
def test_what_is_not_finite_travels_as_null_and_comes_back_as_nan(values: tuple[float, ...], spread: float) -> None:
    """Where a number may be missing, null is missing."""
    output = msgspec.structs.replace(OUTPUT, contexts_print=values, spread=spread)
    data = json.loads(json.dumps(codec.to_json(output), allow_nan=False))
    back = codec.from_json(Output, data)
    assert list(map(repr, back.contexts_print)) == [repr(each if math.isfinite(each) else math.nan) for each in values]
    assert back.spread == (spread if spread is not None and math.isfinite(spread) else None)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": True}, ".runs[0].seed has a wrong value (True); it must be int"),
        ({"seed": 1.5}, ".runs[0].seed has a wrong value (1.5); it must be int"),
        ({"seed": "1"}, ".runs[0].seed has a wrong value ('1'); it must be int"),
        ({"variant": 1}, ".runs[0].variant has a wrong value (1); it must be str"),
        ({"distance": "far"}, ".runs[0].distance has a wrong value ('far'); it must be float"),
        ({"output": []}, ".runs[0].output has a wrong value ([]); it must be an object"),
        (
            {"output": {**TIMED["output"], "shape": {}}},
            ".runs[0].output.shape has a wrong value ({}); it must be a list",
        ),
        (
            {"output": {**TIMED["output"], "kind": "film"}},
            ".runs[0].output.kind has a wrong value ('film'); "
            "it must be one of bytes, nest, number, picture, tensor, text",
        ),
        (
            {"purpose": "fun"},
            ".runs[0].purpose has a wrong value ('fun'); "
            "it must be one of count, repeat, other_seed, profile, warmup, timed",
        ),
        ({"measurements": [{"stage": "ar"}]}, "key is missing (.runs[0].measurements[0].latency_ms)"),
        ({"measurements": [{"stage": "ar", "latency_ms": -1}]}, "latency of ar is not positive (-1.0)"),
        ({"measurements": [{"stage": "ar", "latency_ms": None}]}, "latency of ar is not positive (nan)"),
    ],
)
def test_what_is_wrong_is_named_by_place_and_value(changed: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        codec.from_json(tuple[Run, ...], [{**TIMED, **changed}], ".runs")
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["purpose", "seed", "output", "\ud800"])
def test_what_is_no_character_is_a_wrong_value_like_others(name: str) -> None:
    changed = {**TIMED, "variant": "x\udfff", name: "\ud800"}
    if name == "\ud800":
        assert codec.from_json(Run, changed) == codec.from_json(Run, {**TIMED, "variant": "x\ufffd"})
        return
    with pytest.raises(UsageError, match=f"^{name} has a wrong value \\('\ufffd'\\); it must be "):
        codec.from_json(Run, changed)


def test_of_a_mapping_the_key_is_left_open() -> None:
    with pytest.raises(
        UsageError, match=r"^measurements\[0\]\.syncs_by_component\[\.\.\.\] has a wrong value; it must be int$"
    ):
        codec.from_json(Run, {**COUNTED, "measurements": [{"stage": "ar", "syncs_by_component": {"x": "y"}}]})


def test_an_integer_is_a_number_and_unknown_keys_are_ignored() -> None:
    found = codec.from_json(TimedStage, {"stage": "ar", "latency_ms": 3, "color": "blue"})
    assert isinstance(found.latency_ms, float) and found == TimedStage(stage="ar", latency_ms=3.0)


def test_each_event_has_a_name_of_its_own_in_the_line() -> None:
    tags = [kind.__struct_config__.tag for kind in get_args(Event)]
    assert len(set(tags)) == len(tags)
    error = RunFailed("out of memory", value=3, remedy="take fewer")
    line = to_line(ErrorEvent(error=error))
    back = parse_event(line)
    assert json.loads(line)["event"] == "error" and isinstance(back, ErrorEvent) and str(back.error) == str(error)
    with pytest.raises(UsageError, match=r"^event has a wrong value \('party'\); it must be one of environment, "):
        parse_event('{"event": "party"}')


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        '{"event": "warning", "text": "a", "text": "b"}',
        '{"event": "progress", "text": "a", "done": NaN, "total": 1}',
    ],
)
def test_a_line_that_says_no_one_thing_is_no_event(line: str) -> None:
    with pytest.raises(UsageError, match=r"^line is no event \(.{1,80}\)$"):
        parse_event(line)


def test_a_side_of_any_number_of_digits_is_no_resolution() -> None:
    data = make_plan().to_json()
    data["requests"][0]["width"] = 10**400
    with pytest.raises(UsageError, match=r"^resolution is not possible .*; 1024 is the nearest to 10*$"):
        Plan.from_json(data)


def test_a_gated_cell_that_passes_without_an_interval_is_refused() -> None:
    limit = {"stage": "dit", "percent": 3.0}
    cell = {"case": "a", "stage": "dit", "variant": "b", "before_ms": 1, "after_ms": 1, "change": 0, "limit": limit}
    cell |= {"verdict": "pass", "reason": "", "num_pairs": 1, "num_processes": 1, "confidence": 0.95, "interval": None}
    report = {"schema": "bagel-perf.gate", "version": 1, "findings": [], "checks": [], "cells": [cell]}
    with pytest.raises(UsageError, match=r"^a verdict without an interval \(pass\); it must be inconclusive$"):
        GateReport.from_json(report)
    read = GateReport.from_json({**report, "cells": [{**cell, "verdict": "inconclusive"}]})
    assert read.cells[0].interval is None
