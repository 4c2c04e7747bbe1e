"""What prevents a CUDA graph of a region, for people: a head line, each line with what to do, and what is next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import TextIO

from bagel_perf.records.blockers import CAPTURED, LABELS, Blocker, CaptureReport
from bagel_perf.report.table import Column, Table, counted, sentences
from bagel_perf.report.text import print_document


def print_capture(report: CaptureReport, stream: TextIO, *, top: int) -> None:
    """Prints the head line, at most ``top`` blockers, what is known besides, and what to do next."""
    tables = [blocker_table(report, top)] if report.blockers else []
    head = () if tables else (head_line(report),)
    print_document(stream, tables, (*head, *note_lines(report), next_line(report)))


def head_line(report: CaptureReport) -> str:
    """How it stands, in one line."""
    where = f"region {report.region}{f' of {report.subject}' * bool(report.subject)}"
    entries = "1 entry" if report.num_entries == 1 else f"{report.num_entries} entries"
    stops = sum(each.effect == "stops" for each in report.blockers)
    freezes = len(report.blockers) - stops
    parts = []
    if stops:
        parts.append(f"{counted(stops, 'blocker')} {'stops' if stops == 1 else 'stop'} a CUDA graph")
    if freezes:
        what = "1 thing" if freezes == 1 else f"{freezes} things"
        parts.append(f"{what} that a replay {'would ' if stops else 'does '}not do anew")
    if parts:
        return f"{where}: {', '.join(parts)} ({entries})"
    if report.is_capturable is False:
        return f"{where}: a capture failed, of which nothing was seen before ({entries})"
    if report.is_capturable is None:
        return f"{where}: unknown whether a CUDA graph can be captured ({entries})"
    return f"nothing that was seen stops a CUDA graph of {where} ({entries})"


def blocker_table(report: CaptureReport, top: int) -> Table:
    """The blockers in the report's order, each with its line, what was seen, and what to do; the rest in a row."""
    rows: list[tuple[str, ...]] = [
        (LABELS[each.kind], each.effect, str(each.count), _where(each)) for each in report.blockers[:top]
    ]
    more = len(report.blockers) - top
    if more > 0:
        rows.append(("", "", "", f"{counted(more, 'more blocker')} (--top)"))
    return Table(
        title=head_line(report),
        columns=(
            Column(header="what"),
            Column(header="effect"),
            Column(header="count", numeric=True),
            Column(header="where and what to do"),
        ),
        rows=tuple(rows),
        caption=sentences(
            "what stops a graph makes the capture fail",
            "what freezes is captured, and each replay does what the capture did",
            "the count is of times, or of entries that differ from the one before",
        ),
    )


def _where(blocker: Blocker) -> str:
    place = f"{PurePath(blocker.file)}:{blocker.line}" if blocker.file else "no line of Python"
    lines = [f"{place}  {blocker.detail}", *(f"  {text}" for text in blocker.expressions)]
    if blocker.region:
        lines.append(f"in {blocker.region}")
    if blocker.caller:
        lines.append(f"called from {blocker.caller}")
    return "\n".join([*lines, f"-> {blocker.remedy}"])


def note_lines(report: CaptureReport) -> Iterator[str]:
    """What was tried, and what is known besides."""
    if report.tried == CAPTURED:
        yield "- tried on this GPU: it was captured"
    elif report.tried is not None:
        yield f"- tried on this GPU: {report.tried}"
    yield from (f"- {note}" for note in report.notes)


def next_line(report: CaptureReport) -> str:
    """What to do next."""
    if not report.num_entries:
        return "next: name a region that the program enters and leaves"
    if report.blockers:
        first = report.blockers[0]
        place = f"{PurePath(first.file)}:{first.line}" if first.file else f"region {report.region}"
        return f"next: {place}, {LABELS[first.kind]}; then watch it again: what comes behind may show only then"
    if report.is_capturable is False:
        return "next: look at what the capture says"
    if report.is_capturable is None:
        where = "run it on a GPU" if any("without a GPU" in note for note in report.notes) else "enter it more often"
        return f"next: {where}; so far it cannot be told"
    return (
        "next: capture it with torch.cuda.graph after a warm-up, with tensors that stay, and compare the outputs of "
        "replays with those of the program: kernels of other libraries and what it keeps in Python were not seen"
    )
