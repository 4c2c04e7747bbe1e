"""One report is made of those of several processes; who may have used the device unseen is named."""

from __future__ import annotations

import time
from typing import Any

import pytest
from msgspec.structs import replace

from bagel_perf.records.errors import Inconclusive
from bagel_perf.records.sites import SyncSite, UnjudgedSite
from bagel_perf.records.syncs import BudgetCheck, Process, SyncBudgetExceeded, SyncReport, Witnesses
from bagel_perf.verdicts.merging import Followed, Note, Sighting, by_role, merged, role_of, unwatched

PYTHON = "/usr/bin/python3"


def site(count: int, line: int = 3, **rest: Any) -> SyncSite:
    return SyncSite(kind="scalar_read", file="a.py", line=line, function="f", region="", count=count, **rest)


def report(*counts: int, **rest: Any) -> SyncReport:
    total = sum(counts)
    return SyncReport(
        device="simulated",
        host_syncs=total,
        unexplained=0,
        sites=tuple(site(count, line) for line, count in enumerate(counts, 1)),
        witnesses=Witnesses(simulated=total),
        **{"used_device": True, **rest},
    )


def process(name: str, pid: int, found: SyncReport | None, **rest: Any) -> Followed:
    argv = rest.pop("argv", (PYTHON, f"{name}.py"))
    return Followed(process=Process(name=name, pid=pid, argv=argv, watched=True), report=found, **rest)


def budget(region: str, worst: int, limit: int = 2, entries: int = 1) -> BudgetCheck:
    over = int(worst > limit)
    return BudgetCheck(region=region, limit=limit, num_entries=entries, worst=worst, num_exceeded=over)


def test_a_single_report_stays_as_it_is_but_for_its_name() -> None:
    own = report(2, 1, notes=("a note",))
    found = merged("x", [process("main", 7, own), process("loader", 8, None)], ())
    named = tuple(replace(each, process="main") for each in own.sites)
    assert found == replace(own, subject="x", processes=found.processes, sites=named)
    assert by_role(found.sites) == own.sites
    assert [(each.name, each.host_syncs, each.used_device) for each in found.processes] == [
        ("main", 2 + 1, True),
        ("loader", 0, False),
    ]


def test_sites_say_whose_they_are_and_sums_are_of_all() -> None:
    found = merged("x", [process("rank 1", 9, report(5)), process("rank 0", 8, report(2, 1))], ())
    assert [(each.process, each.count) for each in found.sites] == [("rank 1", 5), ("rank 0", 2), ("rank 0", 1)]
    assert (found.host_syncs, found.witnesses, found.unexplained) == (8, Witnesses(simulated=8), 0)
    assert [(each.process, each.line, each.count) for each in by_role(found.sites)] == [
        ("rank *", 1, 7),
        ("rank 0", 2, 1),
    ]


def test_what_one_process_met_is_said_of_all() -> None:
    unjudged = UnjudgedSite(operator="mine.sq", file="a.py", line=1, region="", count=2)
    first = report(1, unjudged={"mine.sq": 2}, unjudged_sites=(unjudged,), hazards={"h": 1}, notes=("same", "own"))
    second = report(1, unjudged={"mine.sq": 1}, notes=("same",), used_device=None)
    found = merged("x", [process("a-1", 1, first), process("a-2", 2, second)], ())
    assert (found.unjudged, found.hazards, found.unjudged_sites) == ({"mine.sq": 3}, {"h": 1}, (unjudged,))
    assert found.notes == ("same", "own (a-*)") and found.used_device is True


def test_the_whole_is_what_all_spent_together_and_an_entry_is_of_one_process() -> None:
    spent = [
        report(2, budgets=(budget("", 2, 3), budget("step", 2))),
        report(2, budgets=(budget("", 2, 3), budget("step", 1))),
    ]
    found = merged("x", [process(f"w-{number}", number, each) for number, each in enumerate(spent, 1)], ())
    whole, step = found.budgets
    assert (whole.worst, whole.num_exceeded, whole.num_entries) == (4, 1, 1)
    assert (step.worst, step.num_exceeded, step.num_entries, step.ok) == (2, 0, 2, True)
    error = found.budget_error()
    assert isinstance(error, SyncBudgetExceeded) and str(error).endswith("look at a.py:1 (4 x scalar_read)")


def test_a_budget_that_is_exceeded_is_no_better_for_a_process_that_nobody_watched() -> None:
    blind = Process(name="./native", pid=3, why="it is no Python")
    found = merged("x", [process("main", 1, report(3, budgets=(budget("", 3),)))], [blind])
    assert isinstance(found.budget_error(), SyncBudgetExceeded)


def test_a_region_that_one_process_entered_is_entered() -> None:
    absent = report(0 + 1, budgets=(budget("step", 0, entries=0),))
    found = merged("x", [process("a", 1, absent), process("b", 2, report(1, budgets=(budget("step", 1),)))], ())
    assert found.budget_error() is None
    assert isinstance(
        merged("x", [process("a", 1, absent), process("b", 2, absent)], ()).budget_error(), SyncBudgetExceeded
    )


def test_counting_that_began_where_nothing_used_the_device_began_nowhere() -> None:
    idle, working = report(used_device=False), report(1, not_begun="load")
    found = merged("x", [process("main", 1, idle), process("worker", 2, working)], ())
    assert found.not_begun == "load"
    assert merged("x", [process("main", 1, report(1)), process("worker", 2, working)], ()).not_begun == ""


def test_a_process_that_nobody_watched_leaves_budgets_open() -> None:
    blind = Process(name="./native", pid=3, why="it is no Python")
    found = merged("x", [process("main", 1, report(1, budgets=(budget("", 1),)))], [blind])
    assert found.unwatched == (blind,) and isinstance(found.budget_error(), Inconclusive)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("SpawnProcess-1", "SpawnProcess-*"),
        ("SpawnProcess-1:2", "SpawnProcess-*"),
        ("rank 12", "rank *"),
        ("gw0", "gw*"),
        ("ray::Stage.run (123)", "ray::Stage.run*"),
        ("AR", "AR"),
        ("", ""),
    ],
)
def test_alike_processes_have_one_role(name: str, role: str) -> None:
    assert role_of(name) == role


def seen(pid: int, *argv: str, ppid: int = 1, **rest: bool) -> Sighting:
    return Sighting(pid=pid, ppid=ppid, argv=argv, **rest)


@pytest.mark.parametrize(
    ("sighting", "why"),
    [
        (seen(5, PYTHON, "-I", "x.py"), "it was started with -I"),
        (seen(5, PYTHON, "-uE", "x.py"), "it was started with -E"),
        (seen(5, PYTHON, "x.py", "-I"), "it was not armed"),
        (seen(5, PYTHON, "-W", "error::SomeWarning", "x.py"), "it was not armed"),
        (seen(5, "./a.out"), "it is no Python"),
        (seen(5, PYTHON, "-Ic", "pass"), "it was started with -I"),
        (seen(5, PYTHON, "-W", "", "x.py"), "it was not armed"),
        (seen(5, PYTHON, "-cIS = 1"), "it was not armed"),
        (seen(5, PYTHON, "-Wignore::ImportWarning", "-mSITE"), "it was not armed"),
        (seen(5, "MY::Worker", is_python=True), "it was not armed"),
    ],
)
def test_what_was_seen_and_not_armed_is_named_with_the_reason(sighting: Sighting, why: str) -> None:
    (found,) = unwatched([process("main", 1, None)], [sighting], ())
    assert found.pid == 5 and found.why.startswith(why) and not found.watched


@pytest.mark.parametrize(
    "sighting",
    [
        seen(1, PYTHON, "main.py"),
        seen(5, "bash", "run.sh"),
        seen(5, "/usr/bin/env", "python3", "x.py"),
        seen(5, "git", "status"),
        seen(5, PYTHON, "main.py", is_fork=True),
        seen(5, PYTHON, "-c", "from multiprocessing.resource_tracker import main;main(4)"),
        seen(5, PYTHON, "-I", "-B", "-c", "import sys; from python.get_interpreter_info import main; main()"),
    ],
)
def test_what_is_armed_or_cannot_use_the_device_is_not_named(sighting: Sighting) -> None:
    assert unwatched([process("main", 1, None)], [sighting], ()) == ()


def test_a_fork_that_became_another_program_is_judged_by_that() -> None:
    fork = process("main", 5, report(used_device=False), is_fork=True)
    assert unwatched([fork], [seen(5, "./native")], ())[0].name == "./native"
    assert unwatched([fork], [seen(5, "MY::Worker", is_python=True)], ()) == ()
    assert unwatched([fork], [seen(5, PYTHON, "-I", "x.py", is_python=True)], ())[0].why.startswith("it was started")


def test_a_fork_is_none_other_for_an_empty_word_or_one_that_is_no_text() -> None:
    fork = process("main", 5, report(), is_fork=True, argv=(PYTHON, "x.py", "", "\udcff", "a"))
    assert unwatched([fork], [seen(5, PYTHON, "x.py", "\ufffd", "a", is_python=True)], ()) == ()


def note(pid: int | None, *argv: str, by: int = 1) -> Note:
    return Note(process=Process(name=" ".join(argv), pid=pid, argv=argv), by=by)


def test_what_a_process_says_it_started_is_known_where_it_is_armed_or_led_to_what_is() -> None:
    main, child = process("main", 1, None), process("child", 6, None, ppid=5)
    assert unwatched([main, child], (), [note(6, PYTHON, "x.py")]) == ()
    assert unwatched([main, child], (), [note(5, "sh", "-c", "python x.py | cat")]) == ()
    assert unwatched([main], (), [note(5, "sh", "-c", "./native")])[0].pid == 5
    assert unwatched([main], [seen(5, "./native")], [note(5, "./native")])[0].why == "it is no Python"
    before_exec = seen(5, PYTHON, "main.py", is_fork=True)
    assert unwatched([main], [before_exec], [note(5, PYTHON, "-I", "x.py")])[0].why == "it was started with -I"


def test_another_program_in_the_same_process_is_known_by_what_came_after() -> None:
    main = process("main", 1, None)
    assert unwatched([main], (), [note(1, "./native")])[0].name == "./native"
    assert unwatched([main, process("main", 1, None)], (), [note(1, PYTHON, "x.py")]) == ()
    assert unwatched([main], [seen(1, "bash", "x.sh")], [note(1, "bash", "x.sh")]) == ()


def test_a_fork_that_says_which_program_it_becomes_is_named_once_and_only_if_that_is_not_armed() -> None:
    main, fork = process("main", 1, None), process("main", 5, None, is_fork=True)
    then, to_python = process("y", 5, None), note(5, PYTHON, "y.py", by=5)
    as_python = seen(5, PYTHON, "y.py", is_python=True)
    assert unwatched([main, fork, then], [as_python], [to_python]) == ()
    to_native, as_fork = note(5, "./native", by=5), seen(5, PYTHON, "main.py", is_fork=True, is_python=True)
    for sightings in ([], [as_fork], [seen(5, "./native")]):
        (found,) = unwatched([main, fork], sightings, [to_native])
        assert (found.name, found.pid) == ("./native", 5)


def test_thousands_of_processes_are_judged_in_a_moment() -> None:
    followed = [process(f"p-{pid}", pid, None, ppid=1) for pid in range(1, 6001)]
    began = time.process_time()
    assert unwatched(followed, (), [note(pid + 10_000, "./native") for pid in range(6000)])[5999].pid == 15_999
    assert time.process_time() - began < 1
