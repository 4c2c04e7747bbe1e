"""Whatever a trace holds, its idle time is split into parts that add up, and in the same way however it is written."""

from __future__ import annotations

import functools
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bagel_perf.records.traces import CAUSES
from bagel_perf.traces.analyse import analyse
from bagel_perf.traces.analyse import report_of as report_of_findings
from bagel_perf.traces.findings import Findings, examine
from bagel_perf.traces.formats.kineto import read_kineto
from bagel_perf.traces.replay import PredictedSavings
from bagel_perf.traces.tables import NONE
from bagel_perf.traces.times import region_times
from bagel_perf.traces.trace import Trace
from eventful_scenes import eventful_scene
from kineto_files import BASE_US, HEADER, Event, events
from trace_scenes import Scene, random_scene

MANY = settings(max_examples=45, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
FEWER = settings(MANY, max_examples=8)
MAKERS: dict[str, Callable[[int], Scene]] = {
    "eventful": lambda seed: eventful_scene(random.Random(seed)),
    "crossing": lambda seed: crossed(eventful_scene(random.Random(seed)), seed),
    "plain": random_scene,
}
STORIES = st.tuples(st.sampled_from(sorted(MAKERS)), st.integers(0, 14))
"""So few that the tests share what was found in them."""


def crossed(scene: Scene, seed: int) -> Scene:
    """The scene with annotations that end inside others, as ranges with a begin and an end of their own may."""
    rng, end = random.Random(seed), max(call.end for call in scene.calls) if scene.calls else 100
    for name in ("encode", "decode", "sample"):
        start = rng.randint(0, end)
        scene.annotation(name, start, start + rng.randint(1, end))
    return scene


def read(found: list[Event]) -> Trace:
    text = json.dumps({**HEADER, "traceEvents": found}).encode()
    return read_kineto(io.BytesIO(text).read, Path("scene.json"), len(text))


@functools.cache
def examined(story: tuple[str, int]) -> Findings:
    maker, seed = story
    return examine(read(events(MAKERS[maker](seed))))


def report_of(found: list[Event]) -> dict[str, Any]:
    """Everything but what goes by the order of the file where figures are equal: whose lanes, which site first."""
    report = analyse(read(found)).to_json()
    del report["source"], report["lanes"]
    report["sites"].sort(key=json.dumps)
    rounded: dict[str, Any] = json.loads(json.dumps(report), parse_float=lambda text: round(float(text), 9))
    return rounded


@MANY
@given(STORIES)
def test_busy_and_idle_time_make_up_the_window(story: tuple[str, int]) -> None:
    findings = examined(story)
    busy = findings.idle.busy
    whole_us = findings.window.length_us * len(busy.devices)
    assert sum(busy.busy_us) + busy.gaps.length_us.sum() == pytest.approx(whole_us)
    assert sum(findings.idle.by_cause_us().values()) == pytest.approx(busy.gaps.length_us.sum())


@MANY
@given(STORIES)
def test_the_parts_of_a_gap_follow_each_other_and_fill_it(story: tuple[str, int]) -> None:
    idle = examined(story).idle
    parts, gaps = idle.parts, idle.gaps
    assert (parts.length_us > 0).all()
    assert np.array_equal(np.unique(parts.gap), np.arange(len(gaps)))
    is_first = np.concatenate([[True], np.diff(parts.gap) != 0])[: len(parts)]
    is_last = np.concatenate([is_first[1:], [True]])[: len(parts)]
    assert np.array_equal(parts.start_us[is_first], gaps.start_us)
    assert np.array_equal(parts.end_us[is_last], gaps.end_us)
    assert np.array_equal(parts.start_us[~is_first], parts.end_us[~is_last])


@MANY
@given(STORIES)
def test_what_waits_lost_is_the_time_in_them_and_after_them(story: tuple[str, int]) -> None:
    idle = examined(story).idle
    by_cause_us = idle.by_cause_us()
    lost_us = by_cause_us["host_sync"] + by_cause_us["after_sync"]
    assert idle.lost_by_wait_us.sum() == pytest.approx(lost_us)
    assert idle.lost_us().sum() == pytest.approx(lost_us)
    assert (idle.parts.wait[idle.parts.is_lost] != NONE).all()


@MANY
@given(STORIES)
def test_regions_that_do_not_contain_each_other_have_all_idle_time(story: tuple[str, int]) -> None:
    findings = examined(story)
    outer = [region for region in region_times(findings) if len(region.path) < 2]
    for cause, time_us in findings.idle.by_cause_us().items():
        assert sum(region.idle_by_cause_ms.get(cause, 0.0) for region in outer) == pytest.approx(time_us / 1e3)
    assert sum(region.gpu_idle_ms or 0.0 for region in outer) == pytest.approx(
        findings.idle.parts.length_us.sum() / 1e3
    )


@MANY
@given(STORIES)
def test_culprits_and_rows_of_gaps_have_all_of_it_as_well(story: tuple[str, int]) -> None:
    findings = examined(story)
    report = report_of_findings(findings, PredictedSavings(findings))
    if report.gpu_idle_ms is None:
        return
    assert set(report.idle_by_cause_ms) == set(CAUSES)
    for gap in report.gaps:
        assert sum(part.duration_ms for part in gap.parts) == pytest.approx(gap.duration_ms)
    if len(report.culprits) < 100:
        assert sum(each.idle_ms for each in report.culprits) == pytest.approx(report.gpu_idle_ms)


def shifted(found: list[Event], rng: random.Random) -> list[Event]:
    by_us = rng.choice((-BASE_US, 1, 12_345_678, 10**9))
    return [{**event, "ts": event["ts"] + by_us} for event in found]


def permuted(found: list[Event], rng: random.Random) -> list[Event]:
    return rng.sample(found, len(found))


def reversed_order(found: list[Event], rng: random.Random) -> list[Event]:
    return found[::-1]


@pytest.mark.parametrize("change", [shifted, permuted, reversed_order])
@FEWER
@given(STORIES)
def test_the_zero_of_the_clock_and_the_order_of_the_file_mean_nothing(
    change: Callable[[list[Event], random.Random], list[Event]], story: tuple[str, int]
) -> None:
    maker, seed = story
    found = events(MAKERS[maker](seed))
    assert report_of(change(found, random.Random(seed))) == report_of(found)
