"""The committed counts of released vLLM-Omni: they follow the formulas of their page, which has each line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "reports" / "upstream"
DATA = json.loads((FOLDER / "waits.json").read_text())
PAGE = (FOLDER / "README.md").read_text()
NUM_LAYERS, NUM_POINTS = DATA["layers"], DATA["points"]
NUM_POSITIONS = {256: 1184, 512: 4664}
UPLOADS = {("0.20.0", "i2i"): 54, ("0.20.0", "t2i"): 27}
"""Waits of ``prefill`` outside of the layers."""


def expected(row: dict[str, Any]) -> dict[str, int]:
    """Waits by region."""
    release, stage, task, size = (row[name] for name in ("release", "stage", "task", "size"))
    old, steps = release == "0.20.0", NUM_POINTS - (release != "0.22.0")
    if stage == "ar":
        layers = (35 * NUM_LAYERS + 6) if old else (28 * NUM_LAYERS + 4)
        return {"adjust_positions": NUM_POSITIONS[size] + 7 if old else 10, "mot_forward": layers}
    step = {
        ("0.20.0", "dit"): (size // 16) ** 2 + 5 + 8 * NUM_LAYERS,
        ("0.22.0", "dit"): 2,
        ("0.30.0", "dit"): 3 + 3 * NUM_LAYERS,
        ("0.30.0", "dit-lengths"): 3,
    }[release, stage]
    later = {"i2i": 35, "t2i": 15}[task]
    prefill = {"i2i": 12, "t2i": 4}[task] * NUM_LAYERS + UPLOADS[release, task] if old else later
    return {"prefill": prefill, "denoise": steps * step + (5 if old else 2), "decode": 1}


def name_of(row: dict[str, Any]) -> str:
    return "-".join(str(row[name]) for name in ("release", "stage", "task", "size"))


@pytest.mark.parametrize("row", DATA["rows"], ids=name_of)
def test_counts_follow_the_formulas(row: dict[str, Any]) -> None:
    assert row["regions"] == expected(row) and row["waits"] == sum(expected(row).values())
    assert row["unjudged"] == {} and row["unexplained"] == 0


def test_each_release_stage_task_and_size_is_there() -> None:
    dit = [("dit", task) for task in ("i2i", "t2i")]
    stages = {release: [*dit, ("ar", "i2i")] for release in ("0.20.0", "0.22.0", "0.30.0")}
    stages["0.30.0"] += [("dit-lengths", task) for task in ("i2i", "t2i")]
    wanted = {(release, *stage, size) for release in stages for stage in stages[release] for size in (256, 512)}
    assert {tuple(row[name] for name in ("release", "stage", "task", "size")) for row in DATA["rows"]} == wanted


SECTIONS = {
    "Denoise": ("dit", ("denoise",)),
    "Prefill": ("dit", ("prefill", "decode")),
    "AR": ("ar", ("adjust_positions", "mot_forward")),
}


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize(("column", "release"), [(1, "0.20.0"), (2, "0.22.0"), (3, "0.30.0")])
def test_the_page_has_each_line_that_waits(section: str, column: int, release: str) -> None:
    """Its cells, as ``784 (:604, :605)`` or ``788 (:917 to :1028)``, name the lines, and sum up to the regions."""
    stage, regions = SECTIONS[section]
    (row,) = [each for each in DATA["rows"] if name_of(each) == f"{release}-{stage}-i2i-256"]
    waiting = {line["line"] for line in row["lines"] if line["region"] in regions}
    (text,) = [part for part in PAGE.split("\n## ") if part.startswith(section)]
    cells = [line.split("|")[1 + column].strip() for line in text.splitlines() if line.startswith("| `")]
    assert sum(int(cell.split()[0]) for cell in cells) == sum(row["regions"][region] for region in regions)
    named: set[int] = set()
    for cell in cells:
        places = [int(place) for place in re.findall(r":(\d+)", cell)]
        is_range = " to " in cell
        named.update(place for place in waiting if is_range and places[0] <= place <= places[1])
        named.update(() if is_range else places)
    assert named == waiting
