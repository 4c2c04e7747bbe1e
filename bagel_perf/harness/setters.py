"""Finds the line that sets a setting of torch, by hearing the C functions that all ways of setting it end in.

While somebody listens every call of Python is slower, so it is for a program that is known to set one.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from bagel_perf.harness import torch_inner_names
from bagel_perf.harness.syncs.frames import Folders, line_of

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
