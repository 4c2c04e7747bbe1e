"""The tables of several ranks: each with its totals, and who was waited for in which step."""

from __future__ import annotations

from collections.abc import Sequence

from bagel_perf.report.table import NONE, Column, Table
from bagel_perf.report.trace_tables import CAUSE_LABELS, count_text
from bagel_perf.schema.trace_ranks import RanksReport, RankTrace, SharedStep
from bagel_perf.schema.traces import TraceReport

ARRIVALS = (
    "clocks of ranks are not synchronous: in each step the rank with the least time in communication kernels arrived "
    "last, and what others spent in them beyond that, they waited"
)
TOTALS = (
    "ms of each window; in the steady steps: waited, in which step most of that, and for how long all others together "
    "waited for it"
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
    return f"{caption}\n{top} of {number}; --top shows more" if number > top else caption
