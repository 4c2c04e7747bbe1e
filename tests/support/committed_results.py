"""The committed results, and not those that a run on this machine has left beside them."""

from __future__ import annotations

from pathlib import Path

REPORTS = Path(__file__).resolve().parents[2] / "reports"
IGNORED = "*_cpu_*"
"""As in .gitignore: where ``compare`` on a CPU writes."""


def committed(name: str) -> list[Path]:
    """The folders right under reports that hold a file of this name, in order."""
    return sorted(path.parent for path in REPORTS.glob(f"*/{name}") if not path.parent.match(IGNORED))
