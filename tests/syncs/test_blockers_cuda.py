"""What prevents a CUDA graph, on a GPU: the rules name what a capture that is tried refuses, and nothing else."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bagel_perf.records.blockers import CAPTURED, CaptureReport
from bagel_perf.syncs.blockers import watch_capture
from bagel_perf.syncs.captures import CaptureRefused, Recorder
from bagel_perf.syncs.regions import region
from bagel_perf.syncs.trials import try_capture
from watched_captures import side_work

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
Make = Callable[[Tensor], Callable[[int], object]]


def on_a_side_stream(*, forks: bool, joins: bool) -> Make:
    return lambda x: side_work(x, forks=forks, joins=joins)


def with_host(host: Tensor, *, download: bool = False) -> Make:
    def make(x: Tensor) -> Callable[[int], object]:
        pinned = host
        if download:
            return lambda _: pinned.copy_(x, non_blocking=True)
        return lambda _: x.copy_(pinned, non_blocking=True)

    return make


def with_generator(x: Tensor) -> Callable[[int], object]:
    generator = torch.Generator(device="cuda")
    return lambda _: torch.rand(3, device="cuda", generator=generator)


def with_event(x: Tensor) -> Callable[[int], object]:
    done = torch.cuda.Event()
    done.record()
    return lambda _: done.query()


def training(make: Callable[..., torch.optim.Optimizer], **options: bool) -> Make:
    def of(x: Tensor) -> Callable[[int], object]:
        model = torch.nn.Linear(3, 3, device="cuda")
        optimizer = make(model.parameters(), lr=0.1, **options)

        def body(_: int) -> None:
            optimizer.zero_grad(set_to_none=True)
            model(x).square().mean().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

        return body

    return of


def with_cache(x: Tensor) -> Callable[[int], object]:
    cache, row, at = torch.zeros(16, 3, device="cuda"), x[:1].clone(), torch.zeros(1, dtype=torch.long, device="cuda")

    def body(_: int) -> None:
        cache.index_copy_(0, at, row)
        row.copy_((cache @ cache.t())[:1, :3])
        at.add_(1)

    return body


def with_encoder(x: Tensor) -> Callable[[int], object]:
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True, device="cuda")
    batch = torch.ones(2, 4, 8, device="cuda")
    return lambda _: layer(batch).sum()


def with_emptied_cache(x: Tensor) -> Callable[[int], object]:
    def body(_: int) -> None:
        x.mul_(1.5)
        torch.cuda.empty_cache()

    return body


def with_batches(x: Tensor) -> Callable[[int], object]:
    batches = [torch.ones(4, 3, device="cuda") for _ in range(4)]
    return lambda number: x.add_(batches[number])


def with_strides(x: Tensor) -> Callable[[int], object]:
    return lambda number: x[: 1 + number % 2] * 2


STOPPED: dict[str, tuple[Make, str]] = {
    "item": (lambda x: lambda _: x.sum().item(), "wait"),
    "synchronize": (lambda x: lambda _: torch.cuda.synchronize(), "wait"),
    "list": (lambda x: lambda _: torch.tensor([1.0], device="cuda"), "wait"),
    "pageable upload": (with_host(torch.ones(4, 3)), "copy"),
    "pageable download": (with_host(torch.ones(4, 3), download=True), "copy"),
    "generator": (with_generator, "random"),
    "optimizer": (training(torch.optim.Adam, fused=True), "optimizer"),
    "query": (with_event, "query"),
    "unjoined": (on_a_side_stream(forks=True, joins=False), "stream"),
}
FROZEN: dict[str, tuple[Make, str]] = {
    "unforked": (on_a_side_stream(forks=False, joins=False), "stream"),
    "made inside": (lambda x: lambda n: x.copy_(torch.full((4, 3), n).float().pin_memory(), non_blocking=True), "copy"),
    "shape": (with_strides, "shape"),
    "branch": (lambda x: lambda n: x.add_(1.0) if n % 2 else x.mul_(1.5), "branch"),
    "value": (lambda x: lambda n: x.mul_(0.5 + n), "value"),
    "address": (with_batches, "address"),
    "host's random": (lambda x: lambda n: x.mul_(float(bool(random.random()))), "random"),
}
CLEAN: dict[str, Make] = {
    "in place": lambda x: lambda _: x.copy_(torch.relu(x @ x.t()) @ x * 0.5),
    "dropout": lambda x: lambda _: torch.nn.functional.dropout(x, 0.5),
    "joined": on_a_side_stream(forks=True, joins=True),
    "training": training(torch.optim.SGD),
    "training by Adam": training(torch.optim.Adam, capturable=True),
    "cache": with_cache,
    "encoder": with_encoder,
    "empty_cache": with_emptied_cache,
    "to the host": lambda x: lambda _: x.to("cpu", non_blocking=True),
}


def watched(make: Make) -> CaptureReport:
    body = make(torch.ones(4, 3, device="cuda"))
    with watch_capture("step") as watch:
        tried = watch.tries(body)
        for number in range(4):
            tried(number)
        torch.cuda.synchronize()
    torch.randn(3, device="cuda").sum().item()  # CUDA and its generator are usable
    return watch.report()


@pytest.mark.parametrize("name", STOPPED)
def test_what_stops_a_capture_is_named_and_a_capture_agrees(name: str) -> None:
    make, kind = STOPPED[name]
    report = watched(make)
    assert [(each.kind, each.effect) for each in report.blockers] == [(kind, "stops")]
    assert report.tried not in (None, CAPTURED) and report.is_capturable is False and report.num_entries == 4


def test_a_capture_refuses_to_wait_for_work_that_is_not_in_the_graph() -> None:
    report = watched(on_a_side_stream(forks=False, joins=True))
    assert [(each.kind, each.effect) for each in report.blockers] == [("stream", "stops"), ("stream", "freezes")]
    assert report.tried is not None and "uncaptured work" in report.tried


def test_an_event_that_was_recorded_before_may_not_be_waited_for_and_one_that_never_was_may() -> None:
    for is_recorded in (False, True):

        def make(x: Tensor, is_recorded: bool = is_recorded) -> Callable[[int], object]:
            done, side = torch.cuda.Event(), torch.cuda.Stream()
            if is_recorded:
                done.record(side)

            def body(_: int) -> None:
                done.wait()
                x.mul_(1.5)

            return body

        report = watched(make)
        assert ((report.tried == CAPTURED), [each.kind for each in report.blockers]) == (
            (not is_recorded),
            ["stream"] * is_recorded,
        )


@pytest.mark.parametrize("name", FROZEN)
def test_what_is_frozen_is_named_although_a_capture_takes_it(name: str) -> None:
    make, kind = FROZEN[name]
    report = watched(make)
    assert [(each.kind, each.effect) for each in report.blockers] == [(kind, "freezes")]
    assert report.tried == CAPTURED and report.is_capturable is False


@pytest.mark.parametrize("name", CLEAN)
def test_nothing_is_named_where_a_capture_succeeds(name: str) -> None:
    report = watched(CLEAN[name])
    assert (report.blockers, report.tried, report.is_capturable) == ((), CAPTURED, True)


def test_a_region_that_is_no_function_is_watched_and_not_tried() -> None:
    x = torch.ones(4, 3, device="cuda")
    with watch_capture("step") as watch:
        for _ in range(3):
            with region("step"):
                x.mul_(1.5)
    report = watch.report()
    assert (report.blockers, report.tried, report.is_capturable, report.device) == ((), None, True, "cuda")


@pytest.mark.parametrize("fails", [False, True])
def test_a_trial_changes_no_number_that_is_drawn_later(fails: bool) -> None:
    x = torch.ones(3, device="cuda")

    def work() -> None:
        x.add_(torch.randn(3, device="cuda") + random.random() + torch.rand(()).item())
        if fails:
            torch.cuda.synchronize()

    def drawn() -> list[float]:
        return [*torch.randn(2, device="cuda").tolist(), *torch.rand(2).tolist(), random.random()]

    def seed() -> None:
        torch.manual_seed(5)
        random.seed(5)

    work()
    seed()
    expected = drawn()
    seed()
    before = x.tolist()
    assert (try_capture(work, torch.device("cuda", 0)) == CAPTURED) is not fails
    assert drawn() == expected and x.tolist() == before


@pytest.mark.parametrize("wait", [torch.cuda.synchronize, lambda: torch.cuda.current_stream().query()])
def test_random_numbers_can_be_drawn_after_a_capture_that_cuda_broke_off(wait: Callable[[], object]) -> None:
    recorder = Recorder(torch.device("cuda", 0))
    for _ in range(2):
        with pytest.raises(CaptureRefused):
            recorder.record(wait)
        assert torch.randn(3, device="cuda").isfinite().all()


COMPILED = """
import torch
from bagel_perf.syncs import region, watch_capture

x = torch.ones(4, 3, device="cuda")
compiled = torch.compile(lambda tensor: torch.relu(tensor * 2).sum(dim=-1))
expected = compiled(x)
with watch_capture("step") as watch:
    for _ in range(3):
        with region("step"):
            result = compiled(x)
assert torch.equal(result, expected) and watch.report().blockers == ()
"""


def test_compiled_code_gives_what_it_gives_unwatched() -> None:
    """In a process of its own: in one that has compiled something the kinds of waits are not known."""
    subprocess.run([sys.executable, "-c", COMPILED], check=True, timeout=120)
