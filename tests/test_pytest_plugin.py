"""The plugin: a test that waits too often fails with the table of its sites; all other tests are left alone."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch  # noqa: F401 - pytester forgets modules that were not there before its test

import bagel_perf.report.sync_tables  # noqa: F401 - likewise

pytest_plugins = ("pytester",)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> object:
    """Runs the text of a test file with the plugin and on the simulated device.

    In this process, which has torch; in one of its own for what has to be seen in a fresh one.
    """
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run_text(text: str, *arguments: str, fresh: bool = False) -> pytest.RunResult:
        pytester.makepyfile(text)
        arguments = ("-p", "bagel_perf.pytest_plugin", "--host-syncs-device=cpu", *arguments)
        if fresh:
            return pytester.runpytest_subprocess(*arguments)
        return pytester.runpytest_inprocess(*arguments)

    return run_text


def outcomes(run: object, text: str, *arguments: str, fresh: bool = False) -> tuple[dict[str, int], str]:
    result = run(text, *arguments, fresh=fresh)  # type: ignore[operator]
    return result.parseoutcomes(), result.stdout.str()


def failures(out: str) -> dict[str, str]:
    """What pytest prints of each failed test; without the summary, whose lines are whole where CI is set."""
    (details,) = re.findall(r"^=+ FAILURES =+$(.*?)^=+ short test summary info", out, re.MULTILINE | re.DOTALL)
    _, *parts = re.split(r"^_+ (test_\w+) _+$", details, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_a_test_without_waits_passes_and_one_with_waits_fails_with_its_sites(run: object) -> None:
    found, out = outcomes(
        run,
        """
        import pytest, torch

        @pytest.fixture
        def x():
            return torch.ones(3).cuda()  # waits, but not in the test's call

        @pytest.mark.max_host_syncs(0)
        def test_quiet(x):
            assert (x * 2).sum().device.type == "cuda"

        @pytest.mark.max_host_syncs(2)
        def test_within_its_limit(x):
            x.sum().item()
            x.cpu()

        @pytest.mark.max_host_syncs(1)
        def test_over_its_limit(x):
            if x[0] > 0:
                x.tolist()
        """,
        fresh=True,
    )
    assert found == {"passed": 2, "failed": 1}
    assert "2 host syncs, 1 allowed" in out
    assert "scalar read" in out and "x.tolist()" in out and "instead:" in out


def test_allowed_waits_do_not_count_and_errors_of_the_test_stay(run: object) -> None:
    found, out = outcomes(
        run,
        """
        import pytest, torch
        from bagel_perf.syncs import allow_sync

        @pytest.mark.max_host_syncs(0)
        def test_allowed():
            with allow_sync("the result"):
                assert torch.ones(2, device="cuda").sum().item() == 2

        @pytest.mark.max_host_syncs(0)
        def test_broken():
            assert torch.ones(2, device="cuda").sum().item() == 3
        """,
    )
    assert found == {"passed": 1, "failed": 1}
    assert "assert 2.0 == 3" in out and "host syncs" not in out


def test_the_fixture_tells_the_count_at_any_time(run: object) -> None:
    found, _ = outcomes(
        run,
        """
        import torch

        def test_counts(host_syncs):
            x = torch.arange(3, device="cuda")
            assert host_syncs.host_syncs == 0
            x.max().item()
            assert host_syncs.host_syncs == 1
            (site,) = host_syncs.sites
            assert (site.kind, site.expressions) == ("scalar_read", ("x.max().item()",))
        """,
    )
    assert found == {"passed": 1}


def test_what_cannot_be_judged_is_no_pass(run: object) -> None:
    text = """
        import pytest, torch

        @pytest.mark.max_host_syncs(0{})
        def test_unique():
            torch.zeros(3, 2, device="cuda").unique(dim=0)
        """
    found, out = outcomes(run, text.format(""))
    assert found == {"failed": 1} and "cannot judge" in out and "unique_dim" in out
    assert outcomes(run, text.format(", allow_unjudged=True"))[0] == {"passed": 1}


def test_a_test_may_answer_for_an_operator_that_cannot_be_judged(run: object) -> None:
    text = """
        import pytest, torch

        @pytest.mark.max_host_syncs(0, quiet_ops={})
        def test_pack():
            torch.ops.quantized.embedding_bag_byte_prepack(torch.ones(2, 8, device="cuda"))
        """
    name = "quantized.embedding_bag_byte_prepack"
    assert outcomes(run, text.replace("{}", f"{{{name!r}: 'it only launches'}}"))[0] == {"passed": 1}
    assert outcomes(run, text.replace("{}", f"{{{name[:-1]!r}: 'another'}}"))[0] == {"failed": 1}
    found, out = outcomes(run, text.replace("{}", f"{{{name!r}: ''}}"))
    assert found == {"errors": 1} and "reasons by operator" in out


RAISING = """
import pytest, torch

def branch(x):
    if x.sum() > 0:
        return 1

@pytest.mark.max_host_syncs(1)
def test_over():
    x = torch.ones(3, device="cuda")
    x.tolist()
    branch(x)
    assert False, "never reached"

@pytest.mark.max_host_syncs(1)
def test_within():
    torch.ones(3, device="cuda").tolist()

@pytest.mark.max_host_syncs(0, on_wait="count")
def test_counts_all_the_same():
    branch(torch.ones(3, device="cuda"))

@pytest.mark.max_host_syncs(0)
def test_swallows_it():
    try:
        branch(torch.ones(3, device="cuda"))
    except Exception:
        pass

@pytest.mark.max_host_syncs(0, allow_unjudged=True)
def test_takes_a_risk():
    torch.zeros(3, 2, device="cuda").unique(dim=0)

def test_by_the_fixture(host_syncs):
    branch(torch.ones(3, device="cuda"))
    assert host_syncs.host_syncs == 1
"""


def test_with_the_option_a_test_ends_at_the_first_wait_above_its_limit(run: object) -> None:
    found, out = outcomes(run, RAISING, "--host-syncs-raise")
    told = failures(out)
    assert found == {"passed": 3, "failed": 3} and set(told) == {
        "test_over",
        "test_counts_all_the_same",
        "test_swallows_it",
    }
    stack = told["test_over"].strip().splitlines()
    assert "waits for the device (scalar_read, x.sum() > 0); budget 1, this is wait 2; instead" in told["test_over"]
    assert any(line.startswith(">") and "if x.sum() > 0:" in line for line in stack)
    assert stack[-1].endswith(": SyncBudgetExceeded") and ".py:4:" in stack[-1], "it ends at the line that waits"
    assert "1 host syncs, 0 allowed" in told["test_counts_all_the_same"]
    assert "1 host syncs, 0 allowed" in told["test_swallows_it"]


def test_without_it_the_mark_decides(run: object) -> None:
    found, out = outcomes(run, RAISING.replace("max_host_syncs(1)", "max_host_syncs(1, on_wait='raise')"))
    told = failures(out)
    assert found == {"passed": 3, "failed": 3}
    assert "this is wait 2" in told["test_over"] and "1 host syncs, 0 allowed" in told["test_swallows_it"]
    _, out = outcomes(run, RAISING)
    assert "never reached" in failures(out)["test_over"]


def test_other_words_for_it_are_refused(run: object) -> None:
    found, out = outcomes(run, RAISING.replace('"count"', "'stop'"), "-k", "all_the_same")
    assert found["errors"] == 1 and "on_wait of max_host_syncs is 'count' or 'raise'; not 'stop'" in out


@pytest.mark.parametrize("arguments", ["", "-1", "True", "'none'", "1, 2", "0, budget=3"])
def test_a_mark_that_says_nothing_is_refused(run: object, arguments: str) -> None:
    text = f"import pytest\n@pytest.mark.max_host_syncs({arguments})\ndef test_nothing(): pass\n"
    found, out = outcomes(run, text)
    assert found == {"errors": 1} and "takes one number of host syncs" in out


def test_other_tests_are_left_alone_and_import_no_torch(run: object) -> None:
    text = "import sys\ndef test_plain():\n    assert 'torch' not in sys.modules\n"
    found, _ = outcomes(run, text, "--strict-markers", fresh=True)
    assert found == {"passed": 1}


def test_the_plugin_is_an_entry_point() -> None:
    from importlib.metadata import entry_points

    (plugin,) = (each for each in entry_points(group="pytest11") if each.name == "bagel_perf")
    assert plugin.value == "bagel_perf.pytest_plugin"
    assert sys.modules["bagel_perf.pytest_plugin"]


SAYS_NOTHING = {
    "assert torch.ones(3).sum().item() == 3": "nothing ran on the device",
    "import json": "nothing ran on the device",
    "torch.cuda.is_available(), torch.cuda.Event(), cuda.shape": "nothing ran on the device",
    "x = cuda * 2; subprocess.run([sys.executable, '-c', ''])": "nobody watched these processes",
    "cuda.unique(dim=0)": "cannot judge aten.unique_dim",
}


@pytest.mark.parametrize("how", ["mark", "fixture"])
def test_a_count_that_says_nothing_is_no_pass(run: object, how: str) -> None:
    text = "import pytest, subprocess, sys, torch\n"
    text += "@pytest.fixture\ndef cuda():\n    return torch.ones(3, 2, device='cuda')\n"
    for number, body in enumerate(SAYS_NOTHING):
        mark = "@pytest.mark.max_host_syncs(0)\n" if how == "mark" else ""
        end = "    assert host_syncs.host_syncs == 0\n" if how == "fixture" else ""
        text += f"{mark}def test_{number}(cuda{', host_syncs' * (how == 'fixture')}):\n    {body}\n{end}"
    found, out = outcomes(run, text)
    assert found == {"failed": len(SAYS_NOTHING)}
    opened = [line for line in out.splitlines() if line.startswith("0 host syncs counted, which is open: ")]
    assert all(reason in line for line, reason in zip(opened, SAYS_NOTHING.values(), strict=True))


def test_a_mark_may_let_other_processes_pass_and_forks_that_use_no_device_pass_anyway(run: object) -> None:
    found, _ = outcomes(
        run,
        """
        import multiprocessing, subprocess, sys
        import pytest, torch

        @pytest.mark.max_host_syncs(0, allow_unwatched=True)
        def test_another():
            torch.ones(3, device="cuda").sum()
            subprocess.run([sys.executable, "-c", ""], check=True)

        @pytest.mark.max_host_syncs(1)
        def test_fork():
            torch.ones(3, device="cuda").sum().item()
            process = multiprocessing.get_context("fork").Process(target=print)
            process.start()
            process.join()
            subprocess.run(["uname", "-a"], check=True)
        """,
    )
    assert found == {"passed": 2}


@pytest.mark.parametrize("in_ci", ["", "true"])
def test_a_failure_on_a_torch_that_nobody_tested_says_so(
    run: object, monkeypatch: pytest.MonkeyPatch, in_ci: str
) -> None:
    monkeypatch.setenv("CI", in_ci)
    monkeypatch.setattr("torch.__version__", "2.16.0")
    found, out = outcomes(
        run,
        """
        import pytest, torch

        @pytest.mark.max_host_syncs(0)
        def test_waits():
            torch.ones(3, device="cuda").sum().item()

        @pytest.mark.max_host_syncs(0)
        def test_cannot_be_judged():
            torch.linalg.eigvals(torch.eye(2, device="cuda"))
        """,
    )
    assert found == {"failed": 2}
    said = {name: text.count("torch 2.16.0 was not tested") for name, text in failures(out).items()}
    assert said == {"test_waits": 1, "test_cannot_be_judged": 1}
