"""What prevents a CUDA graph of a region: each kind in a loop that has it, and not in one that does not."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator

import numpy.random
import pytest
import torch
from torch import Tensor

from bagel_perf.records.blockers import CaptureReport
from bagel_perf.simulated import SimulatedCuda
from bagel_perf.syncs import allow_sync, region, watch_host_syncs
from bagel_perf.syncs.blockers import DEFAULT_GENERATOR, FEW, PINNED, UNUSED, watch_capture
from watched_captures import Body, kinds, only, watched


@pytest.fixture(autouse=True)
def simulated() -> Iterator[SimulatedCuda]:
    with SimulatedCuda() as device:
        yield device


@pytest.fixture
def x() -> Tensor:
    return torch.ones(4, 3, device="cuda")


def test_nothing_prevents_a_graph_of_a_loop_that_works_in_place(x: Tensor) -> None:
    weight, out = torch.ones(3, 3, device="cuda"), torch.zeros(4, 3, device="cuda")

    def body(_: int) -> None:
        hidden = torch.relu(x @ weight) * 0.5
        out.copy_(hidden + hidden.mean(dim=-1, keepdim=True))

    report = watched(body)
    assert report.blockers == () and report.is_capturable is True and report.num_entries == 4
    assert report.notes == () and report.tried is None and report.device == "simulated"
    assert CaptureReport.from_json(report.to_json()) == report


def test_a_wait_stops_a_graph_also_where_it_is_allowed(x: Tensor) -> None:
    def body(_: int) -> None:
        with allow_sync("the end is decided here"):
            x.sum().item()

    blocker = only(watched(body))
    assert (blocker.kind, blocker.effect, blocker.count) == ("wait", "stops", 4)
    assert blocker.expressions == ("x.sum().item()",) and "torch.where" in blocker.remedy
    assert "allowed: the end is decided here" in blocker.detail and blocker.file.endswith("test_blockers.py")


def test_waits_outside_of_the_region_are_nobodys(x: Tensor) -> None:
    with watch_capture("step") as watch, watch_host_syncs("cuda") as syncs:
        for _ in range(3):
            with region("step"):
                x.mul_(1.5)
            x.sum().item()
    assert watch.report().is_capturable is True and syncs.host_syncs == 3


@pytest.mark.parametrize("download", [False, True])
def test_an_asynchronous_copy_of_pageable_memory_stops_a_graph(x: Tensor, download: bool) -> None:
    host = torch.ones(4, 3)

    def body(_: int) -> None:
        if download:
            host.copy_(x, non_blocking=True)
        else:
            x.copy_(host, non_blocking=True)

    blocker = only(watched(body))
    assert (blocker.kind, blocker.effect, blocker.count) == ("copy", "stops", 4)
    assert "pageable memory" in blocker.detail and "pinned" in blocker.remedy


def test_a_copy_of_pinned_memory_that_stays_is_captured_with_a_note(x: Tensor) -> None:
    pinned, result = torch.ones(4, 3).pin_memory(), torch.empty(4, 3).pin_memory()

    def body(_: int) -> None:
        x.copy_(pinned, non_blocking=True)
        result.copy_(x * 2, non_blocking=True)

    report = watched(body)
    assert report.blockers == () and report.notes == (PINNED,) and report.is_capturable is True


def test_pinned_memory_that_the_region_makes_is_frozen(x: Tensor) -> None:
    blocker = only(watched(lambda number: x.copy_(torch.full((4, 3), number).pin_memory(), non_blocking=True)))
    assert (blocker.kind, blocker.effect) == ("copy", "freezes")
    assert "fill it before each replay" in blocker.remedy


def test_a_copy_that_waits_is_a_wait_and_nothing_else(x: Tensor) -> None:
    report = watched(lambda number: x.copy_(torch.full((4, 3), number)))
    assert kinds(report) == ["wait"] and report.notes == ()


def test_pinned_memory_that_is_another_one_each_time_is_an_address(x: Tensor) -> None:
    hosts = [torch.ones(4, 3).pin_memory() for _ in range(4)]
    assert kinds(watched(lambda number: x.copy_(hosts[number], non_blocking=True))) == ["address"]


def test_shapes_that_vary_are_named_at_the_first_line_with_the_shapes(x: Tensor) -> None:
    def body(number: int) -> None:
        part = x[: 1 + number % 2]
        (part * 2).sum()

    blocker = only(watched(body))
    assert (blocker.kind, blocker.effect, blocker.count) == ("shape", "freezes", 3)
    assert blocker.expressions == ("x[: 1 + number % 2]",)
    assert "[1, 3] float32" in blocker.detail and "[2, 3] float32" in blocker.detail


def test_strides_that_vary_are_shapes_that_vary(x: Tensor) -> None:
    square = torch.ones(3, 3, device="cuda")
    views = [square, square.t()]
    blocker = only(watched(lambda number: views[number % 2] * 2))
    assert blocker.kind == "shape" and "strides (3, 1)" in blocker.detail and "strides (1, 3)" in blocker.detail


def test_a_path_that_varies_is_named_with_both_operators(x: Tensor) -> None:
    def body(number: int) -> None:
        if number % 2:
            x.add_(1.0)
        else:
            x.mul_(1.5)

    blocker = only(watched(body))
    assert (blocker.kind, blocker.effect, blocker.count) == ("branch", "freezes", 3)
    assert "add_ at line" in blocker.detail and "mul_ at line" in blocker.detail


def test_a_loop_of_another_length_is_a_path_that_varies(x: Tensor) -> None:
    def body(number: int) -> None:
        for _ in range(2 + number % 2):
            x.mul_(1.5)

    blocker = only(watched(body))
    assert blocker.kind == "branch" and "the end" in blocker.detail and blocker.expressions == ("x.mul_(1.5)",)


def test_a_number_that_varies_is_frozen_and_named_with_its_values(x: Tensor) -> None:
    blocker = only(watched(lambda number: x.mul_(0.5 + number)))
    assert (blocker.kind, blocker.effect, blocker.count) == ("value", "freezes", 3)
    assert blocker.detail == "mul_: 0.5 | 1.5 | 2.5 | 3.5" and "fill_(value)" in blocker.remedy


def test_a_number_in_a_host_tensor_or_an_index_is_one_too(x: Tensor) -> None:
    scale = torch.arange(4.0)
    assert only(watched(lambda number: x.mul_(scale[number]))).detail == "mul_: 0 | 1 | 2 | 3"
    report = watched(lambda number: x[number])
    assert kinds(report) == ["value"] and report.blockers[0].expressions == ("x[number]",)


def test_a_number_that_stays_is_none(x: Tensor) -> None:
    scale = torch.tensor(2.0)
    assert watched(lambda _: (x * 3 * float("nan") * scale)[1:2]).is_capturable is True


def test_a_new_tensor_each_time_needs_a_buffer(x: Tensor) -> None:
    batches = [torch.ones(4, 3, device="cuda") for _ in range(4)]

    def body(number: int) -> None:
        y = x + 1
        y.add_(batches[number])
        y.mul_(batches[number])

    blocker = only(watched(body))
    assert (blocker.kind, blocker.effect, blocker.count) == ("address", "freezes", 3)
    assert blocker.expressions == ("y.add_(batches[number])",)
    assert "static.copy_(new)" in blocker.remedy and "[4, 3] float32" in blocker.detail


def test_a_new_tensor_at_an_address_that_was_freed_is_another_one() -> None:
    """Whether memory is used again is chance, likely where it is much; a graph needs it to be."""
    with watch_capture("step") as watch:
        for _ in range(100):
            batch = torch.ones(1 << 18, device="cuda")
            with region("step"):
                batch.add_(1)
            del batch
    blocker = only(watch.report())
    assert (blocker.kind, blocker.count) == ("address", 99)


def test_a_state_that_the_region_hands_on_is_a_new_tensor_each_time(x: Tensor) -> None:
    state = x

    def body(_: int) -> None:
        nonlocal state
        state = state * 0.5

    assert kinds(watched(body)) == ["address"]
    buffer = x.clone()
    assert watched(lambda _: buffer.copy_(buffer * 0.5)).is_capturable is True


def test_parts_of_a_tensor_that_stays_are_other_addresses(x: Tensor) -> None:
    rows = [x[number] for number in range(4)]
    assert kinds(watched(lambda number: rows[number] * 2)) == ["address"]


def test_a_generator_of_its_own_stops_a_graph_and_the_default_one_does_not(x: Tensor) -> None:
    generator = torch.Generator(device="cuda")
    blocker = only(watched(lambda _: torch.rand(3, device="cuda", generator=generator)))
    assert (blocker.kind, blocker.effect) == ("random", "stops") and "register_generator_state" in blocker.remedy
    for draw in (
        lambda _: torch.nn.functional.dropout(x, 0.5),
        lambda _: torch.multinomial(x[0], 2),
        lambda _: torch.empty(3, device="cuda").normal_(),
        lambda _: torch.rand_like(x),
    ):
        report = watched(draw)
        assert report.blockers == () and report.notes == (DEFAULT_GENERATOR,) and report.is_capturable is True


def test_a_dropout_that_is_off_draws_nothing(x: Tensor) -> None:
    q = x.view(1, 1, 4, 3)
    off: list[Body] = [
        lambda _: torch.nn.functional.dropout(x, 0.5, training=False),
        lambda _: torch.nn.functional.dropout(x, 0.0),
        lambda _: torch.nn.functional.scaled_dot_product_attention(q, q, q),
    ]
    for body in off:
        assert watched(body).notes == ()


@pytest.mark.parametrize("draw", [lambda: torch.rand(3), random.random, numpy.random.rand])
def test_random_numbers_of_the_host_are_frozen(x: Tensor, draw: Callable[[], object]) -> None:
    def body(_: int) -> None:
        draw()
        x.mul_(1.5)

    blocker = only(watched(body))
    assert (blocker.kind, blocker.effect, blocker.count) == ("random", "freezes", 4)
    assert "draw on the device" in blocker.remedy


def test_what_the_first_entry_alone_does_is_warm_up(x: Tensor) -> None:
    cache: dict[str, Tensor] = {}

    def body(_: int) -> None:
        if "rows" not in cache:
            cache["rows"] = torch.tensor([1, 2], device="cuda")
        x.index_select(0, cache["rows"])

    report = watched(body)
    assert report.blockers == () and report.is_capturable is True
    assert any("entry 1 alone differs: pageable upload" in note for note in report.notes)
    assert kinds(watched(body, 2)) == []
    cache.clear()
    assert "wait" in kinds(watched(body, 2))  # nobody knows of two which is the usual one


def test_an_optimizers_step_has_its_gradients_made_inside() -> None:
    model = torch.nn.Linear(3, 3, device="cuda")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = torch.ones(2, 3, device="cuda")

    def body(_: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        model(batch).square().mean().backward()
        optimizer.step()

    report = watched(body)
    assert report.blockers == () and report.is_capturable is True


def test_an_optimizer_that_counts_on_the_host_stops_a_graph_and_a_capturable_one_does_not() -> None:
    model = torch.nn.Linear(3, 3, device="cuda")
    batch = torch.ones(2, 3, device="cuda")

    def training(capturable: bool) -> Body:
        optimizer = torch.optim.Adam(model.parameters(), capturable=capturable)

        def body(_: int) -> None:
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()

        return body

    stops, *rest = watched(training(capturable=False)).blockers
    assert (stops.kind, stops.effect, stops.count) == ("optimizer", "stops", 4)
    assert stops.expressions == ("optimizer.step()",) and "capturable=True" in stops.remedy
    assert [each.kind for each in rest] == ["value"]  # how far moments are off from their start
    assert watched(training(capturable=True)).is_capturable is True


def test_it_is_unknown_what_one_entry_would_do_again(x: Tensor) -> None:
    report = watched(lambda _: x.mul_(1.5), 1)
    assert report.is_capturable is None and report.notes == (FEW,)
    assert watched(lambda _: x.sum().item(), 1).is_capturable is False
    never = watched(lambda _: None, 0)
    assert never.is_capturable is None and never.notes == ("it was never entered",)


def test_it_is_unknown_where_nothing_ran_or_an_operator_cannot_be_judged(x: Tensor) -> None:
    assert watched(lambda _: torch.ones(2) * 2).notes == (UNUSED,)
    report = watched(lambda _: x.unique(dim=0))
    assert report.is_capturable is None and "cannot be judged without a GPU: aten.unique_dim" in report.notes[0]


def test_entries_that_end_in_an_exception_are_not_compared(x: Tensor) -> None:
    def body(number: int) -> None:
        x.mul_(1.5)
        if number == 2:
            raise KeyError(number)
        x.add_(1.0)

    with watch_capture("step") as watch:
        for number in range(4):
            try:
                with region("step"):
                    body(number)
            except KeyError:
                pass
    report = watch.report()
    assert report.num_entries == 3 and report.blockers == ()


def test_entries_of_threads_are_told_apart(x: Tensor) -> None:
    turn = threading.Barrier(2)

    def work() -> None:
        for _ in range(3):
            with region("step"):
                turn.wait()
                y = x * 1.5
                turn.wait()
                x.copy_(y)

    with watch_capture("step") as watch:
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    report = watch.report()
    assert (report.num_entries, report.blockers) == (6, ())


def test_a_region_in_itself_is_one_entry(x: Tensor) -> None:
    def body(_: int) -> None:
        with region("step"):
            x.mul_(1.5)

    assert watched(body).num_entries == 4


def test_a_function_is_only_tried_on_a_gpu(x: Tensor) -> None:
    calls: list[int] = []

    def step(number: int) -> Tensor:
        calls.append(number)
        return x.mul_(1.5)

    with watch_capture("step") as watch:
        step = watch.tries(step)
        for number in range(3):
            step(number)
    report = watch.report()
    assert calls == [0, 1, 2] and report.tried is None and report.num_entries == 3


def test_a_watch_needs_the_name_of_a_region() -> None:
    with pytest.raises(ValueError, match="name of a region"), watch_capture(""):
        pass
