"""The page of reports/upstream-ahead, and what README says of it, are what its files hold."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "reports" / "upstream-ahead"
FILES = [FOLDER / "ahead-256-512.json", FOLDER / "ahead-1024.json"]


def test_the_tables_are_those_of_the_files(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "benchmarks"))
    import upstream_ahead

    upstream_ahead.print_tables(FILES)
    printed = capsys.readouterr().out
    assert printed.count("### ") == 8
    assert (FOLDER / "README.md").read_text().endswith(printed)
    sys.modules.pop("upstream_ahead")


def test_pictures_of_bitwise_variants_are_those_of_the_baseline_and_of_no_other_kind() -> None:
    pixels: dict[str, str] = {}
    for path in FILES:
        for block in json.loads(path.read_text())["blocks"]:
            runs = [block["warm"], *block["rounds"]]
            found = {
                run[side]["sha256"]
                for run in runs
                for side in ("baseline", "pr3987", "sync_free", "captured", "fused")
                if "sha256" in run.get(side, {})
            }
            assert len(found) == 1
            pixels.setdefault(block["kind"], found.pop())
    assert len(set(pixels.values())) == len(pixels) == 10


def test_readme_has_the_figures_of_the_page() -> None:
    readme, page = (ROOT / "README.md").read_text(), (FOLDER / "README.md").read_text()
    table = [line for line in readme.splitlines() if line.startswith(("| 256, ", "| 512, ", "| 1024, "))]
    assert len(table) == 3
    for line in table:
        _, released, baseline, fused, ratio, *_ = (cell.strip() for cell in line.strip("|").split("|"))
        for side, ms in (("0.30.0", released), ("baseline", baseline), ("fused", fused)):
            assert any(
                row.startswith(f"| {side} |") and f"| {ms.replace(',', '')} (" in row for row in page.splitlines()
            )
        assert f"- 0.30.0 / fused: {ratio}" in page
