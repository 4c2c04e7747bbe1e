"""The device that a plan asks for."""

from __future__ import annotations

import torch

from bagel_perf.schema.errors import EnvironmentUnfit


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
