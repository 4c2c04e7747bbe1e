"""Decides which asynchronous copies the driver stages, so that the host may be held inside ``cudaMemcpyAsync``.

Measured on an NVIDIA H200 that was busy for 20 ms (reports/staged-copies): a download into memory that is pageable, or
not dense, holds the host until the queue is empty, whatever its size; an upload from such memory does at 16 MiB, and
does not up to 1 MiB. No such copy makes a synchronizing call, so no witness tells of it: its length does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bagel_perf.harness.rules.operators import Args, Kwargs, OnDevice
from bagel_perf.schema.waits import HELD

UPLOAD = "asynchronous copy of pageable memory"
DOWNLOAD = HELD

IsPinned = Callable[[Tensor], bool]


def is_staged(host: Tensor, is_pinned: IsPinned) -> bool:
    """Whether a copy from or to a host tensor goes through memory of the driver's."""
    return not is_pinned(host) or not is_dense(host)


def is_dense(tensor: Tensor) -> bool:
    """Whether the elements lie side by side, in whatever order."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True


def staged_copy(name: str, args: Args, kwargs: Kwargs, on_device: OnDevice, is_pinned: IsPinned) -> str | None:
    """What a torch function copies that is staged, as a hazard is named; None where nothing is."""
    request = _asynchronous(name, args, kwargs)
    if request is None:
        return None
    source, target = request
    if isinstance(target, Tensor):
        if on_device(source) == on_device(target):
            return None
        host = target if on_device(source) else source
    elif on_device(source) or _is_host(target):  # ``.to("cpu")`` allocates pinned memory for itself
        return None
    else:
        host = source
    if not source.numel() or not is_staged(host, is_pinned):
        return None
    return DOWNLOAD if on_device(source) else UPLOAD


def _asynchronous(name: str, args: Args, kwargs: Kwargs) -> tuple[Tensor, Any] | None:
    """Source and target (a tensor, or where ``to`` and ``cuda`` were told to copy to) of an asynchronous copy."""
    if name == "copy_":
        source = args[1] if len(args) > 1 else kwargs.get("src", kwargs.get("other"))
        is_async = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
        return (source, args[0]) if is_async and isinstance(source, Tensor) else None
    if name not in ("to", "cuda", "_to_copy") or not _is_async(name, args, kwargs):
        return None
    places = [value for value in (*args[1:], *kwargs.values()) if isinstance(value, str | torch.device | Tensor)]
    return args[0], places[0] if places else ("cuda" if name == "cuda" else "cpu")


def _is_async(name: str, args: Args, kwargs: Kwargs) -> bool:
    """The flag comes after a device, or after a device and a type."""
    if "non_blocking" in kwargs:
        return bool(kwargs["non_blocking"])
    flags = [value for value in args[1:] if isinstance(value, bool)]
    return bool(flags and flags[0])


def _is_host(place: Any) -> bool:
    return not isinstance(place, Tensor) and torch.device(place).type != "cuda"
