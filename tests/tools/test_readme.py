"""README has the figures of committed results, prints what the commands print, and has a short first screen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bagel_perf.records.results import Result
from bagel_perf.report.table import cell_of, change_text, delta_of, median_text, medians_change_text, stage_text
from bagel_perf.verdicts.reading import load_checked
from typed_commands import is_in_order, plain, printed, told

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
FIRST_SCREEN = 45
"""Lines."""


@pytest.fixture(scope="module")
def result() -> Result:
    """The one that the section on BAGEL names."""
    (folder,) = set(re.findall(r"\]\((reports/[0-9][^)/]*)/", README.read_text(encoding="utf-8")))
    return load_checked(ROOT / folder)


def test_the_table_of_the_pull_request_is_that_of_the_result(result: Result) -> None:
    rows = re.findall(r"^\| (?:AR|DiT|e2e) \|.*$", README.read_text(encoding="utf-8"), flags=re.M)
    (case,) = result.cases
    found = []
    for stage in result.timed_stages:
        before, after = (cell_of(result, case, stage, name) for name in ("baseline", "pr3987"))
        delta = change_text(delta_of(result.deltas, case, stage, "pr3987"), sign="")
        assert before is not None
        assert after is not None
        counts = f"{before.host_syncs:,} | {after.host_syncs:,}"
        medians = f"{median_text(before)} | {median_text(after)} | {medians_change_text(before, after)}"
        found.append(f"| {stage_text(stage)} | {medians} | {delta} | {counts} |")
    assert rows == found


def test_what_the_waiting_costs_is_of_the_result(result: Result) -> None:
    text = README.read_text(encoding="utf-8")
    paragraph = " ".join(text[text.index("**What does the waiting cost?**") :].partition("\n\n")[0].split())
    (case,) = result.cases

    def change(stage: str, variant: str) -> str:
        before, after = (cell_of(result, case, stage, name) for name in ("baseline", variant))
        delta = delta_of(result.deltas, case, stage, variant)
        assert delta is not None
        assert delta.ci_pct is not None
        low, high = delta.ci_pct
        figures = (
            f"{medians_change_text(before, after)}%; paired {delta.delta_pct:+.1f}%, interval {low:+.1f} to {high:+.1f}"
        )
        return f"{median_text(before)} to {median_text(after)} ms ({figures})"

    told_of = [paragraph.count(change("ar", "sync_free")), paragraph.count(change("e2e", "fused"))]
    assert told_of == [1, 1], (change("ar", "sync_free"), change("e2e", "fused"))
    dit = delta_of(result.deltas, case, "dit", "sync_free")
    assert dit is not None
    assert dit.verdict == "no difference shown"
    assert dit.ci_pct is not None
    medians = [median_text(cell_of(result, case, "dit", name)) for name in ("baseline", "sync_free", "fused")]
    assert f"({medians[0]} to {medians[1]} ms, interval {dit.ci_pct[0]:+.1f} to {dit.ci_pct[1]:+.1f})" in paragraph
    assert f"DiT to {medians[2]} ms" in paragraph


def test_the_toy_prints_what_it_says(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "130")
    (syncs, waits), (compare, figures) = told(README)
    assert is_in_order(waits, printed(syncs, capsys)[1])
    assert is_in_order(figures, printed(["show", "reports/toy-h200"], capsys)[1])
    measured = (ROOT / "reports" / "toy-h200" / "README.md").read_text(encoding="utf-8")
    assert "bagel-perf " + plain(" ".join(compare)) in measured


def test_the_first_screen_has_the_loop_the_figures_and_the_two_commands() -> None:
    screen = "\n".join(README.read_text(encoding="utf-8").splitlines()[:FIRST_SCREEN])
    assert all(words in screen for words in ("syncs examples/toy_loop.py", "identical", "make compare", "make test"))
