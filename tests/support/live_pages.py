"""Pages for the tests of what a reader does with them: timelines with lines, pictures that differ, a large trace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from msgspec.structs import replace
from PIL import Image as Pillow

from bagel_perf.report.html.page import build_page, page_html
from bagel_perf.report.html.source import source_of
from gated_results import make_result, with_picture

ROOT = Path(__file__).resolve().parents[2]
TIMELINES = ROOT / "reports" / "timelines-h200"
DIFFERING = 30
"""Pixels in which the two pictures differ, each by ``LEVELS`` in one colour."""
LEVELS = 3
SIDE = 64


def timelines_page(folder: Path) -> Path:
    """A committed result with the profiled runs of three variants, of which the last does not wait."""
    profiles = [TIMELINES / f"{name}-256.json.gz" for name in ("baseline", "pr3987", "sync_free")]
    given = map(str, (ROOT / "reports" / "2026-12-01_h200_fc53e68", *profiles))
    command = [sys.executable, "-m", "bagel_perf", "report", *given, "--out", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "report.html"


def pictures_page(folder: Path) -> Path:
    """Two variants with pictures that differ a little, and the input of both."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(1).integers(0, 200, (SIDE, SIDE, 3), dtype=np.uint8)
    Pillow.fromarray(pixels).save(folder / "a.png")
    pixels.reshape(-1, 3)[:DIFFERING, 0] += LEVELS
    Pillow.fromarray(pixels).save(folder / "b.png")
    result = make_result({"pr3987": {}}, sizes=((SIDE, SIDE),), edit=lambda run: with_picture(run, "pr3987"))
    names = ("a.png", "b.png")
    images = tuple(replace(image, path=name) for image, name in zip(result.outputs, names, strict=True))
    page = folder / "report.html"
    page.write_text(page_html(build_page((source_of(replace(result, outputs=images), folder),))), encoding="utf-8")
    return page
