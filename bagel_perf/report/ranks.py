"""A report of several ranks for a terminal: totals of each, who was waited for in which step, what to do next last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.text import Text

from bagel_perf.records.trace_ranks import RanksReport, RankTrace, SharedStep, Straggler
from bagel_perf.records.traces import TraceReport
from bagel_perf.report.inert import terminal
from bagel_perf.report.table import NONE, Column, Table, counted
from bagel_perf.report.text import console_for, print_lines, print_tables
from bagel_perf.report.trace_changes import change_lines, change_tables
from bagel_perf.report.trace_summary import next_line, note_lines
from bagel_perf.report.trace_tables import CAUSE_LABELS, count_text, short_name

ARRIVALS = (
    "Clocks of ranks are not synchronous. In each step the rank with the least time in communication kernels arrived "
    "last, and the others waited for as long as they spent in them beyond that."
)
TOTALS = (
    "Times are in ms of each window. Of the steady steps they say how long a rank waited, in which step most, and "
    "how long all others together waited for it."
)


def rank_tables(report: RanksReport, top: int) -> tuple[Table, ...]:
    """The ranks, then the steps in which somebody was late; ``top`` rows of each."""
    tables = [rank_table(report, top)]
    if any(step.waited_ms is not None for step in report.steps):
        tables.append(late_table(report, top))
    return tuple(tables)


def rank_table(report: RanksReport, top: int) -> Table:
    """Each rank with its totals; of more than ``top`` those that others waited for most, or that were idle most."""
    chosen = sorted(report.ranks, key=_rank_of_rank)[:top]
    shown = sorted(chosen, key=lambda each: each.rank)
    rows = tuple(
        (
            str(each.rank),
            str(num_steps(each.report)) if each.report.phases else NONE,
            f"{each.report.window_ms:.2f}",
            *map(_ms, (each.report.gpu_busy_ms, each.report.gpu_idle_ms, exposed_ms(each.report))),
            count_text(each.report.host_syncs),
            main_cause(each.report),
            _ms(each.waited_ms),
            count_text(each.longest_wait_step),
            _ms(each.delayed_ms),
        )
        for each in shown
    )
    return Table(
        title="Ranks",
        columns=(
            *_numeric("rank", "steps", "wall", "GPU busy", "GPU idle", "exposed comm", "syncs"),
            Column(header="idle mostly"),
            *_numeric("waited", "most in", "waited for"),
        ),
        rows=rows,
        caption=_cut(TOTALS, len(report.ranks), top),
    )


def late_table(report: RanksReport, top: int) -> Table:
    """The steps in which others waited longest for a rank, the warm-up at the end."""
    found = [step for step in report.steps if step.waited_ms is not None]
    shown = sorted(found, key=lambda step: (step.is_warm_up, -(step.waited_ms or 0.0), step.number))[:top]
    return Table(
        title="Who arrived last",
        columns=(
            Column(header="step"),
            Column(header="last"),
            *_numeric("wall (ms)", "all others waited (ms)"),
            Column(header="waited longest"),
            *_numeric("waited (ms)"),
        ),
        rows=tuple(map(_late_row, shown)),
        caption=_cut(ARRIVALS, len(found), top),
    )


def _late_row(step: SharedStep) -> tuple[str, ...]:
    walls = [each.wall_ms for each in step.ranks]
    longest = max(step.ranks, key=lambda each: each.waited_ms or 0.0)
    return (
        f"{step.number}{' (warm-up)' * step.is_warm_up}",
        "all together" if step.straggler is None else f"rank {step.straggler}",
        f"{min(walls):.2f} to {max(walls):.2f}",
        _ms(step.waited_ms),
        f"rank {longest.rank}" if longest.waited_ms else NONE,
        _ms(longest.waited_ms),
    )


def num_steps(report: TraceReport) -> int:
    """How many steps were told apart."""
    return sum(phase.steps for phase in report.phases)


def exposed_ms(report: TraceReport) -> float | None:
    """Communication beside which nothing was computed, of all devices; None where it is not known of one."""
    found = [device.exposed_communication_ms for device in report.devices]
    return sum(each or 0.0 for each in found) if found and None not in found else None


def main_cause(report: TraceReport) -> str:
    """The cause of most of the idle time."""
    idle_ms = report.idle_by_cause_ms
    cause = max(idle_ms, key=lambda name: idle_ms[name], default=None)
    return NONE if cause is None or not idle_ms[cause] else CAUSE_LABELS[cause]


def _rank_of_rank(each: RankTrace) -> tuple[float, float, int]:
    return -(each.delayed_ms or 0.0), -(each.report.gpu_idle_ms or 0.0), each.rank


def _ms(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _numeric(*headers: str) -> Sequence[Column]:
    return tuple(Column(header=header, numeric=True) for header in headers)


def _cut(caption: str, number: int, top: int) -> str:
    return f"{caption}\n{top} of {number} are shown, and --top shows more." if number > top else caption


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
