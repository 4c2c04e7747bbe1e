"""The Markdown of a page, word for word: what a change of the renderer changes is seen in a diff.

``UPDATE_SNAPSHOTS=1 pytest tests/report/html/test_markdown_snapshots.py`` writes them anew.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from bagel_perf.cli import main
from bagel_perf.records.errors import RunFailed
from bagel_perf.records.gates import Finding, GateReport
from bagel_perf.records.results import Result
from bagel_perf.report.html.page import build_page, gate_page, page_markdown
from bagel_perf.report.html.source import Source, source_of
from gated_results import make_result, with_picture

SNAPSHOTS = Path(__file__).resolve().parents[2] / "data" / "pages"
ROOT = Path(__file__).resolve().parents[3]
DRIFTED = GateReport(
    findings=(Finding(kind="counter", message="host syncs 5, expected 4", file="kernels_x/loop.py", line=3),),
    checks=(("pictures and latents", "pass"), ("counters as expected", "failed")),
    notes=("pictures are held to baseline's",),
)


def source(result: Result, day: int = 1) -> Source:
    return source_of(replace(result, created=f"2026-01-{day:02}T12:00:00+00:00"), Path())


def faster(percent: float) -> Result:
    return make_result({"pr3987": {"ar": percent}, "sync_free": {"ar": 2 * percent, "dit": percent}})


def history() -> str:
    return page_markdown(build_page([source(faster(-4), 1), source(faster(-4), 2), source(faster(-9), 3)]))


PAGES: dict[str, Callable[[], str]] = {
    "result": lambda: page_markdown(build_page([source(faster(-4))])),
    "history": history,
    "few-pairs": lambda: page_markdown(build_page([source(make_result({"sync_free": {}}, num_pairs=3))])),
    "other-picture": lambda: page_markdown(
        build_page([source(make_result({"sync_free": {}}, edit=lambda run: with_picture(run, "sync_free")))])
    ),
    "ended-early": lambda: page_markdown(
        build_page([source(make_result({"sync_free": {}}, error=RunFailed("out of memory")))])
    ),
    "gate": lambda: page_markdown(gate_page(DRIFTED)),
    "gate-of-result": lambda: page_markdown(build_page([source(faster(-4))], gate=DRIFTED)),
}


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.usefixtures("undrawn")
def test_the_markdown_is_that_of_the_snapshot(name: str) -> None:
    path, found = SNAPSHOTS / f"{name}.md", PAGES[name]()
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


def test_every_snapshot_is_of_a_page() -> None:
    assert {path.stem for path in SNAPSHOTS.iterdir()} == set(PAGES)


def commands() -> list[str]:
    """As the README of the committed pages tells them."""
    text = (ROOT / "reports" / "pages" / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^bagel-perf (report .*)$", text, flags=re.M)


@pytest.mark.parametrize("command", commands())
def test_a_committed_page_is_what_its_command_makes(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    *words, out = shlex.split(command)
    assert main([*words, str(tmp_path), "--quiet"]) == 0
    for name in ("summary.md", "report.html"):
        before, after = (words_of((folder / name).read_text(encoding="utf-8")) for folder in (Path(out), tmp_path))
        assert after == before, f"{out}/{name} is of another version; run: bagel-perf {command}"


def words_of(text: str) -> str:
    """Without what depends on the versions of matplotlib, Pillow and zlib."""
    return re.sub(r'<svg>.*?</svg>|="data:[^"]*"', "", text, flags=re.S)
