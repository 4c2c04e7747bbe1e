"""BAGEL's requests, and their sizes where none are named: a CPU takes minutes for what a GPU does in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bagel_perf.schema.requests import Request, parse_resolution

ON_GPU = ((1024, 1024),)
ON_CPU = ((256, 256),)


def requests_of(resolutions: Sequence[str], device: str, **asked: Any) -> tuple[Request, ...]:
    """Gives one of each resolution, or of the size that the device is for; ``asked`` are other fields of a request."""
    sizes = tuple(map(parse_resolution, resolutions)) or default_sizes(device)
    return tuple(Request(width=width, height=height, **asked) for width, height in sizes)


def default_sizes(device: str) -> tuple[tuple[int, int], ...]:
    """Gives (width, height) of the default request on ``auto``, ``cuda`` or ``cpu``."""
    return ON_CPU if device == "cpu" or (device == "auto" and not has_gpu()) else ON_GPU


def has_gpu() -> bool:
    """Says whether the driver knows a GPU, without torch, which takes seconds to import."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount()) > 0
    except Exception:  # no library, no driver, no permission: for torch that is no GPU either
        return False
