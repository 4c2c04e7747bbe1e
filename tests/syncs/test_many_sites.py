"""A report takes time in proportion to its sites, however many of them lie in one function."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from bagel_perf.records.syncs import SyncReport
from bagel_perf.report.sync_tables import print_syncs
from bagel_perf.simulated.cuda import SimulatedCuda
from bagel_perf.syncs import SyncWatch, watch_host_syncs
from bagel_perf.syncs.frames import Lines


@pytest.fixture(autouse=True)
def device() -> Iterator[None]:
    with SimulatedCuda():
        yield


def watched(folder: Path, number: int) -> SyncWatch:
    """A watch of a function with so many lines that wait, half of them in another way."""
    file = folder / f"lines_{number}.py"
    pair = "    x.item()\n    if x > 3 and x.any(): pass\n"
    file.write_text(f"def run(x):\n{pair * (number // 2)}", encoding="utf-8")
    names: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), names)
    x = torch.ones((), device="cuda")
    with watch_host_syncs("cuda") as watch:
        names["run"](x)
    return watch


def num_calls(work: Callable[[], object]) -> int:
    """Functions of Python and C that are called: work, which does not depend on the machine."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


def report(watch: SyncWatch) -> SyncReport:
    found = watch.report("lines")
    print_syncs(found, io.StringIO(), top=12)
    return SyncReport.from_json(json.loads(json.dumps(found.to_json())))


def test_four_times_the_sites_are_four_times_the_work(tmp_path: Path) -> None:
    few, many = (watched(tmp_path, number) for number in (100, 400))
    report(watched(tmp_path, 10))  # imports what is imported late
    calls = [num_calls(lambda watch=watch: report(watch)) for watch in (few, many)]  # type: ignore[misc]
    assert len(report(many).sites) == 400
    assert calls[1] < 4.2 * calls[0]


def test_a_second_look_finds_what_the_first_one_found(tmp_path: Path) -> None:
    watch = watched(tmp_path, 100)
    first = num_calls(lambda: watch.sites)
    again = num_calls(lambda: watch.sites)
    assert again < first / 5
    assert watch.sites == watch.sites and len(watch.sites) == 100


def test_the_lines_of_a_code_object_are_read_once() -> None:
    code = watched.__code__
    lines, reads = Lines(), []

    def co_lines() -> Iterator[tuple[int, int, int | None]]:
        reads.append(code)
        return code.co_lines()

    stand_in = SimpleNamespace(co_lines=co_lines)
    for start, _, line in code.co_lines():
        frame = SimpleNamespace(f_code=stand_in, f_lasti=start)
        assert lines.of(cast(Any, frame)) == (line or 0)
    assert len(reads) == 1


def test_lines_are_those_that_python_gives() -> None:
    frame = sys._getframe()
    assert Lines().of(frame) == frame.f_lineno
