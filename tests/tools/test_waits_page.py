"""The page that lists what waits is the rules' and the measurements', word for word."""

from __future__ import annotations

from pathlib import Path

from waits_page import main

ROOT = Path(__file__).parents[2]


def test_the_committed_page_is_what_the_rules_and_measurements_give(tmp_path: Path) -> None:
    measured = [str(ROOT / "tests" / "data" / name) for name in ("sync_catalogue.json", "sync_expressions.json")]
    main([*measured, str(tmp_path / "page.md")])
    written = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert written == (ROOT / "docs" / "what-waits.md").read_text(encoding="utf-8"), "run `make docs-waits`"
    assert "| `repeat_interleave.Tensor` | 2; 0 with output_size | nonzero or unique |" in written
    assert "| `x[ids] = 0.0` | 1 |" in written
