"""Knows which torch function each thread is in, and so what kind of wait it is that happens now.

CUDA's callback says that the host waits, not what for. The function and its arguments do: a bool index waits for its
size, a list index for its upload. Where no function is known (autograd's threads, code that a library calls from C++)
the kind is ``unknown`` until a profile names the operator.

An asynchronous copy that the driver stages makes no synchronizing call, so callbacks, warnings and CUPTI's waits know
nothing of it. Only its length tells, and that the queue, busy before the call, was empty after it; so it is timed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from bagel_perf.records.sites import Kind
from bagel_perf.rules import torch_lacks, torch_names
from bagel_perf.rules.calls import (
    as_index,
    index_of,
    kind_of_operator,
    kind_of_reads,
    num_read_scalars,
    num_scalars,
    read_by_index,
    staged_copy,
    takes_sizes,
    write_by_index,
)
from bagel_perf.rules.copies import MAY_BE_ASYNCHRONOUS, Copies, Sizes, asynchronous_copies, sizes_of
from bagel_perf.rules.operators import on_gpu
from bagel_perf.simulated.calls import name_of
from bagel_perf.syncs.regions import Shared

Tell = Callable[[], None]
TellCopy = Callable[[bool, int | None, bool], None]


class _StagingOfThread(threading.local):
    held_ms = 0.0


_staging = _StagingOfThread()


def take_held_ms() -> float:
    """How long the staged copy took that this thread has just been told of."""
    held_ms, _staging.held_ms = _staging.held_ms, 0.0
    return held_ms


def may_be_staged(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a torch function copies through memory of the driver's, while no graph is recorded."""
    if name not in ("copy_", "to", "cuda"):
        return False
    is_staged = staged_copy(name, args, kwargs, on_gpu, Tensor.is_pinned) is not None
    return is_staged and not torch.cuda.is_current_stream_capturing()


def run_timed(call: Callable[[], Any], tell: Tell) -> Any:
    """Makes a copy; calls ``tell`` where the host was held until what was queued before it was done."""
    queued = torch.cuda.Event()
    queued.record()
    was_busy = not queued.query()
    begun_s = time.perf_counter()
    result = call()
    held_ms = (time.perf_counter() - begun_s) * 1e3
    if was_busy and queued.query():
        _staging.held_ms = held_ms
        tell()
    return result


_hidden: Any = torch_names.DISABLE_TORCH_FUNCTION.find()


class _Call:
    """One torch function under way; ``num_waits`` counts those it made.

    ``plan`` is their kinds, ``sizes`` are their bytes, once asked for.
    """

    __slots__ = ("args", "func", "kwargs", "num_waits", "plan", "sizes")

    def __init__(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.func = func
        self.args = args
        self.kwargs = kwargs
        self.num_waits = 0
        self.plan: tuple[list[Kind], Kind] | None = None
        self.sizes: Sizes | None = None

    def next_kind(self) -> Kind:
        if self.plan is None:
            try:
                with _hidden():  # what is asked of the arguments is no call of the program
                    self.plan = kinds_of_call(self.func, self.args, self.kwargs)
            except Exception:  # arguments of a form that nobody foresaw: the wait is counted all the same
                self.plan = [], "unknown"
        leading, rest = self.plan
        kind = leading[self.num_waits] if self.num_waits < len(leading) else rest
        self.num_waits += 1
        return kind

    def last_bytes(self) -> int | None:
        """Of the wait whose kind was asked for last."""
        if self.sizes is None:
            try:
                with _hidden():
                    self.sizes = sizes_of(name_of(self.func), self.args, self.kwargs, on_gpu)
            except Exception:  # as above: the copy is counted, and its size is not known
                self.sizes = [], None
        leading, rest = self.sizes
        return leading[self.num_waits - 1] if self.num_waits <= len(leading) else rest


class _OfThread(threading.local):
    call: _Call | None = None


_of_thread = _OfThread()


class _CallLog(TorchFunctionMode):
    def __init__(self, tell_staged: Tell | None = None, tell_copy: TellCopy | None = None) -> None:
        super().__init__()
        self._tell_staged = tell_staged
        self._tell_copy = tell_copy

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.compiler.is_compiling():
            return func(*args, **kwargs)
        outer = _of_thread.call
        _of_thread.call = _Call(func, args, kwargs)
        try:
            if kwargs or len(args) > 2:
                name = name_of(func)
                if name in MAY_BE_ASYNCHRONOUS:
                    return self._copied(name, func, args, kwargs)
            return func(*args, **kwargs)
        finally:
            _of_thread.call = outer

    def _copied(self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Makes a call that may copy without waiting for it, and tells of that."""
        copies: Copies = [] if self._tell_copy is None else _asynchronous_copies(name, args, kwargs)
        held: list[None] = []
        if self._tell_staged is not None and may_be_staged(name, args, kwargs):
            result = run_timed(lambda: func(*args, **kwargs), lambda: held.append(None))
        else:
            result = func(*args, **kwargs)
        if held and self._tell_staged is not None:
            self._tell_staged()
        for direction, num_bytes in copies:
            if self._tell_copy is not None:
                self._tell_copy(direction == "download", num_bytes, bool(held))
        return result


def _asynchronous_copies(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Copies:
    """None while a graph is recorded, which copies when it is replayed."""
    try:
        found = asynchronous_copies(name, args, kwargs, on_gpu)
    except Exception:  # arguments of a form that torch refuses, or that nobody foresaw
        return []
    return [] if found and torch.cuda.is_current_stream_capturing() else found


_keeping_fast_paths = Shared(lambda: torch_lacks.kept_by(_CallLog))


@contextmanager
def logging_calls(tell_staged: Tell | None = None, tell_copy: TellCopy | None = None) -> Iterator[bool]:
    """Keeps track of this thread's torch functions until the end of the context; about 1 us a call.

    ``tell_staged`` is called where an asynchronous copy held the host until the queue was empty, ``tell_copy`` after
    each asynchronous copy: is it a download, its bytes, was the host held.

    Gives False, and does nothing, where torch.compile has compiled something: it would be compiled anew inside.
    """
    if _has_compiled():
        yield False
        return
    with _keeping_fast_paths, _CallLog(tell_staged, tell_copy):
        yield True


def _has_compiled() -> bool:
    return bool(torch_names.dynamo_counters().get("frames"))


def kind_of_wait() -> Kind:
    """The kind of a wait that happens now on this thread, which is not asked for by name."""
    call = _of_thread.call
    return "unknown" if call is None else call.next_kind()


def bytes_of_wait() -> int | None:
    """Bytes that the wait copies of which ``kind_of_wait`` told last; None where nobody knows."""
    call = _of_thread.call
    return None if call is None or not call.num_waits else call.last_bytes()


def operator_of_wait() -> str:
    """The function that this thread is in, by its full name where it is an operator; "" for none."""
    call = _of_thread.call
    return "" if call is None else name_of(call.func)


Plan = tuple[list[Kind], Kind]
"""Kinds of the first waits of a call in their order, and the kind of all further ones."""


def kinds_of_call(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    """The kinds of waits that a torch function makes with these arguments, by the rules."""
    name = name_of(func)
    planner = _PLANNERS.get(name)
    if planner is not None:
        return planner(args, kwargs)
    reads = [kind_of_reads(name)] * num_read_scalars(name, args, kwargs, on_gpu)
    kind = kind_of_operator(name)
    if kind is None:  # torch's own Python reads what stands for a number, or a library waits
        kind = reads[0] if reads else "tensor_as_size" if takes_sizes(name) else "unknown"
    return reads, kind


def _copy_kind(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    return [], "d2h_copy" if on_gpu(args[0]) else "pageable_upload"


def _copy_into_kind(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    return [], "pageable_upload" if on_gpu(args[0]) else "d2h_copy"


def _creation_kinds(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    data = args[0] if args else kwargs.get("data", kwargs.get("obj"))
    reads: list[Kind] = ["list_of_scalars"] * (0 if isinstance(data, Tensor) else num_scalars(data, on_gpu))
    return reads, "d2h_copy" if on_gpu(data) else "pageable_upload"


def _method_creation_kinds(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    return _creation_kinds(args[1:], kwargs)


def _where_kinds(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    """With one argument the number of True elements is read; a host scalar among three is uploaded."""
    return [], "nonzero" if len(args) + len(kwargs) == 1 else "pageable_upload"


def _get_kinds(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    return list(read_by_index(args[0], args[1], on_gpu)), "unknown"


def _set_kinds(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    tensor, index, value = args
    if not on_gpu(tensor):
        return ["scalar_read"] * index_of(index, on_gpu).num_reads, "d2h_copy"
    return list(write_by_index(tensor, index, value, on_gpu)), "pageable_upload"


def _put_kinds(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    indices = args[1] if len(args) > 1 else kwargs["indices"]
    values = args[2] if len(args) > 2 else kwargs["values"]
    return list(write_by_index(args[0], as_index(indices), values, on_gpu)), "unknown"


def _foreach_copy_kinds(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    """A wait for each pair that crosses."""
    sources = args[1] if len(args) > 1 else kwargs["src"]
    pairs = [pair for pair in zip(args[0], sources, strict=True) if on_gpu(pair[0]) != on_gpu(pair[1])]
    return ["pageable_upload" if on_gpu(target) else "d2h_copy" for target, _ in pairs], "unknown"


_PLANNERS: dict[str, Callable[[tuple[Any, ...], dict[str, Any]], Plan]] = {
    "__getitem__": _get_kinds,
    "__setitem__": _set_kinds,
    "index_put": _put_kinds,
    "index_put_": _put_kinds,
    "copy_": _copy_into_kind,
    "_foreach_copy_": _foreach_copy_kinds,
    "where": _where_kinds,
    "new_tensor": _method_creation_kinds,
    **dict.fromkeys(("to", "cpu", "cuda", "numpy", "type", "_to_copy"), _copy_kind),
    **dict.fromkeys(("tensor", "as_tensor", "asarray"), _creation_kinds),
}
