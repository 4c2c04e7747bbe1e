"""Every relative link of the documents leads to a file of the repository."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def documents() -> list[Path]:
    found = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in found.splitlines()]


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    targets = [target.partition("#")[0] for target in LINK.findall(document.read_text(encoding="utf-8"))]
    missing = [each for each in targets if each and ":" not in each and not (document.parent / each).exists()]
    assert missing == []


def test_every_guide_is_reached_from_the_readme() -> None:
    seen, reached = {ROOT / "README.md"}, [ROOT / "README.md"]
    while reached:
        page = reached.pop()
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            path = (page.parent / target.partition("#")[0]).resolve()
            if path.suffix == ".md" and path.exists() and path not in seen:
                seen.add(path)
                reached.append(path)
    assert set((ROOT / "docs").rglob("*.md")) <= seen
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
