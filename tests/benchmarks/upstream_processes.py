"""The stages of a released vLLM-Omni's BAGEL, in two processes as it serves them and alone: are the counts the same?

``upstream_processes.py RUNNER VERSION OUT.json [OPTION...]``: RUNNER is a script that runs upstream's own code with
random weights (``RUNNER VERSION --stage ar|dit OPTION...``). Each stage is counted alone by ``syncs``; both,
in processes that ``multiprocessing`` spawns under vLLM-Omni's names, are counted by one ``syncs`` that was told of
neither. Prints a row a stage; ends in 1 where a line waits another number of times. Needs no GPU.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from bagel_perf.records.syncs import SyncReport
from bagel_perf.verdicts.merging import MAIN

STAGES = {"StageEngineCoreProc": "ar", "StageDiffusionProc": "dit"}
Lines = Counter[tuple[str, str, int, str]]
"""Waits by region, file, line and kind."""


def run_stage(stage: str, runner: str, words: Sequence[str]) -> None:
    """Runs a stage in this process as if it had been called alone."""
    version, *options = words
    sys.argv = [runner, version, "--stage", stage, *options]
    runpy.run_path(runner, run_name="__main__")


def serve(runner: str, words: Sequence[str]) -> int:
    """Runs both stages at once, each in a process of its own; gives how many of them failed."""
    context = multiprocessing.get_context("spawn")
    stages = [
        context.Process(target=run_stage, args=(stage, runner, words), name=name) for name, stage in STAGES.items()
    ]
    for each in stages:
        each.start()
    for each in stages:
        each.join()
    return sum(each.exitcode != 0 for each in stages)


def counted(*subject: str, settings: Mapping[str, str] = MappingProxyType({})) -> SyncReport:
    """What ``syncs`` says of a target or a command on the simulated device."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "out.json")
        start = [sys.executable, "-m", "bagel_perf", "syncs", "--device", "cpu", "--quiet", "--json", str(path)]
        # Two processes share few cores.
        subprocess.run([*start, *subject], env={**os.environ, "OMP_NUM_THREADS": "1", **settings}, check=True)
        return SyncReport.from_json(json.loads(path.read_text()))


def lines_of(report: SyncReport, process: str) -> Lines:
    """The waits of one process by line."""
    found: Lines = Counter()
    for site in report.sites:
        if site.process == process:
            found[site.region, site.file, site.line, site.kind] += site.count
    return found


def compared(runner: str, words: Sequence[str]) -> list[dict[str, Any]]:
    """A row a stage: its waits alone, in its process, by region, and on how many lines they differ."""
    together = counted("--", "python", __file__, "serve", runner, *words)
    print(f"both at once: {together.host_syncs} waits, {len(together.unwatched)} unwatched processes")
    rows = []
    for name, stage in STAGES.items():
        alone = counted("--", "python", runner, words[0], "--stage", stage, *words[1:])
        expected, found = lines_of(alone, MAIN), lines_of(together, name)
        regions: Counter[str] = Counter()
        for (region, *_), count in found.items():
            regions[region or "outside"] += count
        num_differing = sum(expected[line] != found[line] for line in expected.keys() | found.keys())
        rows.append(
            {
                "version": words[0],
                "process": name,
                "stage": stage,
                "alone": alone.host_syncs,
                "in_process": found.total(),
                "lines": len(found),
                "differing_lines": num_differing,
                "regions": dict(sorted(regions.items())),
                "unjudged": {**alone.unjudged, **together.unjudged},
            }
        )
        print(f"{name:20} {found.total():6} in its process, {alone.host_syncs:6} alone, {num_differing} lines differ")
    return rows


def main(runner: str, version: str, out: Path, options: Sequence[str]) -> int:
    """Compares, and adds the rows to a file."""
    rows = compared(str(Path(runner).absolute()), (version, *options))
    before = json.loads(out.read_text())["rows"] if out.exists() else []
    about = {"torch": torch.__version__, "options": list(options)}
    out.write_text(json.dumps({"rows": [*before, *({**row, **about} for row in rows)]}, indent=1), encoding="utf-8")
    return int(any(row["differing_lines"] or row["alone"] != row["in_process"] for row in rows))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        sys.exit(serve(sys.argv[2], sys.argv[3:]))
    sys.exit(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:]))
