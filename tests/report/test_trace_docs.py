"""The page about `trace` has every cause with the words of the tables."""

from __future__ import annotations

from pathlib import Path

from bagel_perf.records.traces import CAUSES
from bagel_perf.report.trace_summary import ADVICE
from bagel_perf.report.trace_tables import CAUSE_LABELS, CAUSE_MEANINGS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "trace.md"


def test_every_cause_is_explained_with_its_label() -> None:
    rows = [line.split("|")[1:3] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    told = {name.strip().strip("`"): label.strip() for name, label in rows}
    assert told == CAUSE_LABELS and len(rows) == len(CAUSES)


def test_every_cause_has_a_meaning_and_a_remedy() -> None:
    assert set(CAUSES) == set(CAUSE_LABELS) == set(CAUSE_MEANINGS) == set(ADVICE)
