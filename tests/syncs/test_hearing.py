"""Who hears a wait, and what each is told of it: several collectors of one source, and the threads of autograd."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack

import pytest
import torch
from torch import Tensor

from bagel_perf.rules import torch_names
from bagel_perf.syncs import sites
from bagel_perf.syncs.budgets import allow_sync
from bagel_perf.syncs.frames import Folders
from bagel_perf.syncs.hearing import hearing, observing_backward, pass_of_this_thread
from bagel_perf.syncs.regions import recording, region
from bagel_perf.syncs.sites import SyncCollector
from fake_waits import Source, in_raw_thread, loss_with


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def collector() -> SyncCollector:
    return SyncCollector("cuda")


def line() -> int:
    """The line that calls this."""
    return sys._getframe(1).f_lineno


def allowed(collector: SyncCollector) -> Counter[str | None]:
    return Counter(site.allowed for site in collector.sites() for _ in range(site.count))


def test_all_collectors_of_a_source_take_the_same_waits(source: Source) -> None:
    first, second = SyncCollector("cuda"), SyncCollector("cuda")
    with recording(), hearing(first, source, source.listening), hearing(second, source, source.listening):
        with region("a"), allow_sync("meant"):
            source.wait("nonzero")
        source.wait()
    assert first.sites() == second.sites()
    assert {(site.kind, site.region, site.allowed) for site in first.sites()} == {
        ("nonzero", "a", "meant"),
        ("scalar_read", "", None),
    }


def test_an_allowance_is_used_up_once_however_many_count(source: Source) -> None:
    collectors = [SyncCollector("cuda") for _ in range(3)]
    with ExitStack() as stack:
        for each in collectors:
            stack.enter_context(hearing(each, source, source.listening))
        with allow_sync("two reads", at_most=2):
            for _ in range(3):
                source.wait()
    assert [allowed(each) for each in collectors] == [{"two reads": 2, None: 1}] * 3


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
def test_collectors_leave_in_any_order_and_a_source_is_listened_to_once(source: Source, order: tuple[int, ...]) -> None:
    collectors = [SyncCollector("cuda") for _ in range(3)]
    contexts = [hearing(each, source, source.listening) for each in collectors]
    for context in contexts:
        context.__enter__()
    for leaver in order:
        assert source.log == ["opened"]
        source.wait()
        contexts[leaver].__exit__(None, None, None)
    assert source.log == ["opened", "closed"] and not source.listeners
    source.wait()
    assert [collectors[leaver].total() for leaver in order] == [1, 2, 3]


def test_a_source_is_listened_to_anew_after_everybody_left(source: Source, collector: SyncCollector) -> None:
    for _ in range(2):
        with hearing(collector, source, source.listening):
            source.wait()
    assert source.log == ["opened", "closed"] * 2 and collector.total() == 2


def test_sources_are_told_apart(source: Source, collector: SyncCollector) -> None:
    other, others = Source(), SyncCollector("cuda")
    with hearing(collector, source, source.listening), hearing(others, other, other.listening):
        source.wait("nonzero")
        other.wait("d2h_copy")
    assert [site.kind for site in (*collector.sites(), *others.sites())] == ["nonzero", "d2h_copy"]


def test_a_collector_that_cannot_be_heard_leaves_nothing_behind(source: Source, collector: SyncCollector) -> None:
    def refuse(_: object) -> ExitStack:
        raise OSError("no callbacks")

    with pytest.raises(OSError, match="no callbacks"), hearing(collector, source, refuse):
        pass
    with hearing(collector, source, source.listening):
        source.wait()
    assert source.log == ["opened", "closed"] and collector.total() == 1


def test_a_thread_that_python_started_stands_for_itself() -> None:
    found: list[object] = []

    def work() -> None:
        thread = threading.Thread(target=lambda: found.append(pass_of_this_thread()))
        thread.start()
        thread.join()
        found.append(pass_of_this_thread())

    with observing_backward:
        loss_with(work).backward()
    assert found == [None, None]


def test_a_raw_thread_knows_the_line_that_called_backward() -> None:
    found: list[tuple[str, int]] = []

    def look() -> None:
        running = pass_of_this_thread()
        assert running is not None
        frame = Folders().user_frame(running.frame)
        assert frame is not None
        found.append((frame.f_code.co_name, frame.f_lineno))

    loss = loss_with(lambda: in_raw_thread(look))
    with observing_backward:
        number = line() + 1
        loss.backward()
    assert found == [("test_a_raw_thread_knows_the_line_that_called_backward", number)]


def test_a_raw_thread_stands_for_nobody_outside_a_backward_pass() -> None:
    found: list[object] = []

    def look() -> None:
        found.append(pass_of_this_thread())

    with observing_backward:
        in_raw_thread(look)
        loss_with(lambda: None).backward()
        with pytest.raises(ZeroDivisionError):
            loss_with(lambda: 1 // 0).backward()
        in_raw_thread(look)
    loss_with(lambda: in_raw_thread(look)).backward()
    assert found == [None, None, None]


def by_backward(loss: Tensor, x: Tensor) -> None:
    loss.backward()


def by_grad(loss: Tensor, x: Tensor) -> None:
    torch.autograd.grad(loss, x)


@pytest.mark.parametrize("differentiate", [by_backward, by_grad])
def test_a_wait_of_a_backward_pass_has_its_callers_line_region_and_reason(
    source: Source, collector: SyncCollector, differentiate: Callable[[Tensor, Tensor], None]
) -> None:
    x = torch.ones(2, requires_grad=True)
    loss = loss_with(source.wait_in_torch, x)
    with ExitStack() as stack:
        for context in (recording(), observing_backward, hearing(collector, source, source.listening)):
            stack.enter_context(context)
        with region("train"), region("step"), allow_sync("clipping"):
            differentiate(loss, x)
    (site,) = collector.sites()
    assert (site.region, site.allowed, site.count) == ("train/step", "clipping", 1)
    assert __file__.endswith(site.file)
    assert (site.function, site.line) == (differentiate.__name__, differentiate.__code__.co_firstlineno + 1)


def test_waits_of_a_backward_pass_use_its_callers_allowance_up(source: Source, collector: SyncCollector) -> None:
    def work() -> None:
        for _ in range(3):
            source.wait_in_torch()

    with observing_backward, hearing(collector, source, source.listening), allow_sync("clipping", at_most=2):
        loss_with(work).backward()
        source.wait()
    assert allowed(collector) == {"clipping": 2, None: 2}


def test_a_hook_on_autograds_thread_has_a_line_of_its_own_in_its_callers_region(
    source: Source, collector: SyncCollector
) -> None:
    def hook() -> None:
        source.wait()

    with recording(), observing_backward, hearing(collector, source, source.listening), region("step"):
        loss_with(lambda: in_raw_thread(hook)).backward()
    (site,) = collector.sites()
    assert (site.line, site.region) == (hook.__code__.co_firstlineno + 1, "step")
    assert site.function.endswith("<locals>.hook")


def test_watches_that_end_in_another_order_leave_torch_as_it_was(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sites, "require_callbacks", lambda: None)
    monkeypatch.setattr(sites, "listening_to_cuda", source.listening)
    places = [name.place() or ("", "") for name in (torch_names.ENGINE_RUN_BACKWARD, torch_names.HAS_TORCH_FUNCTION)]
    found = [getattr(*place) for place in places]
    first, second = sites.count_host_syncs("cuda"), sites.count_host_syncs("cuda")
    counter = first.__enter__()
    during = [getattr(*place) for place in places]
    other = second.__enter__()
    loss_with(source.wait_in_torch).backward()
    first.__exit__(None, None, None)
    assert [getattr(*place) for place in places] == during, "the second one still needs it"
    loss_with(source.wait_in_torch).backward()
    second.__exit__(None, None, None)
    assert [getattr(*place) for place in places] == found and not set(found) & set(during)
    assert torch.overrides._get_current_function_mode_stack() == []
    assert (counter.total(), other.total()) == (1, 2)
    assert {site.function for site in other.sites()} == {"test_watches_that_end_in_another_order_leave_torch_as_it_was"}


def test_what_a_hook_opens_on_autograds_thread_lies_inside_what_the_caller_opened(
    source: Source, collector: SyncCollector
) -> None:
    def hook() -> None:
        with region("hook"), allow_sync("clip"):
            source.wait()
        source.wait()

    with recording(), observing_backward, hearing(collector, source, source.listening), region("step"):
        loss_with(lambda: in_raw_thread(hook)).backward()
    assert {(site.region, site.allowed) for site in collector.sites()} == {("step/hook", "clip"), ("step", None)}
