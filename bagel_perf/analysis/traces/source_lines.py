"""The line of the program that a wait comes from, where stacks were recorded."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from bagel_perf.analysis.traces.columns import Numbering
from bagel_perf.analysis.traces.table import NONE, CallSite, Floats, Ints
from bagel_perf.analysis.traces.trace import Trace

_FRAME = re.compile(r"(?P<file>.+\.py)\((?P<line>\d+)\): (?P<function>.+)")
_CALLER = re.compile(r"(?P<file>.+\.py):(?P<line>\d+)")
_LIBRARY = re.compile(r"(.*/)?(torch|torchvision|triton|contextlib|functools|threading|runpy|concurrent)(/|\.py$)")


def lines_of(trace: Trace, moments_us: Floats, thread: Ints, call: Ints) -> tuple[Ints, tuple[CallSite, ...]]:
    """For each moment a number into the sites that are returned with it, NONE where the line is not known."""
    if len(trace.sites):
        return np.where(call == NONE, NONE, trace.calls.site[call]), trace.sites
    names, callers = trace.frames.name.tolist(), trace.frames.caller.tolist()
    numbers: Numbering[CallSite] = Numbering()
    levels = trace.frame_nest.enclosing(moments_us, thread)
    found = np.full(len(levels), NONE)
    for i, rows in enumerate(levels.tolist()):
        frames = (
            (trace.names[names[row]], trace.names[callers[row]] if callers[row] != NONE else "")
            for row in reversed(rows)
            if row != NONE
        )
        site = program_line(frames)
        if site is not None:
            found[i] = numbers[site]
    return found, tuple(numbers)


def program_line(frames: Iterable[tuple[str, str]]) -> CallSite | None:
    """The line of the program that runs, of frames with the line that called each, innermost first.

    Up to PyTorch 2.13 frames name the line at which a function begins, and that is all there is. Since 2.14 each also
    names the line that called it: what the program called last is on the line that runs.
    """
    line: re.Match[str] | None = None
    for frame, caller in frames:
        site = program_site(frame)
        if site is None:
            line = _CALLER.fullmatch(caller)
        elif line is not None and line["file"] == site.file:
            return CallSite(file=site.file, line=int(line["line"]), function=site.function)
        else:
            return site
    return None


def program_site(frame: str) -> CallSite | None:
    """The function that a frame of Kineto names, None if it is built in or a library's."""
    match = _FRAME.fullmatch(frame)
    if match is None or _LIBRARY.match(match["file"]):
        return None
    return CallSite(file=match["file"], line=int(match["line"]), function=match["function"])
