"""Waits of BAGEL's stages by place: of vLLM-Omni's own code, of the baseline, and as docs/bagel.md has them."""

from __future__ import annotations

import dataclasses
import json
import linecache
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bagel_perf.measure.stages import run_stages
from bagel_perf.records.sites import SyncSite
from bagel_perf.records.syncs import SyncReport
from bagel_perf.simulated import SimulatedDevice
from bagel_perf.subjects.bagel.edit import RequestInputs, edit_subject
from bagel_perf.subjects.bagel.loading import bind, with_regions
from bagel_perf.subjects.bagel.model.bagel import Bagel
from bagel_perf.subjects.bagel.model.parameters import map_tensors
from bagel_perf.syncs import watch_host_syncs

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENT = REPOSITORY / "docs" / "bagel.md"
REGIONS = ("denoise", "decode", "prefill", "adjust_positions", "mot_forward")
OUTSIDE = "none"
"""How the document calls what lies in no region of a request."""
FILES = {
    "diffusion/models/bagel/bagel_transformer.py": "bt",
    "diffusion/models/bagel/pipeline_bagel.py": "pb",
    "model_executor/models/bagel/bagel.py": "ar",
}
Place = str
"""A short name of a file, and a line of it: bt:604."""
Waits = Counter[tuple[str, Place, str]]
"""By region, place and kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """What a run of vLLM-Omni's code waited for, and the rows of its packed prefill; 0 where there was none."""

    waits: Waits
    num_positions: int


def run_upstream(runner: Path, folder: Path, release: str, cases: Sequence[str]) -> list[Upstream]:
    """Counts requests of a release, each by its options, with the command line that a user would type."""
    path = folder / f"{release}.json"
    command = [sys.executable, "-m", "bagel_perf", "syncs", "--device", "cpu", "--quiet", "--json", str(path), "--"]
    script = REPOSITORY / "tests" / "scripts" / "upstream_cases.py"
    done = subprocess.run(
        [*command, "python", str(script), str(runner), release, *cases],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = SyncReport.from_json(json.loads(path.read_text(encoding="utf-8")))
    assert (report.unexplained, report.unjudged, report.device) == (0, {}, "simulated")
    packed = iter(re.findall(r"packed prefill: .* of (\d+) tokens", done.stdout))
    return [
        Upstream(
            waits=_of_request(report.sites, f"case {number}"), num_positions=0 if "--t2i" in case else int(next(packed))
        )
        for number, case in enumerate(cases)
    ]


def _of_request(sites: Sequence[SyncSite], case: str) -> Waits:
    """Those of upstream's lines that run in a request; in no region are its inputs, and the making of the model."""
    waits: Waits = Counter()
    for site in sites:
        own, _, region = site.region.partition("/")
        short = next((name for path, name in FILES.items() if site.file.endswith(path)), None)
        if own == case and region in REGIONS:
            assert short is not None, site
            waits[region, f"{short}:{site.line}", site.kind] += site.count
        elif own == case and short is not None and site.function.endswith("Pipeline.forward"):
            waits[OUTSIDE, f"{short}:{site.line}", site.kind] += site.count
    return waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A line of the kernels that waited: its stage, the places that its comment names, how, and how often."""

    where: str
    stage: str
    places: frozenset[Place]
    kind: str
    count: int


def waits_of(model: Bagel, inputs: RequestInputs, variant: str) -> list[Wait]:
    """Counts a request under a variant on the simulated device."""
    with SimulatedDevice() as device:
        copy = map_tensors(model, device.wrap)
        subject = edit_subject(copy, inputs, with_regions(bind(variant)))
        with watch_host_syncs(device.device) as watch:
            run_stages(subject)
    report = watch.report(variant)
    assert (report.unexplained, report.unjudged) == (0, {})
    return [_wait(site) for site in report.sites]


def _wait(site: SyncSite) -> Wait:
    line = linecache.getline(str(REPOSITORY / site.file), site.line)
    comment = re.search(r"# wait\b.*\((\w\w:[^)]*)\)", line)
    return Wait(
        where=f"{site.file}:{site.line}",
        stage=site.region.split("/")[0],
        places=frozenset(places_in(comment[1]) if comment else ()),
        kind=site.kind,
        count=site.count,
    )


def places_in(text: str) -> Iterator[Place]:
    """The places of ``bt:604, 605; pb:143``."""
    for part in filter(None, map(str.strip, text.split(";"))):
        short, _, lines = part.partition(":")
        yield from (f"{short}:{int(line)}" for line in lines.split(","))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the first table: places of the release, those of the same lines in the comments, waits of each line."""

    region: str
    places: tuple[Place, ...]
    in_comments: tuple[Place, ...]
    formula: str

    def count(self, **sizes: int) -> int:
        """Waits of each of the lines, by the names that the document gives."""
        value = eval(self.formula, {"__builtins__": {}}, sizes)
        assert isinstance(value, int)
        return value


def documented() -> tuple[list[Row], dict[tuple[str, Place], str]]:
    """The document's rows of waits that both have, and the reason for each region and place of upstream's alone."""
    both: list[Row] = []
    alone: dict[tuple[str, Place], str] = {}
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if not line.startswith("|") or cells[0] not in (*REGIONS, OUTSIDE):
            continue
        if len(cells) == 5:
            region, release, base, formula, _ = cells
            row = Row(
                region=region,
                places=tuple(places_in(release)),
                in_comments=tuple(places_in(base or release)),
                formula=formula.strip("`"),
            )
            both.append(row)
        else:
            alone.update({(cells[0], place): cells[2] for place in places_in(cells[1])})
    return both, alone


def with_text(inputs: RequestInputs, num_text: int) -> RequestInputs:
    """The same with so many tokens of text."""
    return dataclasses.replace(inputs, prompt_ids=[508, *range(5, 5 + num_text - 2), 509])
