"""Whatever sets a setting of torch is found with its line, by each way of setting it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from bagel_perf.measure.environment import numeric_settings
from bagel_perf.measure.settings import SETTERS, hearing_setters

WAYS: dict[str, Callable[[], Any]] = {
    "threads": lambda: torch.set_num_threads(torch.get_num_threads()),
    "default dtype": lambda: torch.set_default_dtype(torch.get_default_dtype()),
    "float32 matmul precision": lambda: torch.set_float32_matmul_precision(torch.get_float32_matmul_precision()),
    "deterministic algorithms": lambda: torch.use_deterministic_algorithms(False),
    "cuDNN benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark),
    "cuDNN deterministic": lambda: setattr(torch.backends.cudnn, "deterministic", torch.backends.cudnn.deterministic),
    "cuDNN TF32": lambda: setattr(torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32),
    "cuDNN enabled": lambda: setattr(torch.backends.cudnn, "enabled", torch.backends.cudnn.enabled),
    "fp16 reduced precision reduction": lambda: setattr(
        torch.backends.cuda.matmul,
        "allow_fp16_reduced_precision_reduction",
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
    ),
    "flash attention": lambda: torch.backends.cuda.enable_flash_sdp(torch.backends.cuda.flash_sdp_enabled()),
    "efficient attention": lambda: torch.backends.cuda.enable_mem_efficient_sdp(
        torch.backends.cuda.mem_efficient_sdp_enabled()
    ),
    "math attention": lambda: torch.backends.cuda.enable_math_sdp(torch.backends.cuda.math_sdp_enabled()),
    "cuDNN attention": lambda: torch.backends.cuda.enable_cudnn_sdp(torch.backends.cuda.cudnn_sdp_enabled()),
    "autocast on CUDA": lambda: torch.set_autocast_enabled("cuda", torch.is_autocast_enabled("cuda")),
    "autocast on the CPU": lambda: torch.set_autocast_enabled("cpu", torch.is_autocast_enabled("cpu")),
    "bf16 reduced precision reduction": lambda: setattr(
        torch.backends.cuda.matmul,
        "allow_bf16_reduced_precision_reduction",
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
    ),
}


@pytest.mark.parametrize("setting", WAYS)
def test_a_setter_is_heard_with_its_line(setting: str) -> None:
    with hearing_setters([setting]) as places:
        WAYS[setting]()
    line = WAYS[setting].__code__.co_firstlineno
    assert [place.rpartition(":")[0] for place in places] == ["tests/measure/test_setters.py"]
    assert line <= int(places[0].rpartition(":")[2]) <= line + 4


def test_every_setting_of_torch_has_a_setter() -> None:
    in_the_process = {name for name in numeric_settings() if not name.isupper()}
    assert set(SETTERS) == set(WAYS) == in_the_process


def test_other_setters_are_not_heard_and_nothing_listens_after() -> None:
    before = sys.getprofile()
    with hearing_setters(["cuDNN benchmark", "CUDA_LAUNCH_BLOCKING"]) as places:
        torch.set_num_threads(torch.get_num_threads())
    assert places == []
    assert sys.getprofile() is before
