"""Triton on the simulated device: kernels are refused by name and line, or run in its interpreter uncounted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

KERNELS = """
import torch, triton, triton.language as tl
from bagel_perf.simulated.cuda import SimulatedCuda

@triton.autotune(configs=[triton.Config({"BLOCK": b}) for b in (64, 128)], key=["n"])
@triton.heuristics({"EVEN": lambda a: a["n"] % a["BLOCK"] == 0})
@triton.jit
def tuned(x, n, BLOCK: tl.constexpr, EVEN: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + i, tl.load(x + i, mask=i < n) + 1, mask=i < n)

@triton.jit
def plain(x, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + i, tl.load(x + i, mask=i < n) + 1, mask=i < n)

@torch.library.triton_op("bagel_perf_triton::plain", mutates_args={"x"})
def operator(x: torch.Tensor) -> None:
    torch.library.wrap_triton(plain)[(1,)](x, 100, BLOCK=128)

def launches(x):
    yield "tuned", lambda: tuned[lambda meta: (triton.cdiv(100, meta["BLOCK"]),)](x, 100)
    yield "plain", lambda: plain[(1,)](x, 100, BLOCK=128)
    yield "plain", lambda: operator(x)
"""
REFUSED = """
with SimulatedCuda() as device:
    assert triton.runtime.driver.active.get_active_torch_device().type == "cuda"
    for (name, launch), line in zip(launches(torch.zeros(100, device="cuda")), (21, 22, 18)):
        try:
            launch()
        except RuntimeError as problem:
            text = str(problem)
            assert f"Triton kernel {name}, launched at" in text and f":{line}," in text, (line, text)
            assert "TRITON_INTERPRET=1" in text, text
        else:
            raise AssertionError("not refused")
    assert any("plain was refused" in note for note in device.notes), device.notes
assert "_active" in vars(triton.runtime.driver) and type(triton.runtime.driver._active).__module__[:6] != "bagel_"
"""
INTERPRETED = """
waits = []
with SimulatedCuda(waits.append) as device:
    x = torch.zeros(100, device="cuda")
    for number, (name, launch) in enumerate(launches(x), 1):
        launch()
        assert device.unwrap(x).tolist() == [float(number)] * 100
    assert waits == [] and not device.unjudged and not device.hazards
    assert any("interpreter" in note for note in device.notes)
"""


def run(script: Path, text: str, **environment: str) -> None:
    script.write_text(KERNELS.strip("\n") + "\n" + text)
    root = str(Path(__file__).parents[2])
    finished = subprocess.run(
        [sys.executable, str(script)],
        env={"PYTHONPATH": root, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr


def test_a_launch_is_refused_by_kernel_and_line(tmp_path: Path) -> None:
    run(tmp_path / "kernels.py", REFUSED)


def test_kernels_run_in_the_interpreter_and_its_copies_are_not_counted(tmp_path: Path) -> None:
    run(tmp_path / "kernels.py", INTERPRETED, TRITON_INTERPRET="1")
