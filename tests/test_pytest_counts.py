"""``pytest --host-syncs-expect FILE``: every test's call is held to the file, by node without parameters."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import bagel_perf.report.gates  # noqa: F401 - pytester forgets modules that were not there before

pytest_plugins = ("pytester",)

Run = Callable[..., pytest.RunResult]

TESTS = """
import pytest, torch

@pytest.fixture
def x():
    return torch.ones(3).cuda()

@pytest.mark.parametrize("times", [1, 2])
def test_reads(x, times):
    x.sum().item()

@pytest.mark.parametrize("times", [1, 2])
def test_reads_often(x, times):
    for _ in range(times):
        x.sum().item()

def test_waits_for_nothing(x):
    x * 2

def test_uses_no_device():
    torch.ones(3, device="cpu").sum().item()

def test_fails_by_itself(x):
    x.sum().item()
    assert False, "its own"
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the text of a test file in this process, on the simulated device."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    number = iter(range(9))

    def run_text(text: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(test_it=text)
        options = ("-p", "bagel_perf.pytest_plugin", "--host-syncs-device=cpu", "-p", "no:cacheprovider")
        monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(pytester.path / str(next(number))))
        return pytester.runpytest_inprocess(*options, "--host-syncs-expect=x.toml", *arguments)

    return run_text


def test_counts_of_tests_are_recorded_and_held(run: Run) -> None:
    result = run(TESTS, "--host-syncs-update=first")
    result.assert_outcomes(passed=6, failed=1)
    data = tomllib.loads(Path("x.toml").read_text())
    assert [(each["test"], each["syncs"][0]["count"]) for each in data["subjects"]] == [
        ("test_it.py::test_reads", 1),
        ("test_it.py::test_reads_often[1]", 1),
        ("test_it.py::test_reads_often[2]", 2),
    ]
    assert data["subjects"][0]["syncs"][0]["reason"] == "first"
    result = run(TESTS)
    result.assert_outcomes(passed=6, failed=1)
    assert "its own" in result.stdout.str()


def test_a_drift_fails_the_test_with_its_line(run: Run) -> None:
    run(TESTS, "--host-syncs-update=first")
    text = TESTS.replace("    x * 2\n", "    (x * 2).tolist()\n").replace("    x.sum().item()\n\n@", "    x.sum()\n\n@")
    result = run(f"\n{text}")
    result.assert_outcomes(passed=3, failed=4)
    out = result.stdout.str()
    assert "test_it.py::test_waits_for_nothing: test_it.py:17 test_waits_for_nothing: device-to-host copy: 1 new" in out
    assert "test_it.py::test_reads: test_it.py test_reads: scalar read: none any more, expected 1 (first)" in out


def test_with_raise_a_test_ends_at_the_wait_after_those_that_are_expected(run: Run) -> None:
    run(TESTS, "--host-syncs-update=first", "--host-syncs-raise")
    result = run(TESTS, "--host-syncs-raise")
    result.assert_outcomes(passed=6, failed=1)
    text = TESTS.replace("    x * 2\n", "    (x * 2).tolist()\n")
    result = run(text.replace("    x.sum().item()\n\n@", "    x.sum().item(); x.cpu()\n\n@"), "--host-syncs-raise")
    result.assert_outcomes(passed=3, failed=4)
    out = result.stdout.str()
    assert "waits for the device (d2h_copy, (x * 2).tolist()); budget 0, this is wait 1" in out
    assert "waits for the device (d2h_copy, x.cpu()); budget 1, this is wait 2" in out


def test_an_update_of_some_tests_leaves_the_others_and_what_failed(run: Run) -> None:
    run(TESTS, "--host-syncs-update=first")
    run(TESTS.replace("x.sum().item()", "x.tolist(), x.cpu()"), "--host-syncs-update=second", "-k", "test_reads")
    text = Path("x.toml").read_text()
    assert "d2h_copy" in text and "scalar_read" not in text
    run(TESTS, "--host-syncs-update=third", "-k", "fails_by_itself")
    assert Path("x.toml").read_text() == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no expected counts (x.toml)*--host-syncs-update*writes one"),
        (("--host-syncs-update= ",), "--host-syncs-update needs a reason"),
    ],
)
def test_options_that_say_nothing_are_refused(run: Run, arguments: tuple[str, ...], message: str) -> None:
    result = run(TESTS, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{message}*"])
