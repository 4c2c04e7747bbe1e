"""Knows which torch function each thread is in, and so what kind of wait it is that happens now.

CUDA's callback says that the host waits, not what for. The function and its arguments do: a bool index waits for its
size, a list index for its upload. Where no function is known (autograd's threads, code that a library calls from C++)
the kind is ``unknown`` until a profile names the operator.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from bagel_perf.harness import fast_paths, torch_names
from bagel_perf.harness.shared import Shared
from bagel_perf.harness.simulated.calls import name_of
from bagel_perf.harness.simulated.verdicts import MASK_DTYPES, takes_sizes
from bagel_perf.schema.waits import Kind


class _Call:
    """One torch function under way; ``num_waits`` counts those it made, ``plan`` is their kinds, once asked for."""

    __slots__ = ("args", "func", "kwargs", "num_waits", "plan")

    def __init__(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.func = func
        self.args = args
        self.kwargs = kwargs
        self.num_waits = 0
        self.plan: tuple[list[Kind], Kind] | None = None

    def next_kind(self) -> Kind:
        if self.plan is None:
            try:
                self.plan = kinds_of_call(self.func, self.args, self.kwargs)
            except Exception:  # arguments of a form that nobody foresaw: the wait is counted all the same
                self.plan = [], "unknown"
        leading, rest = self.plan
        kind = leading[self.num_waits] if self.num_waits < len(leading) else rest
        self.num_waits += 1
        return kind


class _OfThread(threading.local):
    call: _Call | None = None


_of_thread = _OfThread()


class _CallLog(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.compiler.is_compiling():
            return func(*args, **kwargs)
        outer = _of_thread.call
        _of_thread.call = _Call(func, args, kwargs)
        try:
            return func(*args, **kwargs)
        finally:
            _of_thread.call = outer


_keeping_fast_paths = Shared(lambda: fast_paths.kept_by(_CallLog))


@contextmanager
def logging_calls() -> Iterator[None]:
    """Keeps track of this thread's torch functions until the end of the context; about 1 us a call.

    Does nothing where torch.compile has compiled something: it would be compiled anew inside.
    """
    if _has_compiled():
        yield
        return
    with _keeping_fast_paths, _CallLog():
        yield


def _has_compiled() -> bool:
    return bool(torch_names.dynamo_counters().get("frames"))


def kind_of_wait() -> Kind:
    """The kind of a wait that happens now on this thread, which is not asked for by name."""
    call = _of_thread.call
    return "unknown" if call is None else call.next_kind()


Plan = tuple[list[Kind], Kind]
"""Kinds of the first waits of a call in their order, and the kind of all further ones."""


def kinds_of_call(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    """The kinds of waits that a torch function makes with these arguments."""
    name = name_of(func)
    planner = _PLANNERS.get(name)
    if planner is not None:
        return planner(args, kwargs)
    return [], _KIND_BY_NAME.get(name, "tensor_as_size" if takes_sizes(name) else "unknown")


def _copy_kind(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    return [], "d2h_copy" if _on_device(args[0]) else "pageable_upload"


def _copy_into_kind(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    return [], "pageable_upload" if _on_device(args[0]) else "d2h_copy"


def _creation_kinds(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    data = args[0] if args else kwargs.get("data", kwargs.get("obj"))
    return ["list_of_scalars"] * _num_scalars(data), "d2h_copy" if _on_device(data) else "pageable_upload"


def _method_creation_kinds(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    return _creation_kinds(args[1:], kwargs)


def _num_scalars(data: Any) -> int:
    """Device scalars in nested sequences, each of which is read by itself."""
    if not isinstance(data, list | tuple):
        return 0
    return sum(_num_scalars(item) if isinstance(item, list | tuple) else _on_device(item) for item in data)


def _where_kinds(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    """With one argument the number of True elements is read; a host scalar among three is uploaded."""
    return [], "nonzero" if len(args) + len(kwargs) == 1 else "pageable_upload"


def _get_kinds(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    if not _on_device(args[0]):
        return [], "scalar_read"
    reads, uploads, _ = _index_parts(args[1])
    return [*["scalar_read"] * reads, *["pageable_upload"] * uploads], "mask_gather"  # type: ignore[list-item]


def _set_kinds(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
    if not _on_device(args[0]):
        return [], "d2h_copy"
    reads, uploads, masks = _index_parts(args[1])
    value = args[2]
    is_host = isinstance(value, Tensor) and not _on_device(value) and value.dim() > 0
    leading: list[Kind] = ["scalar_read"] * reads
    leading += ["pageable_upload"] * uploads
    # A number comes before the masks; through one mask alone it is filled in, and nothing waits.
    leading += ["integer_index_write"] * (masks > 0 and not isinstance(value, Tensor))
    leading += ["mask_scatter"] * masks
    return leading, "pageable_upload" if is_host else "integer_index_write"


def _index_parts(index: Any) -> tuple[int, int, int]:
    """Device scalars that an index reads, host indices that it uploads, and masks that it counts."""
    reads = uploads = masks = 0
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, slice):
            reads += sum(map(_on_device, (part.start, part.stop, part.step)))
        elif isinstance(part, Tensor):
            is_mask = part.dtype in MASK_DTYPES
            masks += is_mask and _on_device(part)
            reads += part.dim() == 0 and not is_mask and _on_device(part)
            uploads += part.dim() > 0 and not is_mask and not _on_device(part)
        elif isinstance(part, list | range):
            scalars = sum(map(_on_device, part))
            reads, uploads = reads + scalars, uploads + bool(part)
    return reads, uploads, masks


def _on_device(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_cuda


_READS = """
item __bool__ __int__ __float__ __index__ __complex__ is_nonzero _local_scalar_dense __format__ __contains__ equal
allclose assert_close masked_fill masked_fill_ index_fill_ __repr__ full new_full linspace histc normal step
"""
_COUNTS = """
nonzero argwhere unique unique_consecutive bincount one_hot repeat_interleave _unique2 to_sparse
"""

_KIND_BY_NAME: dict[str, Kind] = {
    **dict.fromkeys(_READS.split(), "scalar_read"),
    **dict.fromkeys(_COUNTS.split(), "nonzero"),
    "masked_select": "mask_gather",
    "combinations": "mask_gather",
    "index_put": "mask_scatter",
    "index_put_": "mask_scatter",
    "unravel_index": "pageable_upload",
    "tolist": "d2h_copy",
}

_PLANNERS: dict[str, Callable[[tuple[Any, ...], dict[str, Any]], Plan]] = {
    "__getitem__": _get_kinds,
    "__setitem__": _set_kinds,
    "copy_": _copy_into_kind,
    "where": _where_kinds,
    "new_tensor": _method_creation_kinds,
    **dict.fromkeys(("to", "cpu", "cuda", "numpy", "type", "_to_copy"), _copy_kind),
    **dict.fromkeys(("tensor", "as_tensor", "asarray"), _creation_kinds),
}
