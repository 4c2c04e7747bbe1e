"""``syncs -- python ...``: any program, its own streams and exit code, and what it waited for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bagel_perf.cli import main
from bagel_perf.commands.sync_options import checked_command, parse_budgets, parse_quiet_ops, script_of
from bagel_perf.records.errors import UsageError
from bagel_perf.records.syncs import SyncReport
from forked_programs import fork_programs

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).resolve().parents[2]

QUIET = "import torch\nx = torch.ones(3, device='cuda') * 2\n"
WAITS = "import sys, torch\nx = torch.ones(3, device='cuda')\nprint(x.sum().item(), *sys.argv[1:])\n"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a script into an empty current folder; gives its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    fork_programs(monkeypatch)

    def write(text: str, name: str = "script.py") -> str:
        Path(name).write_text(text)
        return name

    return write


def syncs(*arguments: str) -> int:
    return main(["syncs", "--device", "cpu", *arguments])


def report_of(path: str) -> SyncReport:
    data = json.loads(Path(path).read_text())
    assert (data["schema"], data["version"]) == ("bagel-perf.syncs", 1)
    return SyncReport.from_json(data)


@pytest.mark.usefixtures("real_interpreter")
def test_a_program_runs_unchanged_and_its_waits_are_listed(script: Any, capfd: Capture) -> None:
    assert syncs("--json", "out.json", "--", "python", script(WAITS), "a", "--flag") == 0
    out, _ = capfd.readouterr()
    assert out.startswith("3.0 a --flag\n")
    assert "Host syncs of script.py a --flag on the simulated device: 1" in out
    assert "script.py:3  scalar read" in out and "x.sum().item()" in out
    (site,) = report_of("out.json").sites
    assert (site.file, site.line, site.kind, site.count) == ("script.py", 3, "scalar_read", 1)


def test_json_on_stdout_is_alone_there(script: Any, capfd: Capture) -> None:
    assert syncs("--json", "-", "--", "python", script(WAITS)) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["host_syncs"] == 1
    assert "3.0" in err and "scalar read" in err


def test_quiet_leaves_the_programs_own_output(script: Any, capfd: Capture) -> None:
    assert syncs("--quiet", "--", "python", script(WAITS)) == 0
    assert capfd.readouterr() == ("3.0\n", "")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("import sys; sys.exit(3)", 3),
        ("raise SystemExit", 0),
        ("raise SystemExit('no weights')", 1),
        ("1 / 0", 1),
        ("import sys; sys.exit(256 + 4)", 4),
    ],
)
def test_the_exit_code_is_the_programs_own(script: Any, capfd: Capture, text: str, code: int) -> None:
    assert syncs("--json", "out.json", "--", "python", script(f"{WAITS}{text}\n")) == code
    report = report_of("out.json")
    assert (report.exit_code, report.host_syncs) == (code, 1), "what was seen until then is kept"
    _, err = capfd.readouterr()
    assert ("no weights" in err) == ("no weights" in text)


def test_a_traceback_is_the_programs_alone(script: Any, capfd: Capture) -> None:
    text = "import torch\ndef f(x):\n    return x + torch.ones(3)\nf(torch.ones(3, device='cuda'))\n"
    assert syncs("--quiet", "--", "python", script(text)) == 1
    _, err = capfd.readouterr()
    assert "return x + torch.ones(3)" in err and "same device" in err
    assert "bagel_perf" not in err and "runpy" not in err


def test_a_program_is_main_with_its_own_folder_and_arguments(script: Any, capfd: Capture) -> None:
    Path("pkg").mkdir()
    script("VALUE = 7\n", "pkg/helper.py")
    text = "import sys, helper\nassert __name__ == '__main__'\nprint(helper.VALUE, sys.argv, __file__)\n"
    assert syncs("--quiet", "--", "python", "-u", script(text, "pkg/prog.py"), "x") == 0
    assert capfd.readouterr().out == f"7 ['pkg/prog.py', 'x'] {Path('pkg/prog.py').absolute()}\n"


@pytest.mark.usefixtures("real_interpreter")
def test_a_module_runs_as_after_m(script: Any, capfd: Capture) -> None:
    Path("pkg").mkdir()
    script("", "pkg/__init__.py")
    script("import sys\nfrom pkg import __name__ as name\nprint(name, __name__, sys.argv[1:])\n", "pkg/tool.py")
    assert syncs("--quiet", "--", "python", "-m", "pkg.tool", "a") == 0
    assert capfd.readouterr().out == "pkg __main__ ['a']\n"


def test_a_budget_that_is_not_kept_exits_with_7_and_names_the_line(script: Any, capfd: Capture) -> None:
    assert syncs("--budget", "1", "--", "python", script(WAITS)) == 0
    assert syncs("--budget", "0", "--", "python", script(WAITS)) == 7
    last = capfd.readouterr().err.splitlines()[-1]
    assert last == "error: the program waited for the device 1 times; budget 0; look at script.py:3 (1 x scalar_read)"


def test_a_budget_of_a_region_is_kept_per_entry(script: Any, capfd: Capture) -> None:
    text = (
        "import torch\nx = torch.ones(2, device='cuda')\n"
        "for _ in range(3):\n    with torch.cuda.nvtx.range('step'):\n        x.sum().item()\n"
    )
    assert syncs("--quiet", "--budget", "step=1", "--", "python", script(text)) == 0
    assert syncs("--quiet", "--budget", "step=0", "--", "python", script(text)) == 7
    assert syncs("--quiet", "--budget", "stpe=0", "--", "python", script(text)) == 7
    assert "never entered (stpe)" in capfd.readouterr().err


def test_a_budget_over_what_nobody_can_judge_is_inconclusive(script: Any, capfd: Capture) -> None:
    text = f"{QUIET}x[:, None].unique(dim=0)\n"
    assert syncs("--", "python", script(text)) == 0
    assert "cannot be judged without a GPU: aten.unique_dim" in capfd.readouterr().out
    assert syncs("--quiet", "--budget", "0", "--", "python", script(text)) == 4
    assert "budgets are open" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import torch\nDEVICE = 'cpu'\ntorch.ones(3, device=DEVICE).sum().item()\n", "nothing ran on the device"),
        ("", "nothing ran on the device"),
        (
            f"{QUIET}import subprocess\nsubprocess.run([{sys.executable!r}, '-I', '-c', ''])\n",
            "nobody watched these processes",
        ),
    ],
)
def test_a_budget_over_what_was_not_seen_is_inconclusive(script: Any, capfd: Capture, text: str, reason: str) -> None:
    assert syncs("--budget", "0", "--", "python", script(text)) == 4
    out, err = capfd.readouterr()
    assert "spent 0: kept as far as was counted, but OPEN: " in out and "hold it with" not in out
    last = err.splitlines()[-1]
    assert last.startswith("error: budgets are open (the whole); ") and reason in last


def test_a_program_that_waits_for_nothing_is_told_so(script: Any, capfd: Capture) -> None:
    assert syncs("--", "python", script(QUIET)) == 0
    out = capfd.readouterr().out
    assert "on the simulated device: 0" in out and "hold it with a budget: --budget 0" in out


@pytest.mark.usefixtures("real_interpreter")
def test_the_users_own_sitecustomize_runs_under_the_watch(script: Any, capfd: Capture) -> None:
    Path("sitecustomize.py").write_text(
        "import os, torch\nprint(torch.ones(3, device='cuda').sum().item(), __name__)\n"
    )
    os.environ["PYTHONPATH"] = os.pathsep.join([os.getcwd(), str(ROOT)])
    forking = "import os, sitecustomize\nif not os.fork():\n    os._exit(0)\nos.wait()\nraise SystemExit(5)\n"
    assert syncs("--", "python", script(forking)) == 5
    out, err = capfd.readouterr()
    assert out.startswith("3.0 sitecustomize\nHost syncs of script.py on the simulated device: 1\n")
    assert "Exception ignored" not in err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["missing.py"], "command does not exist (missing.py); a program on PATH, or a path"),
        (["script.py"], "command is not executable (script.py); a program on PATH, or a path; put python in front"),
        (["python", "missing.py"], "script does not exist (missing.py)"),
        (["/nonexistent/python3", "script.py"], "command does not exist (/nonexistent/python3)"),
        (["/bin/sh/", "script.py"], "command is not executable (/bin/sh/)"),
    ],
)
def test_what_cannot_be_watched_is_one_line_and_2(
    script: Any, capfd: Capture, command: list[str], message: str
) -> None:
    script(QUIET)
    assert syncs("--", *command) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")


@pytest.mark.parametrize("budget", ["x", "step=", "=3", "-1", "1.5"])
def test_a_budget_that_is_none_is_refused(budget: str) -> None:
    with pytest.raises(UsageError, match="budget is not understood"):
        parse_budgets([budget])


def test_budgets_are_numbers_by_region() -> None:
    assert parse_budgets(["3", "step=0", "a=b=2"]) == {"": 3, "step": 0, "a=b": 2}
    with pytest.raises(UsageError, match="given twice"):
        parse_budgets(["step=0", "step=1"])


@pytest.mark.parametrize("text", ["mine.op", "=why", "mine.op=", "mine.op= "])
def test_a_quiet_operator_has_a_name_and_a_reason(text: str) -> None:
    assert parse_quiet_ops(["mine.op = a=b"]) == {"mine.op": "a=b"}
    with pytest.raises(UsageError, match="quiet operator is not understood"):
        parse_quiet_ops([text])
    with pytest.raises(UsageError, match="given twice"):
        parse_quiet_ops(["a=x", "a=y"])


def test_a_budget_is_open_where_an_operator_ran_that_nobody_can_judge(script: Any, capfd: Capture) -> None:
    name = script(
        """
import torch
x = torch.ones(2, 8, device="cuda")
for region in ("known", "unknown"):
    torch.cuda.nvtx.range_push(region)
    x = x * 2
    if region == "unknown":
        torch.ops.quantized.embedding_bag_byte_prepack(x)
    torch.cuda.nvtx.range_pop()
"""
    )
    operator = "quantized.embedding_bag_byte_prepack"
    assert syncs("--budget", "known=0", "--json", "out.json", "--", "python", name) == 0
    (site,) = report_of("out.json").unjudged_sites
    assert (site.file, site.line, site.region, site.count) == ("script.py", 8, "unknown", 1)
    assert syncs("--budget", "unknown=0", "--", "python", name) == 4
    assert f"{operator}.default, 1 call at script.py:8 in unknown" in capfd.readouterr().out
    quiet = ("--quiet-op", f"{operator}=packs on the device")
    assert syncs("--budget", "unknown=0", "--budget", "0", *quiet, "--", "python", name) == 0
    assert f"{operator}, 1 call: packs on the device" in capfd.readouterr().out


def test_a_bare_python_is_the_one_that_runs_bagel_perf(script: Any) -> None:
    command = ["python3", "-X", "dev", "-u", script(QUIET)]
    assert checked_command(command) == (sys.executable, *command[1:])
    assert checked_command(["/bin/sh", "-c", "true"]) == ("/bin/sh", "-c", "true")


def test_a_python_on_path_that_has_torch_is_the_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\nexit 44\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checked_command(["python", "-m", "x"]) == (sys.executable, "-m", "x")
    other.write_text("#!/bin/sh\nexit 0\n")
    assert checked_command(["python", "-m", "x"]) == (str(other), "-m", "x")


def test_the_script_of_a_command_stands_behind_the_flags_of_python() -> None:
    assert script_of(["/usr/bin/python3", "-W", "error", "-u", "a.py", "-m"]) == "a.py"
    assert [script_of(["python", flag, "a.py"]) for flag in ("-m", "-c", "-")] == [None] * 3
    assert script_of(["bash", "a.py"]) is None
    assert script_of(["python", "-Wignore", "-uXdev", "-P", "--check-hash-based-pycs", "never", "a.py"]) == "a.py"
    assert [script_of(["python", *words]) for words in (["-uc", "pass"], ["-cpass"], ["-mjson.tool", "a.json"])] == [
        None
    ] * 3


def test_ctrl_c_reaches_the_program_and_its_waits_are_kept(script: Any, tmp_path: Path) -> None:
    text = f"{WAITS}import time\nprint('ready', flush=True)\ntime.sleep(60)\n"
    command = [sys.executable, "-m", "bagel_perf", "syncs", "--device", "cpu", "--json", "out.json", "--", "python"]
    job = subprocess.Popen([*command, "-u", script(text)], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert job.stdout is not None
    while "ready" not in job.stdout.readline():
        assert job.poll() is None
    time.sleep(0.2)
    job.send_signal(signal.SIGINT)
    assert job.wait(30) == 130
    assert report_of("out.json").host_syncs == 1


def test_a_report_on_a_torch_that_nobody_tested_says_so(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    name = script("import torch\ntorch.__version__ = '2.16.0'\ntorch.ones(3, device='cuda').sum().item()\n")
    assert main(["syncs", "--device", "cpu", "--json", "out.json", "--", "python", name]) == 0
    assert report_of("out.json").notes[0].startswith("torch 2.16.0 was not tested, so counts may differ")
    assert "- torch 2.16.0 was not tested" in capsys.readouterr().out


REGIONS = """
import torch
import bagel_perf as bp
x = torch.ones(3, device="cuda")
for number in range(4):
    with bp.region("step"):
        x.sum().item()
        if number < 2:
            x.tolist()
"""


def test_entries_of_the_warm_up_spend_no_budget(script: Any) -> None:
    options = ("--skip-first", "step=2", "--budget", "step=1", "--json", "out.json")
    assert syncs(*options, "--", "python", script(REGIONS)) == 0
    report = report_of("out.json")
    assert {(site.line, site.phase): site.count for site in report.sites} == {
        (7, ""): 2,
        (7, "warm-up"): 2,
        (9, "warm-up"): 2,
    }


FORKED = """
import os, torch
span, use = torch.cuda.nvtx.range, lambda: torch.ones(3, device="cuda").sum()
with span("load"):
    pass
with span("step"):
    for waits in (2, 0):
        if not os.fork():
            for _ in range(waits):
                use().item()
            os._exit(0)
        os.wait()
with span("step"):
    use()
"""


def test_a_fork_goes_on_in_the_regions_and_the_window_of_the_process_that_it_is_a_copy_of(script: Any) -> None:
    asked = ["--quiet", "--after", "load", "--json", "out.json", "--budget"]
    assert syncs(*asked, "step=1", "--", "python", script(FORKED)) == 7
    (check,) = report_of("out.json").budgets
    assert (check.num_entries, check.worst, check.num_exceeded) == (3, 2, 1)
    assert syncs(*asked, "step=2", "--", "python", script(FORKED)) == 0


def test_a_region_to_begin_after_that_is_never_left_leaves_budgets_open(script: Any, capfd: Capture) -> None:
    assert syncs("--after", "stop", "--budget", "0", "--", "python", script(REGIONS)) == 4
    assert "counting never began: region stop was never left (name a region" in capfd.readouterr().err


def test_the_first_wait_over_budget_raises_where_it_waits(script: Any, capfd: Capture) -> None:
    assert syncs("--raise", "--budget", "step=1", "--quiet", "--", "python", script(REGIONS)) == 7
    err = capfd.readouterr().err
    assert (
        'script.py", line 9, in <module>\n    x.tolist()\n' in err and "budget 1 of region step, this is wait 2" in err
    )
    assert err.splitlines()[-1].startswith("error: region step waited for the device 2 times")


def test_what_prevents_a_capture_of_a_region_is_listed(script: Any, capfd: Capture) -> None:
    assert syncs("--capture", "step", "--json", "out.json", "--", "python", script(REGIONS)) == 0
    (capture,) = report_of("out.json").captures
    assert (capture.region, capture.num_entries, capture.is_capturable) == ("step", 4, False)
    assert {(each.kind, each.line) for each in capture.blockers} >= {("wait", 7), ("wait", 9)}
    assert "region step of script.py: 2 blockers stop a CUDA graph" in capfd.readouterr().out
