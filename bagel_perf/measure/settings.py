"""Holds settings of torch that decide bits or speed to what they were, and names the line that sets one.

The line is found by hearing the C functions that all ways of setting one end in. While somebody listens every call of
Python is slower, so it is for a program that is known to set one.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import Any

import numpy as np
import torch

from bagel_perf.measure.environment import SETTINGS, VARIABLES, numeric_settings
from bagel_perf.records.errors import EnvironmentUnfit
from bagel_perf.rules import torch_inner_names
from bagel_perf.syncs.frames import Folders, line_of

SETTERS = {setting: name.name for setting, name in torch_inner_names.SETTERS.items()}
"""By the names of ``numeric_settings``; what is set in the environment of the process has none."""


@contextmanager
def hearing_setters(settings: Collection[str]) -> Iterator[list[str]]:
    """Collects FILE:LINE of whatever sets one of the settings on this thread, until the end of the context."""
    places: list[str] = []
    names = {SETTERS[name] for name in settings if name in SETTERS}
    folders = Folders()

    def hear(frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call" and getattr(called, "__name__", "") in names:
            user = folders.caller_of(frame) or folders.user_frame(frame)
            if user is not None:
                places.append(line_of(user))

    before = sys.getprofile()
    sys.setprofile(hear)
    try:
        yield places
    finally:
        sys.setprofile(before)


def changes_since(before: Mapping[str, object]) -> dict[str, str]:
    """Each setting that is another now than in ``before``, which was ``numeric_settings()``; FROM to TO in words."""
    after = numeric_settings()
    return {name: f"{value} to {after[name]}" for name, value in before.items() if after[name] != value}


def changes_text(changes: Mapping[str, str]) -> str:
    """The changes on one line."""
    return ", ".join(f"{name} from {change}" for name, change in changes.items())


def settings_changed(changes: str) -> EnvironmentUnfit:
    """The error of a run that changed settings on the way."""
    remedy = "runs before and after it are not alike; find what sets it, and set it before all"
    return EnvironmentUnfit("settings changed while variants were measured", value=changes, remedy=remedy)


@contextmanager
def unchanged_settings() -> Iterator[None]:
    """Raises EnvironmentUnfit at the end if a setting was changed."""
    before = numeric_settings()
    yield
    changes = changes_since(before)
    if changes:
        raise settings_changed(changes_text(changes))


class Watched:
    """Settings that were others than in the beginning when somebody looked, and the first line that ran so.

    Who looks at every operator sees those that are put back in time: with none between, they have decided nothing.
    """

    def __init__(self) -> None:
        self._asked = tuple(SETTINGS.items())
        self._before = self._now()
        self._variables = list(map(os.environ.get, VARIABLES))
        self._folders = Folders()
        self.changes: dict[str, str] = {}
        self.place = ""

    def _now(self) -> list[object]:
        return [ask() for _, ask in self._asked]

    def look(self) -> None:
        """Asks torch; the line is the innermost of the program."""
        now = self._now()
        if now != self._before:
            self._keep((name for name, _ in self._asked), self._before, now)
            self._blame(sys._getframe(1))

    def open(self, name: str) -> AbstractContextManager[object]:
        """As a sink of regions: asks for the variables of the process, too, which takes longer."""
        if self.compare():
            self._blame(sys._getframe(1))
        return nullcontext()

    def compare(self) -> bool:
        """Whether any is another now; without a line."""
        now, variables = self._now(), list(map(os.environ.get, VARIABLES))
        if now == self._before and variables == self._variables:
            return False
        self._keep((name for name, _ in self._asked), self._before, now)
        self._keep(VARIABLES, self._variables, variables)
        return True

    def _keep(self, names: Iterable[str], before: Sequence[object], after: Sequence[object]) -> None:
        for name, old, new in zip(names, before, after, strict=True):
            if old != new:
                self.changes.setdefault(name, f"{_text(old)} to {_text(new)}")

    def _blame(self, innermost: FrameType) -> None:
        if not self.place:
            frame = self._folders.caller_of(innermost)
            self.place = "" if frame is None else line_of(frame)


def _text(value: object) -> str:
    return "unset" if value is None else str(value)


def random_states() -> dict[str, object]:
    """The generators that nobody seeds here, by name: a run that draws from one depends on what ran before it.

    A draw from torch's own is an operator, which is counted by its line.
    """
    return {
        "seed of torch's default generator": torch.initial_seed(),
        "Python's generator": random.getstate(),
        "NumPy's generator": str(np.random.get_state()),
    }


def random_changes(before: Mapping[str, object]) -> dict[str, str]:
    """Each generator that was used since ``before``, which was ``random_states()``; as ``changes_since`` has it."""
    after = random_states()
    return {name: "as it was to another" for name, state in before.items() if after[name] != state}
