"""What released vLLM-Omni's BAGEL waits for, line by line, counted on the simulated device.

``upstream_waits.py RUNNER OUT.json RELEASE...``: DiT is ``examples/vllm_omni_bagel.py`` in an environment of each
release (``upstream_environments``), AR is ``RUNNER RELEASE --stage ar``, a script that runs upstream's own code, and
needs einops. 28 layers of small width, 15 points, guidance on every step, at 256 and 512. Writes each row as soon as it
is counted, and leaves out what the file has already. Needs no GPU.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bagel_perf.records.syncs import SyncReport
from upstream_processes import counted

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from upstream_environments import make_environment

TARGET = Path(__file__).resolve().parents[2] / "examples" / "vllm_omni_bagel.py"
LENGTHS = Path(__file__).with_name("upstream_lengths.py")
PADDING = "0.30.0"
"""The release that pads branches, which LENGTHS does without."""
LAYERS, POINTS, SIZES = 28, 15, (256, 512)
OUTSIDE = ("", "result")
"""Regions of the runner that are none of upstream's: building the model, and looking at what it gave."""


def rows(runner: Path, release: str, done: set[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """A row for each stage, task and size of a release that is not done."""
    with tempfile.TemporaryDirectory() as folder:
        environment = make_environment(Path(folder), release)
        for size, task in itertools.product(SIZES, ("i2i", "t2i")):
            if (release, "dit", task, size) not in done:
                report = counted(f"release@{environment}={TARGET}", settings=settings(task, size))
                yield {"release": release, "stage": "dit", "task": task, "size": size, **lines(report)}
            if release == PADDING and (release, "dit-lengths", task, size) not in done:
                report = counted(f"lengths@{environment}={LENGTHS}:lengths", settings=settings(task, size))
                yield {"release": release, "stage": "dit-lengths", "task": task, "size": size, **lines(report)}
    for size in SIZES:
        if (release, "ar", "i2i", size) not in done:
            options = ["--layers", str(LAYERS), "--res", str(size), "--steps", str(POINTS)]
            report = counted("--", "python", str(runner), release, "--stage", "ar", *options)
            yield {"release": release, "stage": "ar", "task": "i2i", "size": size, **lines(report)}


def settings(task: str, size: int) -> dict[str, str]:
    """Those of the example."""
    chosen = {"LAYERS": LAYERS, "TASK": task, "SIZES": size, "STEPS": POINTS, "INTERVAL": "0,1"}
    return {f"OMNI_BAGEL_{name}": str(value) for name, value in chosen.items()}


def lines(report: SyncReport) -> dict[str, Any]:
    """Waits by region, and each line that waits; what could not be judged, and witnesses that nobody explains."""
    regions: Counter[str] = Counter()
    found = []
    for site in report.sites:
        if site.region not in OUTSIDE:
            regions[site.region] += site.count
            names = ("region", "file", "line", "function", "kind", "count")
            found.append({**{name: getattr(site, name) for name in names}, "expressions": list(site.expressions)})
    found.sort(key=lambda each: (-each["count"], each["file"], each["line"]))
    return {
        "waits": regions.total(),
        "regions": dict(sorted(regions.items())),
        "lines": found,
        "unjudged": dict(report.unjudged),
        "unexplained": report.unexplained,
    }


def written(about: dict[str, Any], kept: list[dict[str, Any]]) -> str:
    """JSON with a row a line; lines that wait are kept of the first size."""
    small = [{name: row[name] for name in row if name != "lines" or row["size"] == SIZES[0]} for row in kept]
    head = "".join(f"{json.dumps(name)}: {json.dumps(value)},\n" for name, value in about.items())
    return "{\n" + head + '"rows": [\n' + ",\n".join(json.dumps(row) for row in small) + "\n]\n}\n"


def main(runner: str, out: Path, releases: list[str]) -> None:
    """Counts what the file lacks."""
    about = {"torch": torch.__version__, "layers": LAYERS, "points": POINTS}
    kept = json.loads(out.read_text())["rows"] if out.exists() else []
    done = {(row["release"], row["stage"], row["task"], row["size"]) for row in kept}
    for release in releases:
        for row in rows(Path(runner).absolute(), release, done):
            kept.append(row)
            out.write_text(written(about, kept), encoding="utf-8")
            print(release, row["stage"], row["task"], row["size"], row["waits"], row["regions"], flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
