"""``bagel-perf serve`` on the command line: what it says, and what it refuses before anything is loaded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from bagel_perf.cli import main
from bagel_servers import served


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variant", "fastest"], "unknown variant (fastest)"),
        (["--port", "99999"], "port is out of range (99999); 0 to 65535"),
        (["--max-queue", "-1"], "--max-queue is out of range (-1)"),
        (["--dit-replicas", "2"], "one process has no replicas; add --split"),
        (["--api-key", "a\nb"], "the API key cannot stand in a header"),
        (["--weights", "nowhere"], "weights folder does not exist (nowhere)"),
        (["--preset", "8b"], "unknown preset (8b)"),
    ],
)
def test_a_wrong_option_is_one_line_and_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_an_address_that_is_taken_is_one_line_and_5() -> None:
    with served() as server:
        port = str(urlsplit(server.url).port)
        command = [sys.executable, "-m", "bagel_perf", "serve", "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 5
    assert done.stderr == (
        f"error: cannot listen there (127.0.0.1:{port}); Address already in use; --port 0 takes a free port\n"
    )


def test_a_server_says_its_address_in_one_line_and_that_it_is_open_to_all() -> None:
    command = [sys.executable, "-m", "bagel_perf", "serve", "--port", "0", "--host", "0.0.0.0", "--device", "cpu"]
    environment = {name: value for name, value in os.environ.items() if name != "BAGEL_PERF_API_KEY"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert line.startswith("serving bagel-tiny under fused on ") and "at http://0.0.0.0:" in line and out == ""
    assert "anybody who reaches 0.0.0.0 may use this server" in err
    assert process.returncode == 0
