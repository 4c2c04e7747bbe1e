"""Steps are found by the profiler's own, by an annotation, or by kernels that come again; the first ones warm up."""

from __future__ import annotations

import pytest

from bagel_perf.records.traces import Phase
from bagel_perf.traces.analyse import analyse
from bagel_perf.traces.regions import Steps
from trace_scenes import Scene
from trace_stories import findings_of, trace_of


def steps_of(scene: Scene) -> Steps:
    steps = findings_of(scene).steps
    assert steps is not None
    return steps


def looped(lengths: list[int], name: str = "", *, kernels: int = 4) -> Scene:
    """Steps of some lengths in us, each with kernels of different names, annotated if there is a name."""
    scene = Scene()
    begin = 0
    for step, length in enumerate(lengths):
        if name:
            scene.annotation(name.format(step), begin, begin + length - 10)
        for i in range(kernels):
            at = begin + 20 + i * (length - 40) // kernels
            scene.op("aten::mm", at, at + 8)
            scene.kernel((at + 1, at + 6), (at + 10, at + 15), name=f"kernel {i}")
        begin += length
    return scene


def phases_of(scene: Scene) -> dict[str, Phase]:
    return {phase.name: phase for phase in analyse(trace_of(scene)).phases}


@pytest.mark.parametrize("name", ["ProfilerStep#{}", "step {}", "denoise", "iteration_{}"])
def test_annotations_that_come_again_are_steps(name: str) -> None:
    steps = steps_of(looped([5000, 1000, 1000, 1000], name))
    assert (len(steps), steps.num_warm_up, steps.steady_us) == (4, 1, 5000.0)
    assert steps.found_by == name.split("#")[0].split("{")[0].strip(" _")


def test_leading_steps_that_take_longer_are_warm_up_too() -> None:
    assert steps_of(looped([9000, 4000, 2500, 1000, 1000, 1100, 1000], "ProfilerStep#{}")).num_warm_up == 3
    assert steps_of(looped([1000, 1000, 1000], "ProfilerStep#{}")).num_warm_up == 1, "the first one always"
    assert steps_of(looped([9000, 1000], "ProfilerStep#{}")).num_warm_up == 1


def test_kernels_that_come_again_are_steps_where_nothing_is_annotated() -> None:
    steps = steps_of(looped([3000, *[1000] * 6]))
    assert (len(steps), steps.num_warm_up, steps.found_by) == (7, 1, "the kernels that come again every 4")


@pytest.mark.parametrize(
    "scene",
    [
        looped([1000]),
        looped([1000, 1000], "request {}"),
        looped([1000, 1000, 1000], kernels=1),
    ],
    ids=["one step", "two requests", "one kernel"],
)
def test_what_comes_too_seldom_or_is_all_alike_is_no_step(scene: Scene) -> None:
    assert findings_of(scene).steps is None
    assert analyse(trace_of(scene)).phases == ()


def test_a_detail_of_the_window_is_no_step() -> None:
    scene = looped([100_000])
    for start in range(0, 3000, 1000):
        scene.annotation("norm", start, start + 100)
    assert findings_of(scene).steps is None


def test_phases_have_the_figures_of_their_own_time() -> None:
    scene = looped([5000, 1000, 1000, 1000], "ProfilerStep#{}")
    scene.wait("cudaDeviceSynchronize", 4950, 4960, row="Context Sync")
    phases = phases_of(scene)
    warm_up, steady = phases["warm-up"], phases["steady"]
    assert (warm_up.steps, warm_up.start_ms, warm_up.end_ms, warm_up.host_syncs, warm_up.launches) == (
        1,
        0.0,
        5.0,
        1,
        4,
    )
    assert (steady.steps, steady.start_ms, steady.step_ms, steady.host_syncs, steady.launches) == (3, 5.0, 0.99, 0, 12)
    for phase in (warm_up, steady):
        assert phase.gpu_busy_ms is not None and phase.gpu_idle_ms is not None
        assert phase.gpu_busy_ms + phase.gpu_idle_ms == pytest.approx(phase.end_ms - phase.start_ms)
        assert sum(phase.idle_by_cause_ms.values()) == pytest.approx(phase.gpu_idle_ms)
    assert (warm_up.gpu_busy_ms, steady.gpu_busy_ms) == pytest.approx((0.02, 0.06))
