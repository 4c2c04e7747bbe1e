"""Holds the host syncs of every test of a run to a file of expectations: ``pytest --host-syncs-expect FILE.toml``.

A test that the file does not name may not wait at all. Counts are those of one call, by node without parameters; where
the parameters of a test make it wait differently, each is recorded by itself.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from bagel_perf.analysis.count_drift import Found, Paths, drift, found_in, recorded
from bagel_perf.pythons import require_torch
from bagel_perf.report.expected_counts_text import counts_toml
from bagel_perf.schema.errors import EnvironmentUnfit, UsageError
from bagel_perf.schema.expected_counts import ExpectedCounts, ExpectedSubject, SubjectName, load_counts
from bagel_perf.schema.store import write_text

EXPECT = "--host-syncs-expect"
UPDATE = "--host-syncs-update"


def add_options(group: Any) -> None:
    """The two options."""
    group.addoption(EXPECT, metavar="FILE.toml", help="hold the host syncs of every test's call to this file")
    group.addoption(UPDATE, metavar="REASON", help=f"write the counts of the tests that ran into {EXPECT}, and why")


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
    config.pluginmanager.register(CountsOfTests(path, expected, update), "bagel-perf-counts")


class CountsOfTests:
    """Watches the call of each test, and judges or records it."""

    def __init__(self, path: Path, expected: ExpectedCounts, update: str | None) -> None:
        self._path = path
        self._expected = expected
        self._update = update
        self._paths = Paths(root=path.absolute().parent, folders=(Path.cwd(),))
        self._found: dict[str, dict[str, Found]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Counts in the test's call, and fails it with the lines that drifted."""
        from bagel_perf.harness.syncs import watch_host_syncs

        with watch_host_syncs("cuda", debug_mode=False) as watch:
            result = yield
        report = watch.report(item.name)
        node = _bare(item)
        found = found_in(SubjectName(test=node), report, self._paths)
        own = found_in(SubjectName(test=item.nodeid), report, self._paths)
        expected = self._expected.of(own.name) or self._expected.of(found.name) or ExpectedSubject(test=node)
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
