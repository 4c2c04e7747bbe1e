"""The device that a plan asks for, and what can be said of it and of the code that runs there."""

from __future__ import annotations

from pathlib import Path

import torch

from bagel_perf.harness.environment import describe_machine, git_revision
from bagel_perf.schema.errors import EnvironmentUnfit
from bagel_perf.schema.runs import Environment


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


def environment_of(device: torch.device, code: Path) -> Environment:
    """Describes the machine, and the checkout that the folder of the measured code is part of."""
    commit, dirty = git_revision(code)
    return Environment(**describe_machine(device), commit=commit, dirty=dirty)
