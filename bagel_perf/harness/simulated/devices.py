"""A stand-in for ``torch.device``, which knows that a number is a CUDA device: torch's own asks a driver first."""

from __future__ import annotations

from typing import Any, SupportsIndex

import torch

from bagel_perf.harness.simulated.patches import Patches

_Native: Any = torch.device


class _SameType(type):
    """Takes the stand-in for torch's own type: devices are instances of that one, also those made here."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _Native)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return subclass in (cls, _Native)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is _Native

    def __hash__(cls) -> int:
        return hash(_Native)

    def __getattr__(cls, name: str) -> Any:
        return getattr(_Native, name)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """A device of torch's own type."""
        given = args if args else tuple(kwargs.values())
        if len(given) == 1 and isinstance(given[0], SupportsIndex):
            return _Native("cuda", int(given[0]))
        return _Native(*args, **kwargs)


def patch_device_type(patches: Patches) -> None:
    """Replaces ``torch.device``; pickles name it as before."""
    names = {"__module__": "torch", "__qualname__": "device", "__doc__": _Native.__doc__}
    patches.add(torch, "device", _SameType("device", (), names))
