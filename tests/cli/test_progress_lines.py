"""A progress line is no wider than the terminal, however long the name of a mixture is."""

from __future__ import annotations

import io
import re

import pytest

from bagel_perf.records.bagel import COMPONENTS
from bagel_perf.records.events import ProgressEvent
from bagel_perf.report.progress import ProgressView, ReadingView, fitted

MIXTURE = "sync_free" + "".join(f"-{component}" for component in COMPONENTS)
ROUND = ProgressEvent(text=f"1024x1024 {MIXTURE}: round 1 of 6, end to end", done=9, total=120)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def drawn(stream: io.StringIO) -> list[str]:
    """The lines that were written, without the codes that move and colour."""
    return re.split(r"[\r\n]", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()))


@pytest.mark.parametrize(("no_color", "rest"), [("", "━"), ("1", " ")])
@pytest.mark.parametrize("width", [50, 80, 120])
def test_a_bar_keeps_its_line_with_size_round_percent_and_time(
    monkeypatch: pytest.MonkeyPatch, width: int, no_color: str, rest: str
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    with ProgressView(stream := Terminal()) as view:
        view.on_event(ROUND)
    (line,) = {line for line in drawn(stream) if line.startswith("1024x1024")}
    assert len(line) == width
    assert re.match(rf"1024x1024 sy.*….* end to end ╸{rest}+   8% 0:00:00$", line)


def test_a_log_has_no_line_beyond_its_columns() -> None:
    with ProgressView(stream := io.StringIO()) as view:
        view.on_event(ROUND)
    (line,) = stream.getvalue().splitlines()
    assert len(line) == 100
    assert re.match(r" +0\.\d s  \[10/120\] 1024x1024 sync_free-.*….*: round 1 of 6, end to end$", line)


def test_a_file_with_a_long_name_keeps_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with ReadingView(stream := Terminal(), f"{'a' * 200}.json.gz") as view:
        view.on_progress(1, 2)
    lines = [line.rstrip() for line in drawn(stream) if "reading" in line]
    assert lines
    assert [line for line in lines if len(line) > 80 or not re.match(r"reading a+…a+\.json\.gz .*%$", line)] == []


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("short", 5, "short"),
        (
            "256x256 sync_free-merge_kv: round 1",
            30,
            "256x256 sync_fr…ge_kv: round 1",
        ),
        ("a few short words and no long one", 12, "a few …g one"),
        ("abc", 1, "…"),
    ],
)
def test_the_longest_word_loses_its_middle_then_the_line_does(text: str, width: int, expected: str) -> None:
    assert fitted(text, width) == expected
