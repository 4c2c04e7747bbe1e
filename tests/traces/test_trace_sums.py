"""Idle time adds up whatever a trace looks like, in all of it, in any window and by region."""

from __future__ import annotations

import numpy as np
import pytest

from bagel_perf.traces.findings import Findings
from bagel_perf.traces.times import region_times
from trace_scenes import random_scene
from trace_stories import findings_of

SEEDS = range(60)


def assert_adds_up(findings: Findings) -> None:
    """What has to hold whatever a trace looks like."""
    idle, window = findings.idle, findings.window
    gaps, parts, num_devices = idle.gaps, idle.parts, len(idle.busy.devices)
    by_cause_us = idle.by_cause_us()
    assert all(time_us >= 0 for time_us in by_cause_us.values())
    total_us = sum(idle.busy.busy_us) + sum(by_cause_us.values())
    assert total_us == pytest.approx(num_devices * window.length_us, abs=1e-6)
    lost_us = by_cause_us["host_sync"] + by_cause_us["after_sync"]
    assert idle.lost_by_wait_us.sum() == pytest.approx(lost_us, abs=1e-6)
    assert idle.lost_us().sum() == pytest.approx(lost_us, abs=1e-6)
    assert np.bincount(parts.gap, weights=parts.length_us, minlength=len(gaps)) == pytest.approx(gaps.length_us)
    assert (parts.length_us > 0).all()
    same = parts.gap[1:] == parts.gap[:-1]
    assert (parts.start_us[1:][same] == parts.end_us[:-1][same]).all()
    assert (idle.lost_by_wait_us >= 0).all()
    # No activity runs inside a gap of its device.
    works = findings.trace.activities
    for device in idle.busy.devices:
        mine = gaps.device == device
        starts, ends = gaps.start_us[mine], gaps.end_us[mine]
        assert (starts[1:] >= ends[:-1]).all()
        runs = works.device == device
        inside = (works.start_us[runs][:, None] < ends[None]) & (works.end_us[runs][:, None] > starts[None])
        assert not inside.any()


@pytest.mark.parametrize("seed", SEEDS)
def test_classes_add_up_to_all_idle_time_of_a_random_trace(seed: int) -> None:
    assert_adds_up(findings_of(random_scene(seed)))


@pytest.mark.parametrize("seed", SEEDS)
def test_they_add_up_in_any_window(seed: int) -> None:
    scene = random_scene(seed)
    end = max(work.end for work in scene.works) if scene.works else 10
    scene.annotation("bagel_perf.window", end // 3, end // 3 + max(end // 2, 1))
    assert_adds_up(findings_of(scene))


@pytest.mark.parametrize("seed", SEEDS)
def test_regions_without_nesting_add_up_to_the_totals(seed: int) -> None:
    scene = random_scene(seed)
    for start in range(0, 2000, 97):
        scene.annotation(f"part {start % 3}", start, start + 80)
    findings = findings_of(scene)
    if not findings.has_gpu:
        return
    rows = region_times(findings)
    idle = findings.idle
    assert sum(row.host_syncs or 0 for row in rows) == len(findings.waits)
    assert sum(row.launches or 0 for row in rows) == findings.launches.is_launch.sum()
    assert sum(row.gpu_busy_ms or 0 for row in rows) == pytest.approx(sum(idle.busy.busy_us) / 1e3)
    assert sum(row.gpu_idle_ms or 0 for row in rows) == pytest.approx(float(np.sum(idle.gaps.length_us)) / 1e3)
    assert sum(row.lost_gpu_ms or 0 for row in rows) == pytest.approx(float(idle.lost_by_wait_us.sum()) / 1e3)
