"""What each hint says is true: its first expression waits, its second does not, and both give the same."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from msgspec.structs import replace
from torch import Tensor

from bagel_perf.records.sites import HINTS, KINDS, Hint, Kind, SyncSite
from bagel_perf.simulated.cuda import SimulatedCuda
from bagel_perf.syncs import count_host_syncs
from bagel_perf.verdicts.hint_texts import PATTERN_HINTS
from bagel_perf.verdicts.hints import PATTERNS, hint_of, pattern_of
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
    # Whether a staged copy holds the host only a clock tells: test_staging_cuda.py.
    assert set(PAIRS) == set(KINDS) - {"explicit_sync", "staged_copy", "unknown"}


def in_steps(o: Operands, read: Callable[[Tensor], object]) -> list[object]:
    """What is read of the losses of some steps."""
    return [read(o.x[i].mean()) for i in range(4)]


def stopped(o: Operands, every: int) -> Tensor:
    """A loop in which each row counts up to its length and then stays as it is."""
    counts = torch.zeros_like(o.q3)
    for step in range(20):
        counts = torch.where(counts < o.q3, counts + 1, counts)
        if step % every == every - 1 and (counts >= o.q3).all():
            break
    return counts


def stopped_by_an_earlier_flag(o: Operands) -> Tensor:
    counts = torch.zeros_like(o.q3)
    flag, event = torch.zeros((), dtype=torch.bool).pin_memory(), torch.cuda.Event()
    for step in range(20):
        if step and event.query() and flag:
            break
        counts = torch.where(counts < o.q3, counts + 1, counts)
        flag.copy_((counts >= o.q3).all(), non_blocking=True)
        event.record()
    return counts


def checked(o: Operands, *, late: bool) -> Tensor:
    bad = torch.zeros((), dtype=torch.bool, device=o.d)
    for row in o.x[:4]:
        bad |= ~row.isfinite().all()
        if not late and bad:
            raise ValueError("not finite")
    if bad:
        raise ValueError("not finite")
    return o.x


def updated(o: Operands) -> Tensor:
    o.x[o.m] += 2.0
    return o.x


def bins(o: Operands) -> Tensor:
    return torch.zeros(7, dtype=torch.long, device=o.d).index_add_(0, o.p, torch.ones_like(o.p))


def distinct(o: Operands) -> Tensor:
    found = o.p.sort().values
    return (found[1:] != found[:-1]).sum() + 1


def timed(o: Operands, *, each: bool) -> Tensor:
    for _ in range(3):
        o.x.add_(1.0)
        if each:
            torch.cuda.synchronize()
    torch.cuda.synchronize()
    return o.x


def printed(tensor: Tensor) -> Tensor:
    text = re.sub(r",\s*device='cuda:0'", "", str(tensor))
    return torch.tensor(list(text.encode()))


PATTERN_PAIRS: dict[str, list[Pair]] = {
    "reduction": [
        (lambda o: max(o.q3).item(), lambda o: o.q3.max().item()),
        (lambda o: max(o.q3).item(), lambda o: max(HOST_LENGTHS)),
        (lambda o: bool(any(o.m[1:])), lambda o: bool(o.m[1:].any())),
    ],
    "printing": [(lambda o: printed(o.t), lambda o: printed(o.t.cpu()))],
    "equality": [
        (lambda o: torch.equal(o.x, o.x + 1), lambda o: (o.x == o.x + 1).all()),
        (lambda o: torch.allclose(o.x, o.x), lambda o: torch.isclose(o.x, o.x).all()),
    ],
    "fill": [(lambda o: o.x.masked_fill(o.m[:, None], o.t[0]), lambda o: torch.where(o.m[:, None], o.t[0], o.x))],
    "constant": [
        (
            lambda o: torch.full((5,), o.t[3], device=o.d),  # type: ignore[call-overload]
            lambda o: o.t[3].repeat(5),
        )
    ],
    "range": [
        (
            lambda o: torch.linspace(0.0, o.t[0], 5, device=o.d),
            lambda o: torch.linspace(0.0, 1.0, 5, device=o.d),
        )
    ],
    "slice": [
        (lambda o: o.x[: o.s], lambda o: o.x[:3]),
        (lambda o: o.x.narrow(0, 0, o.s), lambda o: o.x[:3]),  # type: ignore[call-overload]
    ],
    "element": [
        (lambda o: [o.t[i].item() for i in range(9)], lambda o: o.t.tolist()),
        (lambda o: [int(o.p[i]) for i in range(9)], lambda o: o.p[:9].tolist()),
    ],
    "stop": [(lambda o: stopped(o, 1), lambda o: stopped(o, 8)), (lambda o: stopped(o, 1), stopped_by_an_earlier_flag)],
    "check": [(lambda o: checked(o, late=False), lambda o: checked(o, late=True))],
    "number_of_true": [(lambda o: o.x.sum() / int(o.m.sum()), lambda o: o.x.sum() / o.m.sum())],
    "log": [
        (lambda o: in_steps(o, lambda loss: loss.item()), lambda o: torch.stack(in_steps(o, Tensor.detach)).tolist()),  # type: ignore[arg-type]
        (
            lambda o: sum(in_steps(o, float)),  # type: ignore[arg-type]
            lambda o: sum(torch.stack(in_steps(o, Tensor.detach)).tolist()),  # type: ignore[arg-type]
        ),
    ],
    "scalar_index": [
        (lambda o: o.x[o.s], lambda o: o.x.index_select(0, o.s.view(1))[0]),
        (lambda o: write(o.p, o.s, 7), lambda o: o.p.index_fill_(0, o.s.view(1), 7)),
    ],
    "gather_to_count": [(lambda o: len(o.x[o.m]), lambda o: o.m.sum())],
    "masked_update": [(updated, lambda o: torch.where(o.m[:, None], o.x + 2.0, o.x))],
    "repeat": [
        (lambda o: o.t[:3].repeat_interleave(o.q3), lambda o: o.t[:3].repeat_interleave(o.q3, output_size=16)),
    ],
    "one_hot": [(lambda o: F.one_hot(o.p), lambda o: F.one_hot(o.p, num_classes=7))],
    "bins": [(lambda o: torch.bincount(o.p), bins)],
    "nonzero_to_count": [(lambda o: len(o.m.nonzero()), lambda o: o.m.sum())],
    "unique_to_count": [(lambda o: len(o.p.unique()), distinct)],
    "list": [
        (lambda o: [*o.q3.tolist(), *o.q1.tolist()], lambda o: torch.cat([o.q3, o.q1]).tolist()),
        (lambda o: o.q3.tolist(), lambda o: list(HOST_LENGTHS)),
    ],
    "copies_in_loop": [(lambda o: torch.stack([row.cpu() for row in o.x]), lambda o: torch.stack(list(o.x)).cpu())],
    "host_index": [
        (lambda o: o.x[[1, 5, 2]], lambda o: o.x[o.ig]),
        (lambda o: o.x[o.ic], lambda o: o.x[o.ig]),
        (lambda o: o.x[[1, 2]], lambda o: o.x[1:3]),
    ],
    "construction": [
        (lambda o: torch.tensor([0, 1, 2], device=o.d), lambda o: torch.arange(3, device=o.d)),
        (lambda o: torch.tensor(5.0, device=o.d), lambda o: torch.full((), 5.0, device=o.d)),
    ],
    "batch": [(lambda o: o.c.to(o.d), lambda o: o.c.pin_memory().to(o.d, non_blocking=True))],
    "timing": [(lambda o: timed(o, each=True), lambda o: timed(o, each=False))],
}
PATTERN_CASES = [(name, number) for name, pairs in PATTERN_PAIRS.items() for number in range(len(pairs))]

FORMS: list[tuple[Kind, str, str, str | None]] = [
    ("scalar_read", "max(lengths)", "", "reduction"),
    ("scalar_read", "max(lengths).item()", "", "reduction"),
    ("scalar_read", "any(mask)", "loop", "reduction"),
    ("scalar_read", "max(a, b)", "", None),
    ("scalar_read", "times[i].item()", "loop", "element"),
    ("scalar_read", "int(self.timesteps[step])", "", "element"),
    ("scalar_read", "sigmas[i + 1] > 0.5", "truth", "element"),
    ("scalar_read", "t[0] > limit", "truth", None),
    ("scalar_read", "t > limit", "truth", None),
    ("scalar_read", "x[keep_mask].item()", "", None),
    ("scalar_read", "scores[i]", "truth", "element"),
    ("scalar_read", "x[s]", "index", "scalar_index"),
    ("scalar_read", "x[s]", "", None),
    ("scalar_read", "v[s] = ...", "", "scalar_index"),
    ("scalar_read", "x[:n]", "", "slice"),
    ("tensor_as_size", "x.narrow(0, 0, n)", "", "slice"),
    ("tensor_as_size", "x.new_zeros((n, 4))", "", None),
    ("scalar_read", "done.all()", "loop stop truth", "stop"),
    ("scalar_read", "token == eos", "loop stop truth", "stop"),
    ("scalar_read", "done.all()", "stop truth", None),
    ("scalar_read", "torch.isfinite(x).all()", "check truth", "check"),
    ("scalar_read", "loss.item()", "loop collect", "log"),
    ("scalar_read", "float(loss)", "sum", "log"),
    ("scalar_read", "f'{loss:.3f}'", "log", "log"),
    ("scalar_read", "loss.item()", "", None),
    ("scalar_read", "int(mask.sum())", "", "number_of_true"),
    ("scalar_read", "mask.sum().item()", "", "number_of_true"),
    ("scalar_read", "torch.equal(a, b)", "truth", "equality"),
    ("scalar_read", "print(x, y)", "log", "printing"),
    ("d2h_copy", "print(x)", "log loop", "printing"),
    ("scalar_read", "x.masked_fill(mask, value)", "", "fill"),
    ("scalar_read", "torch.full((4,), value)", "", "constant"),
    ("scalar_read", "torch.linspace(start, end, 8)", "", "range"),
    ("mask_gather", "x[mask]", "count", "gather_to_count"),
    ("mask_gather", "x[mask]", "", None),
    ("mask_gather", "x[mask]", "update", "masked_update"),
    ("mask_scatter", "x[mask] += y", "update", "masked_update"),
    ("mask_scatter", "x[mask] = ...", "", None),
    ("nonzero", "x.repeat_interleave(lengths, dim=0)", "", "repeat"),
    ("nonzero", "F.one_hot(t)", "", "one_hot"),
    ("nonzero", "torch.bincount(t)", "", "bins"),
    ("nonzero", "mask.nonzero()", "count", "nonzero_to_count"),
    ("nonzero", "torch.where(mask)", "", None),
    ("nonzero", "t.unique()", "count", "unique_to_count"),
    ("d2h_copy", "lengths.tolist()", "", "list"),
    ("d2h_copy", "y.cpu()", "loop", "copies_in_loop"),
    ("d2h_copy", "y.cpu()", "", None),
    ("pageable_upload", "x[[1, 2]]", "", "host_index"),
    ("pageable_upload", "torch.tensor([1, 2], device=d)", "loop", "construction"),
    ("pageable_upload", "torch.tensor([0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.2...", "", "construction"),
    ("pageable_upload", "batch['x'].to(device)", "loop", "batch"),
    ("pageable_upload", "x.to(device)", "", None),
    ("explicit_sync", "torch.cuda.synchronize()", "loop", "timing"),
    ("explicit_sync", "torch.cuda.synchronize()", "", None),
    ("unknown", "anything[i].item()", "loop", None),
    ("scalar_read", "x.item(", "loop", None),
    ("scalar_read", "...", "", None),
]  # fmt: skip


def site(kind: Kind, expression: str, words: str) -> SyncSite:
    return SyncSite(
        kind=kind, file="a.py", line=1, function="f", region="", count=2, expressions=(expression,),
        around=tuple(words.split()),
    )  # fmt: skip


@pytest.mark.parametrize(("kind", "expression", "words", "pattern"), FORMS)
def test_a_form_of_expression_has_the_hint_of_its_pattern(
    kind: Kind, expression: str, words: str, pattern: str | None
) -> None:
    found = site(kind, expression, words)
    assert pattern_of(found) == pattern
    assert hint_of(found) is (HINTS[kind] if pattern is None else PATTERN_HINTS[pattern])


def test_an_element_that_is_read_once_is_no_schedule() -> None:
    assert pattern_of(replace(site("scalar_read", "times[i].item()", ""), count=1)) is None
    assert pattern_of(replace(site("scalar_read", "times[i].item()", "loop"), count=1)) == "element"


def test_every_pattern_has_a_text_a_form_and_is_put_to_the_test() -> None:
    names = [name for name, *_ in PATTERNS]
    assert len(set(names)) == len(names)
    assert set(names) == set(PATTERN_HINTS) == set(PATTERN_PAIRS) == {pattern for *_, pattern in FORMS} - {None}
    assert all(set(kinds) <= set(KINDS) for _, kinds, _ in PATTERNS)


@pytest.mark.parametrize("hint", [*HINTS.values(), *PATTERN_HINTS.values()], ids=lambda hint: hint.label)
def test_no_hint_makes_a_copy_asynchronous_without_what_must_then_hold(hint: Hint) -> None:
    if "non_blocking" in hint.instead or "pin" in hint.instead:
        words = f"{hint.instead} {hint.must_hold}"
        assert "before" in hint.must_hold and "event" in words and ("pin" in words or "to(" in words)


def waits_and_value(run: Callable[[Operands], object]) -> tuple[int, Tensor]:
    o = operands(torch.device("cuda"))
    with count_host_syncs("cuda") as counter:
        value = run(o)
    torch.cuda.synchronize()
    return counter.total(), torch.as_tensor(value).cpu()


def check(waiting: Callable[[Operands], object], instead: Callable[[Operands], object], *, to_none: bool) -> None:
    num_waits, value = waits_and_value(waiting)
    num_waits_instead, value_instead = waits_and_value(instead)
    assert num_waits > num_waits_instead
    assert num_waits_instead == 0 or not to_none
    assert value.dtype == value_instead.dtype and torch.equal(value, value_instead)


@pytest.mark.parametrize(("kind", "number"), CASES)
def test_a_hint_is_equal_and_does_not_wait_on_the_simulated_device(kind: Kind, number: int) -> None:
    with SimulatedCuda():
        check(*PAIRS[kind][number], to_none=True)


@pytest.mark.parametrize(("pattern", "number"), PATTERN_CASES)
def test_the_hint_of_a_pattern_is_equal_and_waits_less_on_the_simulated_device(pattern: str, number: int) -> None:
    with SimulatedCuda():
        check(*PATTERN_PAIRS[pattern][number], to_none=False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("kind", "number"), CASES)
def test_a_hint_is_equal_and_does_not_wait_on_a_gpu(kind: Kind, number: int) -> None:
    check(*PAIRS[kind][number], to_none=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("pattern", "number"), PATTERN_CASES)
def test_the_hint_of_a_pattern_is_equal_and_waits_less_on_a_gpu(pattern: str, number: int) -> None:
    check(*PATTERN_PAIRS[pattern][number], to_none=False)
