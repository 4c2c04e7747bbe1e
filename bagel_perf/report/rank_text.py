"""A report of several ranks for a terminal: warnings first, what to do next last."""

from __future__ import annotations

from typing import TextIO

from rich.text import Text

from bagel_perf.report.inert import terminal
from bagel_perf.report.rank_tables import rank_tables
from bagel_perf.report.table import counted
from bagel_perf.report.text import console_for, print_lines, print_tables
from bagel_perf.report.trace_changes import change_lines, change_tables
from bagel_perf.report.trace_summary import next_line, note_lines
from bagel_perf.report.trace_tables import CAUSE_LABELS, short_name
from bagel_perf.schema.trace_ranks import RanksReport, RankTrace, Straggler

NAME_WIDTH = 60


def print_ranks(report: RanksReport, top: int, stream: TextIO) -> None:
    """Prints the ranks side by side, and what changed of each that was compared; at most ``top`` rows a table."""
    console = console_for(stream)
    lines = [(title(report), "bold"), *((f"WARNING: {each}", "bold red") for each in report.warnings)]
    for text, style in lines:
        console.print(Text(terminal(text), style=style), soft_wrap=True)
    print_lines(console, (*headline(report), ""))
    print_tables(console, rank_tables(report, top))
    for each in report.ranks:
        if each.report.difference is not None:
            print_lines(console, (f"rank {each.rank}:",))
            print_tables(console, change_tables(each.report.difference, top)[:1])
            print_lines(console, change_lines(each.report.difference))
    notes = [f"- {note}" for note in (*report.notes, *_notes(report))]
    print_lines(console, (*notes, f"next: {advice(report)}"))


def title(report: RanksReport) -> str:
    """What was read."""
    files = [each.report.source.file for each in report.ranks]
    names = files[0] if len(files) == 1 else f"{files[0]} to {files[-1]}"
    return f"{counted(len(files), 'rank')}: {names}"


def headline(report: RanksReport) -> tuple[str, ...]:
    """How busy the ranks were, and who held them up, in one or two sentences."""
    shares = {
        each.rank: each.report.gpu_busy_ms / (each.report.window_ms * len(each.report.devices))
        for each in report.ranks
        if each.report.gpu_busy_ms is not None and each.report.window_ms and each.report.devices
    }
    busy = "how busy the GPUs were is unknown"
    if shares:
        least, most = min(shares, key=lambda rank: shares[rank]), max(shares, key=lambda rank: shares[rank])
        low, high = f"{shares[least]:.0%}", f"{shares[most]:.0%}"
        busy = f"GPUs busy {low}" + f" (rank {least}) to {high} (rank {most})" * (low != high) + " of their windows"
    if report.straggler is not None:
        return busy, _late(report.straggler)
    known = any(step.waited_ms is not None for step in report.steps)
    return busy, "no rank was waited for" if known else "who arrived last is unknown"


def advice(report: RanksReport) -> str:
    """What to do next: about the rank that others wait for, else about the one that was idle most."""
    late = report.straggler
    if late is None:
        worst = shown_rank(report)
        return f"rank {worst.rank} was idle most; {next_line(worst.report).removeprefix('next: ')}"
    if late.reason is None:
        return f"look at rank {late.rank}, for which the others waited {late.delayed_ms:.2f} ms"
    file = shown_rank(report).report.source.file
    return f"look at rank {late.rank}: {reason(late)}; its own trace, {file}, tells the places"


def reason(late: Straggler) -> str:
    """What a late rank does that the others do less."""
    if late.reason is None:
        return "it was neither idle nor at work for longer than the median of the others"
    what = short_name(late.what, NAME_WIDTH) if late.what else ""
    if late.reason == "idle":
        cause = CAUSE_LABELS[late.cause] if late.cause else "unknown"
        mostly = f"mostly {cause}{f' ({what})' * bool(what)}"
        return f"its GPU was idle {late.extra_ms:.2f} ms longer than the median of the others, {mostly}"
    kernel = f", most of it in {what}" if what else ""
    return f"its GPU worked {late.extra_ms:.2f} ms longer than the median of the others{kernel}"


def shown_rank(report: RanksReport) -> RankTrace:
    """The rank to look at: the one that others waited for, else the one that was idle most."""
    if report.straggler is not None:
        return next(each for each in report.ranks if each.rank == report.straggler.rank)
    return max(report.ranks, key=lambda each: each.report.gpu_idle_ms or 0.0)


def _late(late: Straggler) -> str:
    when = f"last in {late.late_steps} of {counted(late.steps, 'steady step')}"
    return f"rank {late.rank} was {when}; the others waited {late.delayed_ms:.2f} ms for it: {reason(late)}"


def _notes(report: RanksReport) -> list[str]:
    """Notes of the traces, each once, with the number of ranks that it is of."""
    counts: dict[str, int] = {}
    for each in report.ranks:
        for note in (line.removeprefix("- ") for line in note_lines(each.report)):
            counts[note] = counts.get(note, 0) + 1
    return [
        note if count == len(report.ranks) else f"{counted(count, 'rank')}: {note}" for note, count in counts.items()
    ]
