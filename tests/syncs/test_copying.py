"""Copies between host and device by line and region: how many, how many bytes, and which the host waits for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bagel_perf.records.copies import DIRECTIONS, CopySite
from bagel_perf.simulated.cuda import SimulatedCuda
from bagel_perf.simulated.tensor import is_simulated
from bagel_perf.syncs import calls, region, watch_host_syncs
from bagel_perf.syncs.calls import _CallLog, bytes_of_wait, kind_of_wait, logging_calls
from bagel_perf.syncs.copying import CopyNews
from bagel_perf.syncs.hearing import Details, hearing
from bagel_perf.syncs.sites import SyncCollector
from copy_expressions import EXPRESSIONS, names
from fake_waits import Source


def copied(copies: tuple[CopySite, ...] | None) -> list[tuple[str, int, int | None, int]]:
    assert copies is not None
    found = [(each.direction, each.count, each.num_bytes, each.num_waited) for each in copies]
    return sorted(found, key=lambda each: each[0], reverse=True)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_simulated_device_tells_every_copy_with_its_bytes(expression: str) -> None:
    with SimulatedCuda():
        known = names()
        with watch_host_syncs("cuda") as watch:
            exec(expression, known)
    assert copied(watch.report().copies) == EXPRESSIONS[expression]


def test_the_log_of_calls_knows_the_bytes_that_the_device_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "on_gpu", is_simulated)
    wrong: dict[str, Any] = {}
    for expression in EXPRESSIONS:
        pairs: list[tuple[int | None, int | None]] = []
        queued: list[tuple[bool, int | None, bool]] = []
        told: list[tuple[bool, int | None, bool]] = []
        with SimulatedCuda() as device:
            known = names()

            def hear(kind: Any, device: SimulatedCuda = device, pairs: Any = pairs) -> None:
                if kind_of_wait() in DIRECTIONS:
                    pairs.append((device.bytes_of_wait(), bytes_of_wait()))

            def hear_copy(*copy: Any, queued: Any = queued) -> None:
                queued.extend([copy] * (not copy[2]))

            log = _CallLog(None, lambda *copy, told=told: told.append(copy))
            with device.listening(hear), device.copies_to(hear_copy), log:
                exec(expression, known)
        if any(one != other for one, other in pairs) or queued != told:
            wrong[expression] = pairs, queued, told
    assert wrong == {}


def test_copies_are_listed_by_line_and_region_most_bytes_first() -> None:
    with SimulatedCuda(), watch_host_syncs("cuda") as watch:
        x = torch.ones(4, device="cuda")
        for _ in range(3):
            with region("step"):
                x.sum().item()
        with region("out"):
            x.cpu()
    item, out = 12, 16
    found = watch.report().copies
    assert found is not None
    assert [(each.region, each.count, each.num_bytes) for each in found] == [("out", 1, out), ("step", 3, item)]
    assert {(Path(each.file).name, each.function) for each in found} == {
        ("test_copying.py", "test_copies_are_listed_by_line_and_region_most_bytes_first")
    }
    assert found[0].line > found[1].line > 0


def test_one_copy_of_unknown_size_leaves_the_bytes_of_its_line_unknown_and_comes_first() -> None:
    collector, source, news = SyncCollector("cuda"), Source(), CopyNews()
    sizes = iter((8, None))
    details = Details(copies_to=news.to, num_bytes=lambda: next(sizes))
    with hearing(collector, source, source.listening, details):
        for _ in range(2):
            source.wait("d2h_copy")
        source.wait("nonzero")
        news.tell(False, 1 << 20, False)
        news.tell(False, 1 << 20, True)
    news.tell(False, 1, False)
    assert copied(collector.copies()) == [
        ("upload", 1, 1 << 20, 0),
        ("upload", 1, 1 << 20, 1),
        ("download", 2, None, 2),
    ]
    assert (collector.copies() or ())[0].direction == "download"


def test_a_copy_on_a_thread_of_autograd_is_at_the_line_that_called_backward() -> None:
    with SimulatedCuda(), watch_host_syncs("cuda") as watch, region("step"):
        leaf = torch.ones(4, requires_grad=True)
        leaf.to("cuda").sum().backward()
    found = watch.report().copies or ()
    assert {(each.direction, each.region) for each in found} == {("upload", "step"), ("download", "step")}


def test_where_calls_cannot_be_logged_copies_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_has_compiled", lambda: True)
    with logging_calls() as is_logging:
        assert not is_logging
    collector = SyncCollector("cuda")
    collector.sees_copies = False
    assert collector.copies() is None


def test_a_copy_that_a_graph_records_is_none_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "on_gpu", is_simulated)
    told: list[Any] = []
    with SimulatedCuda():
        x, pinned = torch.ones(4, device="cuda"), torch.ones(4).pin_memory()
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        with _CallLog(None, lambda *copy: told.append(copy)):
            x.copy_(pinned, non_blocking=True)
    assert told == []
