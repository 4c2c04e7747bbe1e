"""Commands with a scripted worker in an empty folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bagel_perf import launch
from forked_programs import start_programs

ROOT = Path(__file__).resolve().parents[2]
WORKER = ROOT / "tests" / "support" / "scripted_worker.py"

UseWorker = Callable[[str], tuple[str, ...]]


@pytest.fixture
def use_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UseWorker:
    """Makes every launch start a worker that behaves as named, and gives its command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT) + os.pathsep + os.environ.get("PYTHONPATH", ""))

    def use(behaviour: str) -> tuple[str, ...]:
        command = (sys.executable, str(WORKER), behaviour)
        monkeypatch.setattr(launch, "WORKER_COMMAND", command)
        return command

    return use


@pytest.fixture
def real_interpreter(script: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that are started after all where ``script`` would have them forked."""
    start_programs(monkeypatch)
