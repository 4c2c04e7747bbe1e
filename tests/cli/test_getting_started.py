"""What the first pages tell people to type prints what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from forked_workers import fork_watched, fork_workers
from typed_commands import BLOCK, is_in_order, plain, printed, told

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the first page, where people stand, and processes that are forked."""
    monkeypatch.chdir(tmp_path)
    fork_workers(monkeypatch)
    fork_watched(monkeypatch)
    text = (DOCS / "getting-started.md").read_text(encoding="utf-8")
    blocks = [block for language, block in BLOCK.findall(text) if language == "python"]
    path = tmp_path / "my_loop.py"
    path.write_text("\n\n".join(blocks))
    return path


@pytest.mark.parametrize("name", ["syncs", "compare", "gate"])
def test_the_first_page_prints_what_it_says(name: str, loop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = [*told(DOCS / "getting-started.md")]
    assert [words[0] for words, _ in commands] == ["syncs", "compare", "gate", "gate"]
    for words, lines in commands:
        if words[0] == name:
            code, found = printed([*words, "--out", "result"] if name == "compare" else words, capsys)
            assert code == 0
            assert is_in_order(lines, found), "\n".join(["", *lines, "-- printed:", *found])


def test_the_gate_of_the_guide_passes_and_fails_as_it_says(loop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (update, before), (gate, after) = told(DOCS / "guides" / "ci.md")
    assert is_in_order(before, printed(update, capsys)[1])
    loop.write_text(
        loop.read_text().replace("x = torch.where(norm > 1e4, x / norm, x)", "x = x / norm if norm > 1e4 else x")
    )
    code, found = printed(gate, capsys)
    assert code == 7
    assert is_in_order(after, found), "\n".join(["", *after, "-- printed:", *found])


def test_the_trace_of_the_guide_reads_as_it_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(DOCS.parent)
    ((words, lines),) = told(DOCS / "guides" / "trace.md")
    code, found = printed(words, capsys)
    assert (code, is_in_order(lines, found)) == (0, True)
    text = (DOCS / "guides" / "trace.md").read_text(encoding="utf-8")
    for line in re.findall(r"^(?:scalar_read|CPU elsewhere|launch|in a host sync|queued) .*", text, flags=re.M):
        assert plain(line) in found
