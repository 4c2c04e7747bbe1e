"""Names of torch that no documentation promises: how they are looked up, and what is said where a version lacks one."""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import torch

from bagel_perf.records import torch_releases
from bagel_perf.records.errors import EnvironmentUnfit
from bagel_perf.records.torch_releases import TESTED, tested_text

Side = Literal["simulated", "cuda"]
Lack = Literal["all", "figures", "rest"]

_ABSENT: Any = object()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TorchName:
    """A name of torch by its ``paths``, one for each form in which a version has it.

    ``use`` says what it is for, ``cost`` what its lack costs: ``lack`` is "all" where nothing can be counted then,
    "figures" where counts may be wrong, "rest" else. ``stand_in`` is taken for it; one that ``is_added`` is put there
    where torch has none.
    """

    paths: tuple[str, ...]
    use: str
    cost: str
    lack: Lack
    sides: tuple[Side, ...]
    stand_in: Any = None
    is_added: bool = False

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.paths[0].rpartition(".")[2]

    def find(self) -> Any:
        """The object under the first path that this torch has; the stand-in where it has none of them."""
        place = self.place()
        return self.stand_in if place is None else getattr(*place)

    def place(self) -> tuple[Any, str] | None:
        """Owner and attribute under the first path that this torch has; None where it has none of them."""
        found = next((place for place in map(_place_at, self.paths) if place is not None), None)
        if found is None and self.is_added:
            owner, _, name = self.paths[0].rpartition(".")
            return (getattr(*place), name) if (place := _place_at(owner)) else None
        return found

    def __str__(self) -> str:
        return self.paths[0]


def _place_at(path: str) -> tuple[Any, str] | None:
    owner: Any = torch
    parts = path.split(".")
    for i in range(1, len(parts) - 1):
        owner = _member(owner, parts[i], ".".join(parts[: i + 1]))
    return None if _member(owner, parts[-1], path) is _ABSENT else (owner, parts[-1])


def _member(owner: Any, name: str, path: str) -> Any:
    """An attribute, or a module that nobody has imported yet."""
    found = getattr(owner, name, _ABSENT)
    if found is _ABSENT and isinstance(owner, ModuleType):
        try:
            return importlib.import_module(path)
        except ImportError:
            return _ABSENT
    return found


def refuse_without(names: Collection[TorchName]) -> None:
    """Raises EnvironmentUnfit for the first name without which nothing can be counted."""
    for name in names:
        if name.lack == "all":
            raise EnvironmentUnfit(
                f"torch {torch.__version__} has no {name}, {name.use}; without it nothing can be counted",
                allowed=f"tested with torch {', '.join(TESTED)}",
                remedy="install one of these",
            )


def is_tested() -> bool:
    """Whether the tests were run under this release of torch; builds between releases never are."""
    return torch_releases.is_tested(torch.__version__)


def release() -> tuple[int, int]:
    """Major and minor version of this torch; (0, 0) where it does not say so."""
    found = re.match(r"(\d+)\.(\d+)", torch.__version__)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def notes(lacks: Collection[TorchName]) -> Iterator[str]:
    """What a count has to say of this torch: that nobody tested it, and what it lacks."""
    if not is_tested():
        what = f"torch {torch.__version__} was not tested"
        yield f"{what}, so counts may differ from what a GPU does; tested: {tested_text()}"
    for name in lacks:
        yield f"torch {torch.__version__} has no {name}, {name.use}; what this costs: {name.cost}"


def open_names(lacks: Collection[TorchName]) -> tuple[str, ...]:
    """Those lacks that may make a count wrong, as a report names what it cannot judge."""
    return tuple(f"{name} (torch {torch.__version__} has none)" for name in lacks if name.lack == "figures")
