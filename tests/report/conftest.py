"""Pages without their drawings, which are most of the work, for tests that look at the words."""

from __future__ import annotations

import pytest

from bagel_perf.report.html import svg


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands an empty drawing in for each; tests of pages, plots and hostile strings draw them all."""
    monkeypatch.setattr(svg, "draw", lambda *_: '<svg viewBox="0 0 1 1"></svg>')
