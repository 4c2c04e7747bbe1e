"""Keeps torch's modules on the path that they take when nobody looks.

``nn.TransformerEncoder`` and ``nn.MultiheadAttention`` leave their fused path as soon as a torch-function mode is on.
A mode that only listens must not change what runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest import mock

from torch import Tensor, nn

from bagel_perf.harness import torch_names


def kept_by(*own: type) -> AbstractContextManager[object]:
    """A context in which torch's modules take no notice of modes and types of ours."""
    place = torch_names.HAS_TORCH_FUNCTION.place()
    return nullcontext() if place is None else mock.patch.object(*place, ignoring(*own))


def ignoring(*own: type) -> Callable[[Iterable[Any]], bool]:
    """Stands for ``torch_names.HAS_TORCH_FUNCTION``: whether other types or modes than ``own`` override calls."""
    plain = {Tensor, nn.Parameter, *own}
    disabled = torch_names.DISABLED_TORCH_FUNCTION.find()
    modes_now = torch_names.FUNCTION_MODES.find()

    def has_torch_function(arguments: Iterable[Any]) -> bool:
        if any(type(mode) not in plain for mode in modes_now()):
            return True
        others = (type(argument) for argument in arguments if type(argument) not in plain)
        return any(getattr(kind, "__torch_function__", disabled) is not disabled for kind in others)

    return has_torch_function
