"""Keeps torch's modules on the path that they take when nobody looks.

``nn.TransformerEncoder`` and ``nn.MultiheadAttention`` leave their fused path as soon as a torch-function mode is on.
A mode that only listens must not change what runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

PLACE = (torch.overrides, "has_torch_function")
"""What to replace, owner and name."""


def ignoring(*own: type) -> Callable[[Iterable[Any]], bool]:
    """Stands for ``torch.overrides.has_torch_function``: whether other types or modes than ``own`` override calls."""
    plain = {Tensor, nn.Parameter, *own}
    disabled = torch._C._disabled_torch_function_impl

    def has_torch_function(arguments: Iterable[Any]) -> bool:
        if any(type(mode) not in plain for mode in torch.overrides._get_current_function_mode_stack()):
            return True
        others = (type(argument) for argument in arguments if type(argument) not in plain)
        return any(getattr(kind, "__torch_function__", disabled) is not disabled for kind in others)

    return has_torch_function
