"""Waits that a test makes when it likes: a source of them, and threads like those of autograd."""

from __future__ import annotations

import _thread
import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._utils import CallbackRegistry

from bagel_perf.records.sites import Kind

Listener = Callable[[Kind], None]


_CODE = """
def tell(listeners, kind="scalar_read"):
    for listener in listeners:
        listener(kind)

def fire(registry):
    registry.fire_callbacks("scalar_read")
    return True

def run(work, args, problems, done):
    try:
        work(*args)
    except BaseException as problem:
        problems.append(problem)
    finally:
        done.release()
"""


def _of_torch(name: str) -> Callable[..., None]:
    """A function of ``_CODE`` as if it lay in torch: who looks from a wait outwards meets no frame of this file."""
    names: dict[str, Any] = {}
    exec(compile(_CODE, str(Path(torch.__file__).parent / "autograd" / "made_up.py"), "exec"), names)
    function: Callable[..., None] = names[name]
    return function


class Source:
    """Tells its listeners of the waits that a test makes, and remembers who began and ended to listen.

    ``wait(kind)`` is a wait at the line that calls it.
    """

    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        self.log: list[str] = []
        self.wait: Callable[..., None] = partial(_of_torch("tell"), self.listeners)

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """As the sources of the harness."""
        self.listeners.append(listener)
        self.log.append("opened")
        try:
            yield
        finally:
            self.listeners.remove(listener)
            self.log.append("closed")

    def wait_in_torch(self, kind: Kind = "scalar_read") -> None:
        """One wait on a thread that has no frame but torch's."""
        in_raw_thread(self.wait, kind)


class Swallowing(Source):
    """As CUDA tells of waits: by torch's registry, which logs what a callback raises, called from C.

    ``wait()`` gives True, as the answer that was waited for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.registry: CallbackRegistry[[Kind]] = CallbackRegistry("waits of a test")
        self.registry.callback_list = self.listeners
        self.wait = ctypes.PYFUNCTYPE(ctypes.py_object)(partial(_of_torch("fire"), self.registry))


def in_raw_thread(work: Callable[..., object], *args: object) -> None:
    """Runs ``work`` on a thread that ``threading`` did not start, as autograd's are; raises what it raised."""
    problems: list[BaseException] = []
    done = _thread.allocate_lock()
    done.acquire()
    _thread.start_new_thread(_of_torch("run"), (work, args, problems, done))
    done.acquire()
    if problems:
        raise problems[0]


class Backward(torch.autograd.Function):
    """The identity, whose backward pass calls a function on the thread that runs it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, work: Callable[[], object]) -> Tensor:
        ctx.work = work
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.work()
        return gradient, None


def loss_with(work: Callable[[], object], x: Tensor | None = None) -> Tensor:
    """A loss (of ``x``) in whose backward pass ``work`` is called."""
    x = torch.ones(2, requires_grad=True) if x is None else x
    result: Tensor = Backward.apply(x, work)  # type: ignore[no-untyped-call]
    return result.sum()
