"""What each hint says is true: its first expression waits, its second does not, and both give the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bagel_perf.harness.simulated.cuda import SimulatedCuda
from bagel_perf.harness.syncs import count_host_syncs
from bagel_perf.schema.waits import HINTS, KINDS, Kind
from sync_table_cases import Operands, operands, write

Pair = tuple[Callable[[Operands], object], Callable[[Operands], object]]


def read_later(o: Operands) -> Tensor:
    """Reading the copy is one wait for an event, for all results together; the copy itself is none."""
    return o.x.to("cpu", non_blocking=True)


def filled(o: Operands) -> Tensor:
    return o.x.index_fill_(0, o.ig, 0.0)


HOST_LENGTHS = (3, 9, 4)
ROWS = list(range(0, 32, 3))
"""Rows of the mask, known on the host."""

PAIRS: dict[Kind, list[Pair]] = {
    "scalar_read": [
        (
            lambda o: o.x if bool(o.t[0] > 0.5) else -o.x,
            lambda o: torch.where(o.t[0] > 0.5, o.x, -o.x),
        )
    ],
    "tensor_as_size": [(lambda o: o.x.new_zeros((o.q3.sum(), 8)), lambda o: o.x.new_zeros((sum(HOST_LENGTHS), 8)))],  # type: ignore[arg-type]
    "mask_gather": [(lambda o: o.x[o.m], lambda o: o.x[torch.arange(0, 32, 3, device=o.d)])],
    "mask_scatter": [
        (lambda o: write(o.x, o.m, o.y), lambda o: write(o.x, torch.arange(0, 32, 3, device=o.d), o.y)),
        (
            lambda o: write(o.x, o.m, torch.full((11, 8), 2.0, device=o.d)),
            lambda o: torch.where(o.m[:, None], torch.full((32, 8), 2.0, device=o.d), o.x),
        ),
    ],
    "nonzero": [(lambda o: o.m.nonzero(), lambda o: torch.nonzero_static(o.m, size=len(ROWS)))],
    "list_of_scalars": [
        (lambda o: torch.tensor([o.t[0]] * 5, device=o.d), lambda o: o.t[0].repeat(5)),
        (lambda o: torch.tensor([o.t[0], o.t[1]], device=o.d), lambda o: torch.stack([o.t[0], o.t[1]])),
    ],
    "d2h_copy": [(lambda o: o.x.cpu(), read_later)],
    "pageable_upload": [
        (lambda o: o.c.to(o.d), lambda o: o.c.pin_memory().to(o.d, non_blocking=True)),
        (lambda o: torch.tensor([1, 2], device=o.d), lambda o: torch.arange(1, 3, device=o.d)),
    ],
    "integer_index_write": [
        (lambda o: write(o.p, 3, 7), lambda o: write(o.p, slice(3, 4), 7)),
        (lambda o: write(o.x, o.ig, 0.0), filled),
    ],
}
CASES = [(kind, number) for kind, pairs in PAIRS.items() for number in range(len(pairs))]


def test_every_kind_has_a_hint_and_every_expression_is_put_to_the_test() -> None:
    assert set(HINTS) == set(KINDS)
    assert set(PAIRS) == set(KINDS) - {"explicit_sync", "unknown"}


def waits_and_value(run: Callable[[Operands], object]) -> tuple[int, Tensor]:
    o = operands(torch.device("cuda"))
    with count_host_syncs("cuda") as counter:
        value = run(o)
    assert isinstance(value, Tensor)
    torch.cuda.synchronize()
    return counter.total(), value.cpu()


def check(kind: Kind, number: int) -> None:
    waiting, instead = PAIRS[kind][number]
    num_waits, value = waits_and_value(waiting)
    num_waits_instead, value_instead = waits_and_value(instead)
    assert num_waits > 0 and num_waits_instead == 0
    assert value.dtype == value_instead.dtype and torch.equal(value, value_instead)


@pytest.mark.parametrize(("kind", "number"), CASES)
def test_a_hint_is_equal_and_does_not_wait_on_the_simulated_device(kind: Kind, number: int) -> None:
    with SimulatedCuda():
        check(kind, number)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("kind", "number"), CASES)
def test_a_hint_is_equal_and_does_not_wait_on_a_gpu(kind: Kind, number: int) -> None:
    check(kind, number)
