"""A pytest plugin that keeps host syncs out: ``@pytest.mark.max_host_syncs(0)`` and the fixture ``host_syncs``.

Tests that use either ask for ``cuda`` as ever. Where there is a GPU they run on it, elsewhere on the simulated device,
which is there from the test's first fixture to its last. Waits are counted in the test's own call. All other tests are
left alone, and torch is imported only for those that are not; ``--host-syncs-expect`` counts in all of them.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from bagel_perf import pytest_counts
from bagel_perf.pythons import require_torch
from bagel_perf.schema.errors import EnvironmentUnfit
from bagel_perf.schema.syncs import DoubtKind, SyncReport, doubts

if TYPE_CHECKING:
    from bagel_perf.harness.syncs import SyncWatch

MARK = "max_host_syncs"
FIXTURE = "host_syncs"
DEVICES = ("auto", "cuda", "cpu")
TOP = 12

ALLOWANCES: dict[str, DoubtKind] = {"allow_unjudged": "unjudged", "allow_unwatched": "unwatched"}
"""Arguments of the mark, and what of a count's doubts each lets pass."""

_limit: pytest.StashKey[tuple[int, frozenset[DoubtKind], dict[str, str]]] = pytest.StashKey()
_device: pytest.StashKey[ExitStack] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that says where such tests run."""
    group = parser.getgroup("bagel-perf", "host syncs")
    group.addoption(
        "--host-syncs-device",
        choices=DEVICES,
        default="auto",
        help="where tests that count host syncs run: cuda, cpu (the simulated device), auto (a GPU if there is one)",
    )
    pytest_counts.add_options(group)


def pytest_configure(config: pytest.Config) -> None:
    """Declares the mark, and holds all tests to a file of expectations where that is asked for."""
    config.addinivalue_line(
        "markers",
        f"{MARK}(limit, allow_unjudged=False, allow_unwatched=False, quiet_ops={{}}): the test's call uses the device "
        "and waits for it at most so often; waits under allow_sync do not count, operators that nobody can judge and "
        "other processes fail the test; quiet_ops are such operators, with why they do not wait",
    )
    pytest_counts.register(config)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Opens the simulated device for a test that counts, where there is no GPU; refuses a mark that says nothing."""
    counts = _counts(item)
    if counts and not _lack_of_torch() and not _has_gpu(item.config):
        from bagel_perf.harness.simulated.cuda import SimulatedCuda

        item.stash[_device] = stack = ExitStack()
        stack.enter_context(SimulatedCuda())
    result = yield
    if counts and (lack := _lack_of_torch()):  # only now, because what was set up is taken down by those who did
        pytest.fail(lack, pytrace=False)
    mark = item.get_closest_marker(MARK)
    if mark is not None:
        item.stash[_limit] = _limit_of(mark)
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Closes it after the last fixture of the test."""
    try:
        return (yield)
    finally:
        stack = item.stash.get(_device, None)
        if stack is not None:
            stack.close()


def _limit_of(mark: pytest.Mark) -> tuple[int, frozenset[DoubtKind], dict[str, str]]:
    """(limit, doubts that are fine, reasons by quiet operator) of a mark."""
    known = set(mark.kwargs) <= {"limit", "quiet_ops", *ALLOWANCES}
    values = (*mark.args, *([mark.kwargs["limit"]] if "limit" in mark.kwargs else []))
    if not known or len(values) != 1 or not isinstance(values[0], int) or isinstance(values[0], bool) or values[0] < 0:
        raise pytest.UsageError(f"{MARK} takes one number of host syncs, 0 or more, as @pytest.mark.{MARK}(0)")
    quiet = mark.kwargs.get("quiet_ops", {})
    if not isinstance(quiet, dict) or not all(isinstance(reason, str) and reason.strip() for reason in quiet.values()):
        raise pytest.UsageError(f'quiet_ops of {MARK} are reasons by operator, as {{"mine.op": "why"}}; not {quiet!r}')
    allowed = frozenset(doubt for name, doubt in ALLOWANCES.items() if mark.kwargs.get(name, False))
    return values[0], allowed, quiet


def _counts(item: pytest.Item) -> bool:
    if item.config.getoption(pytest_counts.EXPECT) is not None:
        return True
    return item.get_closest_marker(MARK) is not None or FIXTURE in getattr(item, "fixturenames", ())


def _lack_of_torch() -> str:
    """One line where torch is not installed; "" else."""
    try:
        require_torch()
    except EnvironmentUnfit as problem:
        return str(problem)
    return ""


def _has_gpu(config: pytest.Config) -> bool:
    choice = config.getoption("--host-syncs-device")
    if choice != "auto":
        return bool(choice == "cuda")
    import torch

    return torch.cuda.is_available()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Counts during the call of a marked test, and fails it with the table of sites where it waited too often.

    A test that counts by the fixture alone fails where the count says nothing: the numbers are its own to judge.
    """
    if _limit not in item.stash:
        result = yield
        watch = getattr(item, "funcargs", {}).get(FIXTURE)
        if watch is not None and (problem := doubt_of(watch.report(item.name), frozenset())):
            pytest.fail(problem, pytrace=False)
        return result
    from bagel_perf.harness.syncs import watch_host_syncs

    limit, allowed, quiet_ops = item.stash[_limit]
    with watch_host_syncs("cuda", debug_mode=False, quiet_ops=quiet_ops) as watch:
        result = yield
    problem = judge(watch.report(item.name), limit, allowed)
    if problem is not None:
        pytest.fail(problem, pytrace=False)
    return result


@pytest.fixture
def host_syncs(request: pytest.FixtureRequest) -> Iterator[SyncWatch]:
    """Watches from here to the end of the test: ``host_syncs.host_syncs`` and ``host_syncs.sites`` at any time."""
    if lack := _lack_of_torch():
        pytest.fail(lack, pytrace=False)
    from bagel_perf.harness.syncs import watch_host_syncs

    with watch_host_syncs("cuda", debug_mode=False) as watch:
        yield watch


def judge(report: SyncReport, limit: int, allowed: frozenset[DoubtKind]) -> str | None:
    """What is wrong with a report, with its table; None where nothing is."""
    count = sum(site.count for site in report.sites if site.allowed is None)
    if count > limit:
        return f"{count} host syncs, {limit} allowed\n\n{table_of(report)}"
    return doubt_of(report, allowed)


def doubt_of(report: SyncReport, allowed: frozenset[DoubtKind]) -> str | None:
    """Every reason why a count says nothing, on one line; None without one."""
    found = [doubt for doubt in doubts(report) if doubt.kind not in allowed]
    if not found:
        return None
    kinds = {doubt.kind for doubt in found}
    options = [f"{name}=True" for name, kind in ALLOWANCES.items() if kind in kinds]
    options += ["quiet_ops={NAME: REASON}"] if "unjudged" in kinds else []
    hint = f"; {MARK} with {', '.join(options)} lets it pass" if options else ""
    count = sum(site.count for site in report.sites if site.allowed is None)
    return f"{count} host syncs counted, which is open: {', and '.join(map(str, found))}{hint}\n\n{table_of(report)}"


def table_of(report: SyncReport) -> str:
    """The report as text."""
    from bagel_perf.report.sync_tables import print_syncs

    stream = io.StringIO()
    print_syncs(report, stream, top=TOP)
    return stream.getvalue()
