"""Streams that are closed or full lose what they would have shown, and neither the JSON nor the exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bagel_perf.commands.common import LenientStream

ROOT = Path(__file__).resolve().parents[2]
WAITS = "import torch\nx = torch.ones(3, device='cuda')\nx.sum().item()\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script in an otherwise empty current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    Path("script.py").write_text(WAITS)


def shell(line: str) -> tuple[int, str]:
    """Exit code of bagel-perf, and what is left of stderr, of a line for bash in which BP is the command."""
    text = f"BP() {{ '{sys.executable}' -m bagel_perf \"$@\"; }}\n{line}\nexit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


SYNCS = "BP syncs --device cpu --json {} {}"


@pytest.mark.parametrize("streams", [">/dev/full 2>/dev/full", ">&- 2>&- <&-", "2>&1 | true"])
def test_a_program_is_judged_and_its_report_kept_whatever_takes_the_text(streams: str) -> None:
    assert shell(f"{SYNCS.format('out.json', '--budget 0 -- python script.py')} {streams}") == (7, "")
    assert json.loads(Path("out.json").read_text())["host_syncs"] == 1


@pytest.mark.parametrize(
    ("stream", "reason"),
    [(">/dev/full", "No space left on device"), ("| true", "Broken pipe"), (">&-", "it is closed")],
)
def test_json_that_stdout_does_not_take_is_6_and_one_line(stream: str, reason: str) -> None:
    code, err = shell(f"{SYNCS.format('-', '-- true')} {stream}")
    assert code == 6
    assert err.splitlines()[-1] == f"error: stdout cannot be written; {reason}; --json FILE keeps what was measured"


@pytest.mark.parametrize("stream", [">/dev/full", "| true", ">&-", "2>&-"])
@pytest.mark.parametrize(("command", "code"), [("BP --help", 0), ("BP trace missing.json", 2)])
def test_other_commands_end_as_they_would(command: str, code: int, stream: str) -> None:
    assert shell(f"{command} {stream}")[0] == code


def test_a_stream_goes_on_after_its_first_failure_and_tells_it() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = LenientStream(os.fdopen(writer, "w", buffering=1))
    for _ in range(3):
        assert stream.write("line\n") == 5
    stream.flush()
    assert isinstance(stream.problem, BrokenPipeError)
    assert LenientStream(None).write("x") == 1
