"""The page of reports/upstream-ahead, and what README says of it, are what its files hold."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "reports" / "upstream-ahead"
FILES = [FOLDER / name for name in ("ahead-256-512.json", "ahead-1024.json", "ahead-1024-all.json")]


def test_the_tables_are_those_of_the_files(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "benchmarks"))
    import upstream_ahead_tables

    upstream_ahead_tables.print_tables(FILES)
    printed = capsys.readouterr().out
    assert printed.count("### ") == 13
    assert (FOLDER / "README.md").read_text().endswith(printed)
    sys.modules.pop("upstream_ahead_tables")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--table", "nowhere.json"], "error: no measurement (nowhere.json); FileNotFoundError"),
        (["--table", "half.json"], "error: no measurement (half.json); JSONDecodeError"),
        (["--table", "other.json"], "error: no measurement (other.json); TypeError"),
        (["out.json", "0.30.0"], "no Python (0.30.0); RELEASE=PYTHON"),
        (["out.json", "0.30.0=nowhere/python"], "no Python (0.30.0=nowhere/python); RELEASE=PYTHON"),
        (["out.json", "--block", "256=6=fused"], "no block (256=6=fused); SIZE:POINTS:TASK:LOW:HIGH=ROUNDS=SIDE,..."),
        (["out.json", "--block", "256:15:i2i:0:1=1=fuse"], "unknown side (fuse); baseline, baseline/flash, "),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_is_loaded(
    arguments: list[str],
    error: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "half.json").write_text('{"blocks": [')
    (tmp_path / "other.json").write_text("[]")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "benchmarks"))
    monkeypatch.setattr(sys, "argv", ["upstream_ahead.py", *arguments])
    import upstream_ahead

    with pytest.raises(SystemExit) as raised:
        upstream_ahead.main()
    said = capsys.readouterr().err if raised.value.code == 2 else str(raised.value.code)
    assert error in said.splitlines()[-1]
    sys.modules.pop("upstream_ahead")


def test_a_side_that_failed_is_named_and_leaves_the_others_their_rounds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "benchmarks"))
    import upstream_ahead_tables

    ran = {"ms": {"prefill": 1.0, "denoise": 2.0, "decode": 3.0}, "steps": 2, "joule": None, "sha256": "abc"}
    one = {"0.30.0": ran, "fused": {"error": "OOM. Tried to"}}
    upstream_ahead_tables.print_block({"kind": "256:15:i2i:0:1", "warm": one, "rounds": [one], "counts": {}})
    printed = capsys.readouterr().out
    assert "| 0.30.0 | in prefill | 1.0 | 2.0 | 3.0 | 6.0 (6.0 to 6.0) | 1.00 |" in printed
    assert "- fused failed: OOM\n" in printed and "| fused |" not in printed
    upstream_ahead_tables.print_block({"kind": "256:15:i2i:0:1", "warm": one, "rounds": [], "counts": {}})
    shown = capsys.readouterr()
    assert shown.err == "256:15:i2i:0:1: nothing to show, 0 rounds; failed: {'fused': 'OOM'}\n" and not shown.out
    sys.modules.pop("upstream_ahead_tables")


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
            assert found == {pixels.setdefault(block["kind"], min(found))}
    assert len(set(pixels.values())) == len(pixels) == 12


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


def test_the_page_has_the_sums_of_the_floors() -> None:
    page = (FOLDER / "README.md").read_text()
    for path, name in zip(FILES[:2], ("256", "1024"), strict=True):
        block = json.loads(path.read_text())["blocks"][0]
        floors = sum(part["floor_ms"] for floor in block["floors"]["floors"] for part in floor["components"])
        inputs = statistics.median(one["fused"]["ms"]["inputs"] for one in block["rounds"])
        assert f"{floors + inputs:,.0f} " + ("ms " * (name == "256")) + f"at {name}" in page
