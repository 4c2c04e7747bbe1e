"""What is printed of what prevents a CUDA graph: the head line, each line with its remedy, and what is next."""

from __future__ import annotations

import io

from msgspec.structs import replace

from bagel_perf.records.blockers import Blocker, CaptureReport
from bagel_perf.report.capture_tables import head_line, next_line, print_capture

WAIT = Blocker(
    kind="wait",
    effect="stops",
    file="loop.py",
    line=7,
    function="step",
    region="denoise/step",
    count=12,
    detail="scalar read",
    remedy="x = torch.where(t > limit, y, x)",
    expressions=("loss.item()",),
    caller="train.py:3",
)
VALUE = replace(
    WAIT, kind="value", effect="freezes", line=9, detail="mul: 0.5 | 1.5", remedy="fill_ it", caller=None, count=11
)
REPORT = CaptureReport(
    region="step",
    device="simulated",
    num_entries=12,
    blockers=(WAIT, VALUE),
    is_capturable=False,
    notes=("entry 1 alone differs",),
    subject="loop.py",
)
CLEAN = replace(REPORT, blockers=(), is_capturable=True, notes=())


def printed(report: CaptureReport, top: int = 12) -> str:
    stream = io.StringIO()
    print_capture(report, stream, top=top)
    return stream.getvalue()


def test_each_blocker_stands_with_its_line_what_was_seen_and_what_to_do() -> None:
    text = printed(REPORT)
    lines = text.splitlines()
    assert lines[0].startswith(
        "region step of loop.py: 1 blocker stops a CUDA graph, 1 thing that a replay would not do"
    )
    (row,) = (line.split() for line in lines[1:] if "loop.py:7  scalar read" in line)
    assert row[:4] == ["host", "sync", "stops", "12"]
    for part in ("loss.item()", "in denoise/step", "called from train.py:3", "-> fill_ it", "mul: 0.5 | 1.5"):
        assert part in text
    assert "- entry 1 alone differs" in lines and lines[-1].startswith(
        "next: loop.py:7, host sync; then watch it again"
    )
    assert max(map(len, lines[: lines.index("- entry 1 alone differs")])) <= 100


def test_more_blockers_than_asked_for_are_one_row() -> None:
    text = printed(REPORT, top=1)
    assert "1 more blocker (--top)" in text and "fill_ it" not in text


def test_a_clean_region_says_how_much_was_seen_and_what_was_not() -> None:
    text = printed(CLEAN)
    assert text.startswith("nothing that was seen stops a CUDA graph of region step of loop.py (12 entries)\n")
    assert "kernels of other libraries" in text


def test_what_was_frozen_alone_stops_nothing() -> None:
    line = head_line(replace(REPORT, blockers=(VALUE, replace(VALUE, line=10)), subject=""))
    assert line == "region step: 2 things that a replay does not do anew (12 entries)"


def test_what_is_unknown_is_no_pass() -> None:
    few = replace(CLEAN, is_capturable=None, num_entries=1, notes=("two entries are needed",), subject="")
    assert head_line(few) == "region step: unknown whether a CUDA graph can be captured (1 entry)"
    assert next_line(few) == "next: enter it more often; so far it cannot be told"
    unjudged = replace(few, num_entries=4, notes=("cannot be judged without a GPU: aten.unique_dim",))
    assert next_line(unjudged) == "next: run it on a GPU; so far it cannot be told"
    never = replace(few, num_entries=0)
    assert next_line(never) == "next: name a region that the program enters and leaves"


def test_a_capture_that_was_tried_is_told_with_its_error() -> None:
    assert "- tried on this GPU: it was captured" in printed(replace(CLEAN, tried="captured"))
    failed = replace(CLEAN, tried="CUDA error: not permitted", is_capturable=False)
    text = printed(failed)
    assert "a capture failed, of which nothing was seen before" in text
    assert "- tried on this GPU: CUDA error: not permitted" in text and "next: look at what the capture says" in text
