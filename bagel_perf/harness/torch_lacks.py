"""What of ``torch_names`` the torch that is installed lacks."""

from __future__ import annotations

from bagel_perf.harness import torch_names
from bagel_perf.harness.torch_versions import Side, TorchName, refuse_without


def all_names() -> tuple[TorchName, ...]:
    """Every name."""
    found: list[TorchName] = []
    for value in vars(torch_names).values():
        members = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,)
        found += [each for each in members if isinstance(each, TorchName)]
    return tuple(dict.fromkeys(found))


def lacking(side: Side) -> tuple[TorchName, ...]:
    """What is used on a side and what this torch has in no form."""
    return tuple(name for name in all_names() if side in name.sides and name.place() is None)


def require(side: Side) -> None:
    """Raises EnvironmentUnfit where this torch lacks a name without which nothing can be counted."""
    refuse_without(lacking(side))
