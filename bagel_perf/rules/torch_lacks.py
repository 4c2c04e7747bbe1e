"""What of ``torch_names`` and ``torch_inner_names`` the installed torch lacks, and what would change if somebody looks.

``nn.TransformerEncoder`` and ``nn.MultiheadAttention`` leave their fused path as soon as a torch-function mode is on. A
mode that only listens must not change what runs, so it keeps them on that path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest import mock

from torch import Tensor, nn

from bagel_perf.rules import torch_inner_names, torch_names
from bagel_perf.rules.torch_versions import Side, TorchName, refuse_without


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


def all_names() -> tuple[TorchName, ...]:
    """Every name."""
    found: list[TorchName] = []
    for value in (*vars(torch_names).values(), *vars(torch_inner_names).values()):
        members = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,)
        found += [each for each in members if isinstance(each, TorchName)]
    return tuple(dict.fromkeys(found))


def lacking(side: Side) -> tuple[TorchName, ...]:
    """What is used on a side and what this torch has in no form."""
    return tuple(name for name in all_names() if side in name.sides and name.place() is None)


def require(side: Side) -> None:
    """Raises EnvironmentUnfit where this torch lacks a name without which nothing can be counted."""
    refuse_without(lacking(side))
