"""Servers that run while a test looks at them from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bagel_perf.records.syncs import SyncReport


@contextmanager
def serving(*command: str, **variables: str) -> Iterator[tuple[int, IO[str], IO[str]]]:
    """A server that runs, its number, and what it hears and says."""
    environment = {**os.environ, **variables}
    with subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        try:
            yield server.pid, server.stdin, server.stdout
        finally:
            server.stdin.close()
            assert server.wait(60) == 0


def attach(pid: int, action: str) -> SyncReport | None:
    command = [sys.executable, "-m", "bagel_perf", "syncs", "--attach", str(pid), "--json", "out.json", action]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return SyncReport.from_json(json.loads(Path("out.json").read_text())) if action == "report" else None


def counts(report: SyncReport | None) -> dict[str, int | None]:
    assert report is not None
    return {each.name: each.host_syncs for each in report.processes if each.used_device}
