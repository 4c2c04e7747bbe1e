"""Tries on a GPU whether a function can be recorded as a CUDA graph.

Under a capture no kernel runs, so what the function would have computed is not there afterwards, while what it does in
Python is done. So nobody's region is tried behind his back: a function is, whose program has what it needs already.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch

from bagel_perf.records.blockers import CAPTURED
from bagel_perf.simulated import active_device
from bagel_perf.syncs.captures import CaptureRefused, Recorder


def can_try(device: torch.device) -> bool:
    """Whether there is a GPU to try it on."""
    return device.type == "cuda" and active_device() is None and torch.cuda.is_available()


def try_capture(work: Callable[[], object], device: torch.device) -> str:
    """ "captured", or in one line what prevented it; ``work`` has to have run before.

    Its result is dropped. The states of random number generators are as before, and CUDA can be used as before.
    """
    with torch.random.fork_rng(devices=[device]), _host_generators_kept():
        try:
            Recorder(device, allows_copies=True).record(work)
        except CaptureRefused as refused:
            return _line(refused)
        except Exception as problem:  # of the program's own, under a capture
            return f"{type(problem).__name__}: {_line(problem)}"
    return CAPTURED


def _line(problem: BaseException) -> str:
    return (str(problem).splitlines() or [""])[0]


def host_generators() -> dict[str, Any]:
    """The states of Python's generator, and of numpy's where it is loaded, to be compared."""
    found: dict[str, Any] = {"Python's random": random.getstate()}
    numpy: Any = sys.modules.get("numpy.random")
    if numpy is not None:
        _, keys, *rest = numpy.get_state()
        found["numpy.random"] = keys.tobytes(), *rest
    return found


@contextmanager
def _host_generators_kept() -> Iterator[None]:
    python, numpy = random.getstate(), cast(Any, sys.modules.get("numpy.random"))
    state = None if numpy is None else numpy.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        if numpy is not None:
            numpy.set_state(state)


class Modes:
    """The modes of torch that a call runs under."""

    def __init__(self) -> None:
        self._grad, self._inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        self._autocast, self._dtype = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")

    @contextmanager
    def again(self) -> Iterator[None]:
        """Puts them back in force until the end of the context."""
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(self._inference))
            stack.enter_context(torch.set_grad_enabled(self._grad))
            stack.enter_context(torch.autocast("cuda", dtype=self._dtype, enabled=self._autocast))
            yield
