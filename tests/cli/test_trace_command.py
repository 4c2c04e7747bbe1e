"""``trace`` keeps the contract of the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bagel_perf.cli import main
from bagel_perf.records.traces import TraceReport
from kineto_files import new_file, write
from nsys_files import write_new
from trace_scenes import item, two_steps

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return write(tmp_path / "a.json.gz", new_file(two_steps()), packed=True)


def test_a_trace_is_printed_on_stdout_and_exits_with_0(trace: Path, capsys: Capture) -> None:
    assert main(["trace", str(trace)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].startswith("a.json.gz: torch.profiler trace")
    assert out.splitlines()[-1].startswith("next: ")
    assert err == ""


def test_an_nsys_export_takes_the_same_way(tmp_path: Path, capsys: Capture) -> None:
    assert main(["trace", str(write_new(two_steps(), tmp_path / "a.sqlite"))]) == 0
    assert "Nsight Systems trace, 2024.6.2" in capsys.readouterr().out


def test_a_trace_is_read_from_a_pipe(trace: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "bagel_perf", "trace", "-"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    packed = trace.read_bytes()
    done = subprocess.run(command, input=packed, capture_output=True, check=True, env=environment)
    assert done.stdout.startswith(b"stdin: torch.profiler trace")
    done = subprocess.run(command, input=packed[:200], capture_output=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"error: trace is cut off (-)")


def test_json_on_stdout_is_alone_there_and_holds_no_path(trace: Path, capsys: Capture) -> None:
    assert main(["trace", str(trace), "--json", "-"]) == 0
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert (data["schema"], data["version"], data["host_syncs"], data["launches"]) == ("bagel-perf.trace", 1, 2, 6)
    assert TraceReport.from_json(data).gpu_idle_ms == pytest.approx(0.106)
    assert "Host syncs" in err
    assert str(trace.parent) not in out
    assert "/somewhere/" not in out


def test_json_goes_to_a_file_and_quiet_prints_nothing(trace: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["trace", str(trace), "--quiet", "--json", str(tmp_path / "out.json")]) == 0
    assert capsys.readouterr() == ("", "")
    assert json.loads((tmp_path / "out.json").read_text())["difference"] is None


def test_against_shows_the_difference_and_puts_it_into_the_json(trace: Path, tmp_path: Path, capsys: Capture) -> None:
    scene = two_steps()
    item(scene, 400, (420, 422), 430)
    scene.kernel((440, 444), (450, 460))
    after = write(tmp_path / "b.json", new_file(scene))
    assert main(["trace", str(after), "--against", str(trace), "--json", str(tmp_path / "out.json")]) == 0
    assert "Against a.json.gz" in capsys.readouterr().out
    found = json.loads((tmp_path / "out.json").read_text())["difference"]
    assert found["reference"] == "a.json.gz"
    assert {row["change"] for row in found["syncs"]} == {"new"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.json"], "error: trace cannot be read (gone.json); No such file or directory; record one with"),
        (["."], "error: trace is empty (empty.json)"),
        (["no traces"], "error: folder has no trace (no traces); files that end in .json and .sqlite, packed"),
        (["a.json.gz", "--against", "gone.json"], "error: trace cannot be read (gone.json)"),
        (["-", "--against", "-"], "error: stdin can be read once (-); one of FILE and --against"),
        (["a.json.gz", "--top", "0"], "error: too few rows (0); --top 1 or more"),
        (["a.json.gz", "--json", "no/such/out.json"], "error: JSON cannot be written there (no/such/out.json)"),
        (["a.qdrep"], "error: report has to be exported first (a.qdrep);"),
        (["empty.json"], "error: trace is empty (empty.json)"),
        ([], "error: Missing argument 'FILE...'"),
    ],
)
def test_what_cannot_be_done_ends_in_one_line_and_2(
    trace: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(trace.parent)
    Path("empty.json").touch()
    Path("no traces").mkdir()
    assert main(["trace", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_debug_shows_where_it_failed(tmp_path: Path, capsys: Capture) -> None:
    assert main(["trace", str(tmp_path / "gone.json"), "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_neither_torch_nor_pandas_is_needed(trace: Path) -> None:
    script = (
        "import sys; from bagel_perf.cli import main; code = main(['trace', sys.argv[1], '--quiet']); "
        "print(code, *({'torch', 'pandas', 'transformers'} & sys.modules.keys()))"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", script, str(trace)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, env=environment)
    assert done.stdout.split() == ["0"]
