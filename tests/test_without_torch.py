"""Where torch is not installed: results and traces are read, and what measures ends in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bagel_perf.pythons import require_torch
from bagel_perf.records.errors import EnvironmentUnfit

pytest_plugins = ("pytester",)

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "reports" / "2026-12-01_h200_fc53e68"
TRACE = ROOT / "tests" / "data" / "traces" / "torch211_h100.json.gz"
SYNCS = str(ROOT / "reports" / "syncs-h100" / "three_loops.json")
LINE = (
    f"torch is not installed ({sys.executable}); show, report, trace, gate result and doctor do without; "
    "pip install 'bagel-perf[torch]'"
)

SCRIPT = """
import contextlib, io, json, sys
sys.modules.update(torch=None, nvtx=None, transformers=None, safetensors=None)
import bagel_perf as bp
from bagel_perf.cli import main

def outcome(argv):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(argv)
    return code, err.getvalue()

def raised(function):
    try:
        return str(function())
    except Exception as problem:
        return f"{type(problem).__name__}: {problem}"

result, trace, *commands = json.loads(sys.argv[1])
calls = {
    "load": lambda: len(bp.load(result).deltas),
    "read_trace": lambda: bp.read_trace(trace).host_syncs,
    "version": lambda: bp.__version__ != "",
    "watch_host_syncs": lambda: bp.watch_host_syncs("cuda"),
    "region": lambda: bp.region("step"),
    "open_simulated_device": bp.open_simulated_device,
    "compare files": lambda: bp.compare("x.py:plain", "x.py:fast"),
    "compare functions": lambda: bp.compare(min, max),
}
found = {name: raised(call) for name, call in calls.items()}
print(json.dumps([[outcome(argv) for argv in commands], found]))
"""
TESTS = """
import pytest

from bagel_perf.pythons import require_torch
from bagel_perf.records.errors import EnvironmentUnfit

def test_of_somebody() -> None: ...

@pytest.mark.max_host_syncs(0)
def test_marked() -> None: ...

def test_with_fixture(host_syncs) -> None: ...
"""


def run_all(folder: Path, commands: list[list[str]]) -> Any:
    """What each command ended in, as (exit code, stderr), and what each public name gave."""
    asked = json.dumps([str(RESULT), str(TRACE), *commands])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{SCRIPT}", asked],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_reading_does_without_torch_and_measuring_says_in_one_line_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("")
    (tmp_path / "golden").mkdir()
    reading = [
        ["--help"],
        ["--version"],
        ["show", str(RESULT)],
        ["report", SYNCS, "--out", "page", "--quiet"],
        ["trace", str(TRACE)],
        ["gate", "result", str(RESULT), "--limit", "e2e:3%"],
        ["syncs", SYNCS, "--against", SYNCS],
        ["doctor", "--quiet"],
    ]
    measuring = [
        ["compare", "--out", "new"],
        ["compare", "x.py:plain", "x.py:fast", "--out", "new"],
        ["syncs"],
        ["syncs", "x.py:plain"],
        ["syncs", "--", "python", "x.py"],
        ["syncs", "x.py:plain", "--against", SYNCS],
        ["gate"],
        ["gate", "counts", "x.py:plain", "--update", "first"],
        ["gate", "counts", "--update", "first", "--", "python", "x.py"],
        ["gate", "revision", "HEAD"],
        ["verify", "golden"],
    ]
    measuring[6] += ["--expected", str(ROOT / "reports" / "expected" / "tiny.toml")]
    ended, found = run_all(tmp_path, reading + measuring)
    read, measured = ended[: len(reading)], ended[len(reading) :]
    assert {" ".join(argv): end for argv, end in zip(reading, read, strict=True) if end[0] != 0} == {}
    assert [end for end in measured if end != [5, f"error: {LINE}\n"]] == []
    assert not (tmp_path / "new").exists()
    refused = dict.fromkeys(list(found)[3:], f"EnvironmentUnfit: {LINE}")
    assert found == {"load": "12", "read_trace": "16", "version": "True", **refused}


def test_the_plugin_leaves_a_test_run_alone_where_torch_is_not_installed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(TESTS)
    pytester.makeconftest("import sys; sys.modules.update(torch=None, nvtx=None)")
    plugin = ("-p", "bagel_perf.pytest_plugin")
    one = pytester.runpytest_subprocess(*plugin, "-W", "error")
    assert one.parseoutcomes() == {"passed": 1, "errors": 2}
    assert one.stdout.str().count(f"\n{LINE}\n") == 2
    expecting = pytester.runpytest_subprocess(*plugin, "--host-syncs-expect", "x.toml")
    assert expecting.ret == pytest.ExitCode.USAGE_ERROR and LINE in expecting.stderr.str()


def test_another_python_is_asked_for_its_own_torch_and_may_use_ours(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')  # one without packages
    python.chmod(0o755)
    with pytest.raises(EnvironmentUnfit, match=rf"torch is not installed \({python}\)"):
        require_torch(str(python))
    require_torch(str(python), with_ours=True)
    require_torch(str(tmp_path / "nothing"))  # whoever starts it says why it cannot be started
