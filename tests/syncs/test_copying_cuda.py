"""Copies on a GPU: the same numbers as on the simulated device, and the bytes that CUPTI saw."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from bagel_perf.syncs import watch_host_syncs
from copy_expressions import EXPRESSIONS, names

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

READ_INSIDE = ("x.nonzero()", "x[mask]", "torch.histc(x)", "x[[True] * 4 + [False] * 4]")
"""Operators that read a number for themselves: a copy to CUPTI."""


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_gpu_tells_the_copies_that_the_simulated_device_does(expression: str) -> None:
    exec(expression, names())
    known = names()
    with watch_host_syncs("cuda") as watch:
        exec(expression, known)
    copies = watch.report().copies
    assert copies is not None
    found = [(each.direction, each.count, each.num_bytes, each.num_waited) for each in copies]
    assert sorted(found, key=lambda each: each[0], reverse=True) == EXPRESSIONS[expression]


def test_cupti_saw_the_same_bytes(tmp_path: Path) -> None:
    wrong = {}
    for expression, expected in EXPRESSIONS.items():
        if expression in READ_INSIDE:
            continue
        exec(expression, names())
        known = names()
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            exec(expression, known)
            torch.cuda.synchronize()
        profiler.export_chrome_trace(str(tmp_path / "trace.json"))
        seen = _copied(tmp_path / "trace.json")
        if seen != {direction: num_bytes for direction, _, num_bytes, _ in expected}:
            wrong[expression] = seen, expected
    assert wrong == {}


def _copied(path: Path) -> dict[str, int]:
    found: Counter[str] = Counter()
    for event in json.loads(path.read_text(encoding="utf-8"))["traceEvents"]:
        if event.get("cat") == "gpu_memcpy":
            for mark, direction in (("HtoD", "upload"), ("DtoH", "download")):
                found[direction] += event["args"]["bytes"] * (mark in event["name"])
    return dict(+found)


def test_a_copy_of_another_thread_that_waits_is_of_unknown_kind_and_no_copy() -> None:
    import threading

    x = torch.ones(4, device="cuda")
    with watch_host_syncs("cuda") as watch:
        thread = threading.Thread(target=x.cpu)
        thread.start()
        thread.join()
    report = watch.report()
    assert [site.kind for site in report.sites] == ["unknown"] and report.copies == ()
