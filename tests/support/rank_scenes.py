"""Made-up ranks of one program: each computes, then meets the others in an all-reduce; clocks are not synchronous."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kineto_files import new_file, write
from trace_scenes import Scene

STEP = 400
REDUCE = 20
"""Of the all-reduce itself, in us, once all have arrived."""


def rank_scene(computing: Sequence[int], last: Sequence[int], *, launched_late: int = 0, shift: int = 0) -> Scene:
    """Steps of a rank that computes for so many us each, and of others of which the last arrives after ``last`` us.

    The host launches the computing ``launched_late`` us after the begin of the step, which is then idle.
    """
    scene = Scene()
    for step, (own, others) in enumerate(zip(computing, last, strict=True)):
        at = shift + STEP * step
        begun, arrived = at + 10 + launched_late, at + 10 + launched_late + own
        scene.annotation(f"ProfilerStep#{step}", at, at + STEP - 1)
        scene.annotation("forward", at + 1, at + 40 + launched_late)
        scene.op("aten::mm", begun - 7, begun + 2)
        scene.kernel((begun - 6, begun - 2), (begun, arrived), name="gemm_kernel")
        end = max(arrived, at + 10 + others) + REDUCE
        scene.kernel((begun + 4, begun + 8), (arrived, end), stream=20, name="ncclDevKernel_AllReduce_Sum_f32")
    return scene


def rank_files(folder: Path, scenes: Sequence[Scene], name: str = "rank{}.pt.trace.json") -> list[Path]:
    """Each scene as the file of a rank."""
    return [write(folder / name.format(rank), new_file(scene)) for rank, scene in enumerate(scenes)]


def four_ranks() -> list[Scene]:
    """Rank 2 computes 200 us in the steady steps and the others 100; the first step has all alike."""
    lengths = [[100, 200, 200, 200] if rank == 2 else [100] * 4 for rank in range(4)]
    return [rank_scene(own, [100, 200, 200, 200], shift=1000 * rank) for rank, own in enumerate(lengths)]
