"""What a GPU did is counted from activities; on a GPU, from known launches."""

from __future__ import annotations

import pytest
import torch

from bagel_perf.measure.device_work import Activity, count_device_work, work_of
from bagel_perf.measure.stages import Stage, Subject
from bagel_perf.syncs.regions import region

CALLS = ("cudaLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch", "cudaStreamSynchronize", "cudaMemcpyAsync")


def test_launches_are_calls_and_a_replay_is_one() -> None:
    work = work_of([Activity(name, False, 0, 1) for name in CALLS])
    assert (work.launches, work.graph_launches, work.kernels, work.busy_ms) == (3, 1, 0, 0.0)


def test_copies_and_fills_are_no_kernels() -> None:
    names = ("Memcpy HtoD (Pageable -> Device)", "Memcpy DtoD (Device -> Device)", "Memset (Device)", "gemm", "gemm")
    work = work_of([Activity(name, True, 0, 1) for name in names])
    assert work.copies == {"DtoD": 1, "HtoD": 1, "fill": 1}
    assert work.kernels == 2


@pytest.mark.parametrize(
    ("spans", "busy_ms"),
    [([(0, 2), (5, 6)], 3.0), ([(0, 4), (1, 2)], 4.0), ([(2, 5), (0, 3)], 5.0), ([], 0.0)],
)
def test_time_counts_once_where_kernels_overlap(spans: list[tuple[int, int]], busy_ms: float) -> None:
    work = work_of([Activity("k", True, begin * 10**6, end * 10**6) for begin, end in spans])
    assert work.busy_ms == busy_ms


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_known_launches_fall_into_their_stage_and_region() -> None:
    x = torch.zeros(1024, device="cuda")

    def first(_: None) -> None:
        x.add_(1)

    def second(_: None) -> str:
        x.add_(1).mul_(2)
        with region("loop"):
            for _step in range(5):
                x.add_(1)
        x.mul_(2)
        return "output"

    subject = Subject(stages=(Stage(name="a", run=first), Stage(name="b", run=second)))
    for _ in range(2):
        worked = count_device_work(subject, inner="loop")
        assert worked.output == "output"
        assert {name: work.launches for name, work in worked.by_stage.items()} == {"a": 1, "b": 8}
        assert {name: work.kernels for name, work in worked.by_stage.items()} == {"a": 1, "b": 8}
        assert {name: work.launches for name, work in worked.inner_by_stage.items()} == {"b": 5}
        assert worked.by_stage["b"].busy_ms > 0
