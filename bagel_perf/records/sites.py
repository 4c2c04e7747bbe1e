"""A place in the source where the host waits for the device, and the kinds of such waits.

The hint of a kind says what to write instead where nothing more is known; ``verdicts.hints`` looks closer.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from bagel_perf.records.errors import UsageError

Kind = Literal[
    "scalar_read",
    "tensor_as_size",
    "mask_gather",
    "mask_scatter",
    "nonzero",
    "list_of_scalars",
    "d2h_copy",
    "pageable_upload",
    "integer_index_write",
    "explicit_sync",
    "staged_copy",
    "unknown",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
HELD = "asynchronous copy into pageable memory, which holds the host until the queue is empty"
"""The hazard of which a clock would show a staged copy, whatever its size."""


class Hint(msgspec.Struct, frozen=True, kw_only=True):
    """How to be rid of a wait: an expression that waits, one that waits less or not, and why the second equals it.

    ``must_hold`` is what the program has to see to for that: always where a copy is asynchronous, which may be read or
    overwritten too early, and then gives another result without an error.
    """

    label: str
    waits: str
    instead: str
    why_equal: str
    must_hold: str = ""

    @property
    def advice(self) -> str:
        """What to write instead and what must hold, in one sentence."""
        return f"{self.instead} (if: {self.must_hold})" if self.must_hold else self.instead


HINTS: dict[Kind, Hint] = {
    "scalar_read": Hint(
        label="scalar read",
        waits="if t > limit: x = y    # also .item(), int(t), bool(t), max(t)",
        instead="x = torch.where(t > limit, y, x), or decide by a value the host already has",
        why_equal="the same comparison picks the same values; the device makes it when it gets there",
    ),
    "tensor_as_size": Hint(
        label="tensor as size",
        waits="x.new_zeros((lengths.sum(), n))",
        instead="x.new_zeros((sum(host_lengths), n)), with the lengths kept on the host as well",
        why_equal="both copies of the lengths come from the same ints, so the sizes are the same",
    ),
    "mask_gather": Hint(
        label="bool-mask gather",
        waits="x[mask]",
        instead="x[rows], with rows made once from host lengths; or slices where the rows are contiguous",
        why_equal="a mask picks its True rows in order; rows lists the same ones in the same order",
    ),
    "mask_scatter": Hint(
        label="bool-mask scatter",
        waits="x[mask] = y",
        instead="x[rows] = y with rows known on the host; or torch.where(mask, y_full, x)",
        why_equal="the same rows get the same values; where keeps the others bit for bit",
    ),
    "nonzero": Hint(
        label="nonzero or unique",
        waits="mask.nonzero(), torch.where(mask), x.unique()",
        instead="torch.nonzero_static(mask, size=n) or rows from host lengths; keep the mask where a mask will do",
        why_equal="with n the number of True elements it lists the same indices in the same order",
    ),
    "list_of_scalars": Hint(
        label="list of device scalars",
        waits="torch.tensor([t] * n, device=t.device)",
        instead="t.repeat(n), or torch.stack([a, b]) of different scalars",
        why_equal="the same bits are copied on the device instead of through the host",
    ),
    "d2h_copy": Hint(
        label="device-to-host copy",
        waits="t.cpu(), t.tolist()",
        instead="one copy of all results, torch.stack(results).cpu(); or, with other work before it is read, "
        'h = t.to("cpu", non_blocking=True); event.record(); ...; event.synchronize()',
        why_equal="the same bytes arrive; the event says when",
        must_hold="h is read only after event.synchronize(), and no other stream writes to t before",
    ),
    "pageable_upload": Hint(
        label="pageable upload",
        waits="torch.tensor(data, device=d), host.to(d), x[[1, 2]]",
        instead="make it on the device (arange, full), or upload it once before the loop; or "
        "host.pin_memory().to(d, non_blocking=True)",
        why_equal="the same bytes are copied, queued like a kernel instead of waited for",
        must_hold="nobody writes to pinned memory before the copy is done (an event says so), and buffers are reused: "
        "allocating pinned memory anew may wait itself",
    ),
    "integer_index_write": Hint(
        label="integer index write",
        waits="p[3] = 7, x[rows] = 0.0",
        instead="p[3:4] = 7, x.index_fill_(0, rows, 0.0)",
        why_equal="a slice or index fill writes the same element, with the number as a kernel argument",
    ),
    "explicit_sync": Hint(
        label="explicit synchronization",
        waits="torch.cuda.synchronize(), stream.synchronize(), event.synchronize()",
        instead="stream.wait_event(event) where only the device has to wait; none where the next copy waits anyway",
        why_equal="streams keep the order of the work; the host needs no part in it",
    ),
    "staged_copy": Hint(
        label="staged copy",
        waits="pageable.copy_(x, non_blocking=True), pageable.to(d, non_blocking=True) of many MiB",
        instead="pinned.copy_(x, non_blocking=True), with pinned and dense memory that is allocated once",
        why_equal="the same bytes are copied, without the memory of the driver's in between",
        must_hold="event.synchronize() before the host reads the copy or writes over its source",
    ),
    "unknown": Hint(
        label="unknown",
        waits="a library or operator that waits inside",
        instead="look at the operator that the table names; a variant with a fixed output size often does not wait",
        why_equal="to be shown case by case: compare outputs bit for bit",
    ),
}


Phase = Literal["", "warm-up", "compilation", "autotuning", "capture"]
"""Of a run: "" is the steady state."""


class UnjudgedSite(msgspec.Struct, frozen=True, kw_only=True):
    """All calls of an operator that the simulated device cannot judge at one line in one region.

    ``file`` and ``line`` are those of the innermost frame outside torch, "" and 0 where none was on the stack.
    """

    operator: str
    file: str
    line: int
    region: str
    count: int


class QuietOperator(msgspec.Struct, frozen=True, kw_only=True):
    """An operator that the user declared not to wait, and why; ``calls`` says how often it ran."""

    name: str
    reason: str
    calls: int


class SyncSite(msgspec.Struct, frozen=True, kw_only=True):
    """All host syncs of one kind at one line in one region.

    ``file`` and ``line`` are those of the innermost frame outside torch, "" and 0 where none was on the stack;
    ``caller`` is the innermost frame outside installed packages, as FILE:LINE, where that is another one.
    ``expressions`` are the source texts that waited, ``op`` the operator inside which a library waits.
    ``blocked_ms`` is the host's time inside the waits, ``lost_gpu_ms`` the GPU's idle time that they caused; None where
    no profile was taken. ``predicted_saving_ms`` is what the program would save without the waits: at least, if they
    alone went, and at most, if what only computes their answers went too; None where it was not asked or cannot be
    told. ``allowed`` is the reason that ``allow_sync`` gave. ``around`` are words for what is around the expressions in
    their function: ``loop``; ``stop`` where it decides the end of a loop or function, ``check`` where an exception;
    ``log``, ``collect`` (into a list) and ``sum`` for where the value goes; ``count`` where only its length is used,
    ``truth`` where it is asked whether it is true, ``index`` where it waits for its index, ``update`` where it is
    written anew, as by ``+=``. ``is_setup`` says that the waits upload a model's parameters before it works; they count
    like others. ``process`` is the name of the process that waited, "" where no command was followed. ``device`` is the
    index of the CUDA device that is waited for, ``at_work_on`` that of the program's current one where
    ``torch.cuda.synchronize`` named another. ``library`` is what of torch waits instead of the program: ``nccl``,
    another backend of collectives, or ``torch.distributed``. ``phase`` is what the waits were part of besides the
    steady state: they are held to no budget.
    """

    kind: Kind
    file: str
    line: int
    function: str
    region: str
    count: int
    blocked_ms: float | None = None
    lost_gpu_ms: float | None = None
    predicted_saving_ms: tuple[float, float] | None = None
    allowed: str | None = None
    expressions: tuple[str, ...] = ()
    caller: str | None = None
    op: str | None = None
    around: tuple[str, ...] = ()
    is_setup: bool = False
    process: str = ""
    device: int | None = None
    at_work_on: int | None = None
    library: str | None = None
    phase: Phase = ""

    @property
    def is_excused(self) -> bool:
        """Whether no budget is spent by it: it is allowed, or not of the steady state."""
        return self.allowed is not None or bool(self.phase)

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError("a site waited at least once", value=self.count)
        if self.allowed is not None and not self.allowed.strip():
            raise UsageError("an allowed host sync has a reason", remedy='allow_sync("why it has to wait")')
