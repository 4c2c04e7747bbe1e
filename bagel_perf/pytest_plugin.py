"""A pytest plugin that keeps host syncs out: ``@pytest.mark.max_host_syncs(0)`` and the fixture ``host_syncs``.

Tests that use either ask for ``cuda`` as ever. Where there is a GPU they run on it, elsewhere on the simulated device,
which is there from the test's first fixture to its last. Waits are counted in the test's own call. All other tests are
left alone, and torch is imported only for those that are not.

With ``--host-syncs-raise``, or ``@pytest.mark.max_host_syncs(0, on_wait="raise")`` for one test, a test that has a
limit ends at the first wait above it, with the stack of that line.

``--host-syncs-expect FILE.toml`` counts in all tests and holds each to the file: a test that the file does not name may
not wait at all. Counts are by node without parameters; where the parameters of a test make it wait differently, each is
recorded by itself.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bagel_perf.pythons import require_torch
from bagel_perf.records.errors import EnvironmentUnfit, UsageError
from bagel_perf.records.expectations import ExpectedCounts, ExpectedSubject, SubjectName, load_counts
from bagel_perf.records.store import write_text
from bagel_perf.records.syncs import DoubtKind, SyncReport, doubts
from bagel_perf.report.gates import counts_toml
from bagel_perf.verdicts.counts import Found, Paths, drift, found_in, recorded

if TYPE_CHECKING:
    from bagel_perf.syncs import SyncWatch

EXPECT = "--host-syncs-expect"
UPDATE = "--host-syncs-update"
RAISE = "--host-syncs-raise"


def add_options(group: Any) -> None:
    """The options of counts that are kept in a file, and where a test ends that waits too often."""
    group.addoption(EXPECT, metavar="FILE.toml", help="hold the host syncs of every test's call to this file")
    group.addoption(UPDATE, metavar="REASON", help=f"write the counts of the tests that ran into {EXPECT}, and why")
    group.addoption(RAISE, action="store_true", help="end a test at the first wait above its limit, with the stack")


def register(config: pytest.Config) -> None:
    """Makes a gate of the run, where the options ask for one."""
    expect, update = config.getoption(EXPECT), config.getoption(UPDATE)
    if expect is None and update is not None:
        raise pytest.UsageError(f"{UPDATE} needs {EXPECT} FILE.toml")
    if expect is None:
        return
    if update is not None and not update.strip():
        raise pytest.UsageError(f'{UPDATE} needs a reason, as {UPDATE}="first recorded"')
    if update is not None and hasattr(config, "workerinput"):
        raise pytest.UsageError(f"{UPDATE} writes one file; run it in one process, without -n")
    path = Path(expect)
    try:
        require_torch()
        is_new = update is not None and not path.exists()
        command = f'pytest {EXPECT} {expect} {UPDATE} "REASON"'
        expected = ExpectedCounts() if is_new else load_counts(path, command)
    except (UsageError, EnvironmentUnfit) as problem:
        raise pytest.UsageError(str(problem)) from None
    counts = CountsOfTests(path, expected, update, raises=config.getoption(RAISE) and update is None)
    config.pluginmanager.register(counts, "bagel-perf-counts")


class CountsOfTests:
    """Watches the call of each test, and judges or records it."""

    def __init__(self, path: Path, expected: ExpectedCounts, update: str | None, *, raises: bool) -> None:
        self._path = path
        self._expected = expected
        self._update = update
        self._raises = raises
        self._paths = Paths(root=path.absolute().parent, folders=(Path.cwd(),))
        self._found: dict[str, dict[str, Found]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Counts in the test's call, and fails it with the lines that drifted."""
        from bagel_perf.syncs import watch_host_syncs

        node = _bare(item)
        names = SubjectName(test=item.nodeid), SubjectName(test=node)
        expected = self._expected.of(names[0]) or self._expected.of(names[1]) or ExpectedSubject(test=node)
        with watch_host_syncs("cuda", debug_mode=False) as watch:
            if self._raises:
                watch.raise_over(sum(each.count for each in expected.syncs))
            result = yield
        report = watch.report(item.name)
        found = found_in(names[1], report, self._paths)
        if report.used_device is False and not expected.syncs:
            return result  # whatever it may have left open, it is none of the device's
        if self._update is not None:
            expected = recorded(found, expected, self._update)
        findings = drift(found, expected, self._paths)
        if findings:
            pytest.fail("\n".join(finding.message for finding in findings), pytrace=False)
        self._found.setdefault(node, {})[item.nodeid] = found
        return result

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Writes the counts of the tests that passed, where that was asked for."""
        if self._update is None:
            return
        names = [name for node, runs in self._found.items() for name in (node, *runs)]
        subjects = [subject for node, runs in self._found.items() for subject in self._recorded(node, runs)]
        new = self._expected.with_subjects(subjects, [SubjectName(test=name) for name in names])
        write_text(self._path, counts_toml(new))
        terminalreporter.write_line(f"host syncs of {len(self._found)} tests written: {self._path}")

    def _recorded(self, node: str, runs: dict[str, Found]) -> list[ExpectedSubject]:
        """A test that waits, once where all its parameters wait alike; nothing of one that does not wait."""
        counts = [found.counts for found in runs.values()]
        names = [node] if all(each == counts[0] for each in counts) else list(runs)
        subjects = []
        for name, found in zip(names, runs.values(), strict=False):
            own = Found(name=SubjectName(test=name), report=found.report, counts=found.counts, lines=found.lines)
            before = self._expected.of(own.name) or self._expected.of(SubjectName(test=node))
            subjects.append(recorded(own, before, self._update or ""))
        return [subject for subject in subjects if subject.syncs]


def _bare(item: pytest.Item) -> str:
    """The node of a test without its parameters."""
    name = getattr(item, "originalname", None) or item.name
    return item.nodeid.removesuffix(item.name) + name


MARK = "max_host_syncs"
FIXTURE = "host_syncs"
DEVICES = ("auto", "cuda", "cpu")
TOP = 12

ALLOWANCES: dict[str, DoubtKind] = {"allow_unjudged": "unjudged", "allow_unwatched": "unwatched"}
"""Arguments of the mark, and what of a count's doubts each lets pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limit:
    """What a mark says: the limit, the doubts that are fine, reasons by quiet operator, what a wait above does."""

    limit: int
    allowed: frozenset[DoubtKind]
    quiet_ops: dict[str, str]
    on_wait: str | None


ON_WAIT = ("count", "raise")
_limit: pytest.StashKey[_Limit] = pytest.StashKey()
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
    add_options(group)


def pytest_configure(config: pytest.Config) -> None:
    """Declares the mark, and holds all tests to a file of expectations where that is asked for."""
    config.addinivalue_line(
        "markers",
        f"{MARK}(limit, allow_unjudged=False, allow_unwatched=False, quiet_ops={{}}, on_wait='count'): the test's call "
        "uses the device and waits for it at most so often; waits under allow_sync do not count, operators that nobody "
        "can judge and other processes fail the test; quiet_ops are such operators, with why they do not wait; with "
        f"on_wait='raise', or {RAISE}, the test ends at the first wait above the limit",
    )
    register(config)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Opens the simulated device for a test that counts, where there is no GPU; refuses a mark that says nothing."""
    counts = _counts(item)
    if counts and not _lack_of_torch() and not _has_gpu(item.config):
        from bagel_perf.simulated.cuda import SimulatedCuda

        item.stash[_device] = stack = ExitStack()
        stack.enter_context(SimulatedCuda())
    result = yield
    if counts and (lack := _lack_of_torch()):  # only now, because what was set up is taken down by those who did
        pytest.fail(lack, pytrace=False)
    mark = item.get_closest_marker(MARK)
    if mark is not None:
        try:
            item.stash[_limit] = _limit_of(mark)
        except pytest.UsageError as problem:
            pytest.fail(str(problem), pytrace=False)
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


def _limit_of(mark: pytest.Mark) -> _Limit:
    known = set(mark.kwargs) <= {"limit", "quiet_ops", "on_wait", *ALLOWANCES}
    values = (*mark.args, *([mark.kwargs["limit"]] if "limit" in mark.kwargs else []))
    if not known or len(values) != 1 or not isinstance(values[0], int) or isinstance(values[0], bool) or values[0] < 0:
        raise pytest.UsageError(f"{MARK} takes one number of host syncs, 0 or more, as @pytest.mark.{MARK}(0)")
    quiet = mark.kwargs.get("quiet_ops", {})
    if not isinstance(quiet, dict) or not all(isinstance(reason, str) and reason.strip() for reason in quiet.values()):
        raise pytest.UsageError(f'quiet_ops of {MARK} are reasons by operator, as {{"mine.op": "why"}}; not {quiet!r}')
    on_wait = mark.kwargs.get("on_wait")
    if on_wait not in (None, *ON_WAIT):
        raise pytest.UsageError(f"on_wait of {MARK} is {' or '.join(map(repr, ON_WAIT))}; not {on_wait!r}")
    allowed = frozenset(doubt for name, doubt in ALLOWANCES.items() if mark.kwargs.get(name, False))
    return _Limit(limit=values[0], allowed=allowed, quiet_ops=quiet, on_wait=on_wait)


def _counts(item: pytest.Item) -> bool:
    if item.config.getoption(EXPECT) is not None:
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
    from bagel_perf.syncs import watch_host_syncs

    told = item.stash[_limit]
    raises = item.config.getoption(RAISE) if told.on_wait is None else told.on_wait == "raise"
    with watch_host_syncs("cuda", debug_mode=False, quiet_ops=told.quiet_ops) as watch:
        if raises:
            watch.raise_over(told.limit)
        result = yield
    problem = judge(watch.report(item.name), told.limit, told.allowed)
    if problem is not None:
        pytest.fail(problem, pytrace=False)
    return result


@pytest.fixture
def host_syncs(request: pytest.FixtureRequest) -> Iterator[SyncWatch]:
    """Watches from here to the end of the test: ``host_syncs.host_syncs`` and ``host_syncs.sites`` at any time."""
    if lack := _lack_of_torch():
        pytest.fail(lack, pytrace=False)
    from bagel_perf.syncs import watch_host_syncs

    with watch_host_syncs("cuda", debug_mode=False) as watch:
        yield watch


def judge(report: SyncReport, limit: int, allowed: frozenset[DoubtKind]) -> str | None:
    """What is wrong with a report, with its table; None where nothing is."""
    count = sum(site.count for site in report.sites if not site.is_excused)
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
    count = sum(site.count for site in report.sites if not site.is_excused)
    return f"{count} host syncs counted, which is open: {', and '.join(map(str, found))}{hint}\n\n{table_of(report)}"


def table_of(report: SyncReport) -> str:
    """The report as text."""
    from bagel_perf.report.sync_tables import print_syncs

    stream = io.StringIO()
    print_syncs(report, stream, top=TOP)
    return stream.getvalue()
