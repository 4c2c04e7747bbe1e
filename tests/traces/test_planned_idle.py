"""Programs that were recorded on a GPU with planned idle times are charged as planned."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "reports" / "planned-idle"


def judged(folder: Path) -> subprocess.CompletedProcess[str]:
    script = ROOT / "tests" / "benchmarks" / "planned_idle.py"
    command = [sys.executable, str(script), "--judge", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(RECORDED, tmp_path_factory.mktemp("planned") / "traces"))


def test_each_planned_idle_time_is_found_within_five_percent(folder: Path) -> None:
    told = judged(folder)
    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stdout.splitlines()[-1] == "all within the tolerance, and everything adds up"
    assert json.loads((folder / "planned_idle.json").read_text())["max_off"] == 0.05


def test_another_plan_is_not_found(folder: Path) -> None:
    plan = json.loads((folder / "planned.json").read_text())
    plan["programs"]["dependency"]["planned"][0]["planned_ms"] *= 1.1
    (folder / "planned.json").write_text(json.dumps(plan))
    told = judged(folder)
    assert told.returncode == 1
    assert "dependency: queued" in told.stdout
