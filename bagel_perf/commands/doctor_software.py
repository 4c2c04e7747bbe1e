"""What ``doctor`` says of Python, torch, and what else is installed."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from bagel_perf.schema.diagnosis import Row, TorchFacts
from bagel_perf.schema.torch_releases import TESTED, is_tested, tested_text

PYTHONS = ((3, 11), (3, 12), (3, 13))
"""Those that pyproject.toml names."""
PACKAGES = (
    ("transformers", "bagel", "a checkpoint of BAGEL (--weights, verify), and examples/transformers_decode.py"),
    ("safetensors", "bagel", "a checkpoint of BAGEL (--weights, verify)"),
    ("diffusers", "examples", "examples/diffusers_cogvideox.py"),
)
"""(package, extra, what it is for)"""
PROGRAMS = (
    ("nsys", "Nsight Systems can record", "traces are those of torch.profiler; trace reads both", ""),
    ("git", "gate revision, and commits in results", "no gate revision; results name no commit", "install git"),
)
"""(program, what it gives, what its lack costs, remedy)"""


def python_row() -> Row:
    """The Python that runs this."""
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info[:2] in PYTHONS:
        return Row(what="Python", state="ok", found=found, means="one of those that are named as supported")
    names = ", ".join(f"{major}.{minor}" for major, minor in PYTHONS)
    return Row(what="Python", state="limited", found=found, means="not tested", remedy=f"take one of {names}")


def torch_row(facts: TorchFacts, *, has_gpu: bool) -> Row:
    """torch: whether it is there, for what it was built, and whether counts under it were tested."""
    what = "torch"
    if facts.version is None:
        means = "nothing can be measured; show, report, trace and gate result do without"
        remedy = "pip install 'bagel-perf[torch]'"
        return Row(what=what, state="missing", found="not installed", means=means, remedy=remedy, is_needed=True)
    build = f"CUDA {facts.cuda}" if facts.cuda else "no CUDA"
    found = f"{facts.version}, {build}"
    if has_gpu and not facts.cuda:
        remedy = "install a CUDA build, as those of PyPI are for Linux: pip install --force-reinstall torch"
        means = "the GPU of this machine is not used: latencies are the CPU's"
        return Row(what=what, state="limited", found=found, means=means, remedy=remedy, is_needed=True)
    if has_gpu and not facts.sees_gpu:
        means = f"torch sees no GPU{f' ({facts.problem})' if facts.problem else ''}: latencies are the CPU's"
        remedy = "look at nvidia-smi: the driver has to know the build's CUDA; unset CUDA_VISIBLE_DEVICES"
        return Row(what=what, state="limited", found=found, means=means, remedy=remedy, is_needed=True)
    if not is_tested(facts.version):
        means = f"counts may differ from a GPU's; tested: {tested_text()}"
        remedy = f"install a tested release, as torch=={TESTED[-1]}.0"
        return Row(what=what, state="limited", found=found, means=means, remedy=remedy)
    return Row(what=what, state="ok", found=found, means="a release under which counts were tested")


def triton_row(*, has_gpu: bool) -> Row:
    """Triton, which torch's CUDA builds bring along."""
    found = _version_of("triton")
    if found is not None:
        return Row(what="Triton", state="ok", found=found, means="the kernels of fused and close")
    means = "fused and close run without their kernels"
    if not has_gpu:
        return Row(what="Triton", state="missing", found="not installed", means=f"{means}, as they do on any CPU")
    remedy = "pip install triton"
    return Row(what="Triton", state="missing", found="not installed", means=means, remedy=remedy)


def package_rows() -> Iterator[Row]:
    """The packages of the extras."""
    for name, extra, purpose in PACKAGES:
        found = _version_of(name)
        if found is not None:
            yield Row(what=name, state="ok", found=found, means=purpose)
        else:
            remedy = f"pip install 'bagel-perf[{extra}]'"
            yield Row(
                what=name, state="missing", found="not installed", means=f"not without it: {purpose}", remedy=remedy
            )


def program_rows() -> Iterator[Row]:
    """The programs that are started or whose files are read."""
    for name, gives, cost, remedy in PROGRAMS:
        path = shutil.which(name)
        if path is not None:
            yield Row(what=name, state="ok", found=path, means=gives)
        else:
            yield Row(what=name, state="missing", found="not on PATH", means=cost, remedy=remedy)


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
