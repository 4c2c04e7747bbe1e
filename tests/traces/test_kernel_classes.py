"""Kernels fall into classes by the names that libraries give them, and are held to the floor of the same work."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from bagel_perf.records.results import Component, StageFloor
from bagel_perf.records.syncs import SyncReport
from bagel_perf.records.traces import KernelTime
from bagel_perf.traces.names import CLASSES, class_of, class_times

REPORTS = Path(__file__).resolve().parents[2] / "reports"


def component(name: str, flops: float | None, num_bytes: float | None, floor_ms: float) -> Component:
    return Component(name=name, flops=flops, bytes=num_bytes, floor_ms=floor_ms)


FLOORS = [
    StageFloor(
        case="256x256",
        stage=stage,
        components=(
            component("gen GEMMs", 1e12, 1e9, 2.0),
            component("attention", 4e11, None, 1.0),
            component("pointwise", None, 2e9, 1.0),
        ),
    )
    for stage in ("ar", "dit")
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nvjet_sm90_tst_192x192_64x4_2x1_v_bz_coopB_TNN", "GEMM"),
        ("ampere_bf16_s16816gemm_bf16_128x64_ldg8_relu_f2f_stages_64x4_tn", "GEMM"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128_4x1x1", "attention"),
        ("fmha_cutlassF_bf16_aligned_64x128_rf_sm80", "attention"),
        ("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x64", "convolution"),
        ("void cutlass__5x_cudnn::Kernel<cutlass_tensorop_bf16_s16816fprop_optimized_bf16>", "convolution"),
        ("void at::native::index_elementwise_kernel<128, 4>", "pointwise"),
        ("_silu_mul", "pointwise"),
    ],
)
def test_a_name_says_what_a_kernel_is(name: str, expected: str) -> None:
    assert class_of(name) == expected


def test_each_class_is_held_to_the_sum_of_its_components() -> None:
    kernels = [KernelTime(name=name, count=3, total_ms=ms) for name, ms in (("nvjet_a", 5.0), ("gemm_b", 3.0))]
    kernels += [KernelTime(name="flash_fwd", count=1, total_ms=4.0), KernelTime(name="add", count=9, total_ms=8.0)]
    gemm, attention, pointwise = class_times(kernels, FLOORS)
    assert (gemm.name, gemm.count, gemm.total_ms, gemm.floor_ms) == ("GEMM", 6, 8.0, 4.0)
    assert (gemm.times_floor, gemm.tflops, gemm.intensity) == (2.0, 250.0, 1000.0)
    assert (attention.intensity, attention.tbps, pointwise.tflops, pointwise.tbps) == (None, None, None, 0.5)


def test_without_a_floor_there_are_times_alone() -> None:
    (found,) = class_times([KernelTime(name="nvjet_a", count=1, total_ms=5.0)], [])
    assert (found.total_ms, found.floor_ms, found.times_floor, found.tflops) == (5.0, None, None, None)
    assert found.tbps is None


def test_of_a_recorded_run_every_kernel_counts_once_and_most_time_has_a_class_of_its_own() -> None:
    path = REPORTS / "timelines-h200" / "fused-1024.json.gz"
    report = SyncReport.from_json(json.loads(gzip.decompress(path.read_bytes())))
    assert report.profile is not None
    found = list(class_times(report.profile.kernels, []))
    total_ms = sum(kernel.total_ms for kernel in report.profile.kernels)
    assert sum(each.total_ms for each in found) == pytest.approx(total_ms)
    assert [each.name for each in found] == list(CLASSES)
    assert next(each for each in found if each.name == "pointwise").total_ms < 0.2 * total_ms
