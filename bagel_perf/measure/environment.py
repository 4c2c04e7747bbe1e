"""Tells what a measurement ran on, as plain facts, and which device a plan asks for."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from bagel_perf.records.errors import EnvironmentUnfit
from bagel_perf.records.results import LINES_FILE, RESULT_FILE
from bagel_perf.records.runs import Environment
from bagel_perf.records.store import PICTURES

COMMIT_LENGTH = 7
SCHEMA_WITHIN = 200
"""Bytes."""


def environment_of(device: torch.device, code: Path) -> Environment:
    """Describes the machine, this process, and the checkout that the folder of the measured code is part of.

    What does not apply or could not be read is None.
    """
    on_cuda = device.type == "cuda"
    commit, dirty = git_revision(code)
    return Environment(
        device_kind="cuda" if on_cuda else "cpu",
        device_name=torch.cuda.get_device_name(device) if on_cuda else _cpu_name(),
        torch=torch.__version__,
        python=platform.python_version(),
        cuda=torch.version.cuda if on_cuda else None,
        cudnn=torch.backends.cudnn.version() if on_cuda else None,
        driver=_driver_version() if on_cuda else None,
        num_threads=torch.get_num_threads(),
        platform=f"{platform.system()} {platform.machine()}",
        commit=commit,
        dirty=dirty,
        host_cpu=_cpu_kind(),
    )


SETTINGS: dict[str, Callable[[], object]] = {
    "threads": torch.get_num_threads,
    "default dtype": torch.get_default_dtype,
    "float32 matmul precision": torch.get_float32_matmul_precision,
    "deterministic algorithms": torch.are_deterministic_algorithms_enabled,
    "cuDNN enabled": lambda: torch.backends.cudnn.enabled,
    "cuDNN benchmark": lambda: torch.backends.cudnn.benchmark,
    "cuDNN deterministic": lambda: torch.backends.cudnn.deterministic,
    "cuDNN TF32": lambda: torch.backends.cudnn.allow_tf32,
    "fp16 reduced precision reduction": lambda: torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
    "bf16 reduced precision reduction": lambda: torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
    "flash attention": torch.backends.cuda.flash_sdp_enabled,
    "efficient attention": torch.backends.cuda.mem_efficient_sdp_enabled,
    "math attention": torch.backends.cuda.math_sdp_enabled,
    "cuDNN attention": torch.backends.cuda.cudnn_sdp_enabled,
    "autocast on CUDA": lambda: torch.is_autocast_enabled("cuda"),
    "autocast on the CPU": lambda: torch.is_autocast_enabled("cpu"),
}
"""What a process tells torch that decides bits or speed, and how to ask: cheap enough to ask at every call."""
VARIABLES = (
    "CUDA_LAUNCH_BLOCKING",
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_ALLOC_CONF",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_BLAS_PREFER_CUBLASLT",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
)


def numeric_settings() -> dict[str, str]:
    """What this process has told torch that decides bits or speed, by name, and whether Python runs its asserts."""
    settings: dict[str, object] = {name: ask() for name, ask in SETTINGS.items()}
    settings |= {name: os.environ.get(name, "unset") for name in VARIABLES}
    settings["PYTHONOPTIMIZE"] = sys.flags.optimize
    return {name: str(value) for name, value in settings.items()}


def _cpu_name() -> str:
    name = _cpu_facts().get("model name")
    return f"{name} ({os.cpu_count()} cores)" if name else platform.processor() or "unknown CPU"


def _cpu_kind() -> str:
    """What decides which kernels a CPU takes, and so their last bit: its name alone may stand for several kinds."""
    facts = _cpu_facts()
    numbers = [f"{key} {facts[key]}" for key in ("cpu family", "model", "stepping") if key in facts]
    return ", ".join((torch.backends.cpu.get_cpu_capability(), *numbers))


def _cpu_facts() -> dict[str, str]:
    """Of the first core, as Linux lists them; empty where it does not."""
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def _driver_version() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.partition("\n")[0].strip() or None


def git_revision(directory: Path) -> tuple[str | None, bool | None]:
    """Short commit of the checkout that ``directory`` is part of, and whether it has uncommitted changes.

    Untracked folders of results are no changes, as measuring writes them. A directory that only lies in somebody else's
    checkout, as installed packages do, is not part of it. On a copy of the tree (on a GPU machine, say)
    ``BAGEL_PERF_COMMIT`` says what was copied, whatever checkout the copy lies in; without either the commit is None.
    """
    copied = os.environ.get("BAGEL_PERF_COMMIT")
    if copied:
        return copied[:COMMIT_LENGTH] if re.fullmatch("[0-9a-f]{40}", copied) else copied, None
    try:
        _git(directory, "ls-files", "--error-unmatch", ".")
        place = _git(directory, "rev-parse", "--show-toplevel", f"--short={COMMIT_LENGTH}", "HEAD")
        root, _, commit = place.rpartition("\n")
        return commit, _is_dirty(Path(root))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _is_dirty(root: Path) -> bool:
    """Whether anything of a checkout is changed, or untracked and not left there by a measurement."""
    entries = _git(root, "status", "--porcelain", "-z", "--no-renames").split("\0")
    return any(not (entry.startswith("?? ") and _is_left(root / entry[3:])) for entry in entries if entry)


def _is_left(path: Path) -> bool:
    """Whether measuring alone made a path: byte code, a result, or a folder of nothing else."""
    if path.is_symlink() or not path.is_dir():
        return False
    if path.name == "__pycache__" or path.name.startswith(PICTURES):
        return True
    inside = list(path.iterdir())
    if any(_is_ours(path / name) for name in (RESULT_FILE, LINES_FILE)):
        return not any(each.suffix == ".py" for each in inside)
    return all(map(_is_left, inside))


def _is_ours(file: Path) -> bool:
    """Whether a file is a result, or the lines of one that has not ended; both name their schema at the beginning."""
    try:
        with file.open("rb") as content:
            return b'"bagel-perf.' in content.read(SCHEMA_WITHIN)
    except OSError:
        return False


def _git(directory: Path, *arguments: str) -> str:
    command = ["git", "-C", str(directory), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()


def resolve_device(choice: str) -> torch.device:
    """The device of ``auto``, ``cuda`` or ``cpu``; EnvironmentUnfit where CUDA is asked for and absent."""
    available = torch.cuda.is_available()
    if choice == "cuda" and not available:
        raise EnvironmentUnfit(
            "no CUDA device is available",
            value=f"--device cuda, torch {torch.__version__}",
            allowed="this machine has a CPU only, or torch has no CUDA build",
            remedy="use --device cpu, or install a CUDA build of torch",
        )
    return torch.device("cuda" if choice != "cpu" and available else "cpu")
