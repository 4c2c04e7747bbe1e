"""The gate in a copy of the tree, so that what is put into the copy is what runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bagel_perf.records.gates import EXPECTED_FILE, Finding, FindingKind, GateReport

LIMIT_S = 900.0
"""Of one gate, which takes 25 s on two cores that are its own."""
COPIED = ("bagel_perf", "kernels_baseline", "kernels_optimized", str(EXPECTED_FILE.parent), "pyproject.toml")
GATE = (sys.executable, "-m", "bagel_perf", "gate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A gate that has run in a copy; ``exit_code`` is None where it took too long, ``error`` its last line."""

    exit_code: int | None
    findings: tuple[Finding, ...]
    worst: FindingKind | None
    error: str
    seconds: float


@contextmanager
def copied(root: Path) -> Iterator[Path]:
    """A folder with all that the gate reads, gone at the end of the context."""
    with tempfile.TemporaryDirectory(prefix="bagel-perf-") as name:
        copy = Path(name).resolve()
        for part in COPIED:
            if (root / part).is_dir():
                shutil.copytree(root / part, copy / part)  # with its byte code, which knows the source by date and size
            else:
                shutil.copy(root / part, copy / part)
        yield copy


OTHER_CPU = {"ATEN_CPU_CAPABILITY": "default"}
"""Has torch take the kernels of another kind of CPU, on which recorded hashes do not hold."""


def run_gate(copy: Path, *arguments: str, on_other_cpu: bool = False) -> Ended:
    """Runs the gate of a copy in the copy, whose packages come before those that are installed."""
    path = copy / "gate.json"
    begun_s = time.monotonic()
    exit_code, error = _ended(
        (*GATE, *arguments, "--quiet", "--json", str(path)), copy, OTHER_CPU if on_other_cpu else {}
    )
    seconds = time.monotonic() - begun_s
    report = GateReport.from_json(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None
    return Ended(
        exit_code=exit_code,
        findings=report.findings if report else (),
        worst=report.worst if report else None,
        error=error,
        seconds=seconds,
    )


def _ended(command: Sequence[str], folder: Path, settings: Mapping[str, str]) -> tuple[int | None, str]:
    """Exit code, None where it took over the limit, and the last line of stderr."""
    names = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, **settings, "PYTHONPATH": names}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            _, said = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            process.terminate()
            return None, f"not done after {LIMIT_S:.0f} s"
        except BaseException:
            process.terminate()  # it ends its worker, which it could not if it were killed
            raise
    return process.returncode, said.strip().splitlines()[-1].removeprefix("error: ") if said.strip() else ""
