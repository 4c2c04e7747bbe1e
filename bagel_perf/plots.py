"""Plots of a result on matplotlib axes, for scripts and notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bagel_perf.analysis.rounds import latency_by_round
from bagel_perf.report.table import stage_text
from bagel_perf.schema.outlines import WHOLE
from bagel_perf.schema.results import Delta, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"improved": "#1a7f37", "regressed": "#cf222e"}
INK = "#57606a"
MARKERS = ("o", "s", "^", "D", "v", "P")
NUM_COLOURS = 10
"""Of matplotlib's cycle; lines after them get the next marker."""


def plot_deltas(result: Result, axes: Axes | None = None) -> Axes:
    """Draws each change of latency in percent with its interval; hollow where none is shown."""
    axes = _axes(axes)
    for y, delta in enumerate(result.deltas):
        colour = COLOURS.get(delta.verdict, INK)
        if delta.ci_pct is not None:
            axes.plot(delta.ci_pct, (y, y), color=colour, linewidth=2)
        face = colour if delta.verdict in COLOURS else "white"
        axes.plot([delta.delta_pct], [y], marker="o", color=colour, markerfacecolor=face, linestyle="none")
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(result.deltas)), [_label(delta) for delta in result.deltas])
    axes.invert_yaxis()
    axes.set_xlabel(f"change of latency from {result.named[0]} (%); left is faster")
    return axes


def plot_samples(result: Result, axes: Axes | None = None) -> Axes:
    """Draws the latency of the whole in ms, a point a round, a line a case and variant."""
    axes = _axes(axes)
    for case in result.cases:
        for name in result.named:
            own = [run for run in result.runs if (run.case, run.variant) == (case, name)]
            points = sorted(latency_by_round(own, WHOLE).items())
            if points:
                label = name if len(result.cases) == 1 else f"{name} at {case}"
                marker = MARKERS[len(axes.lines) // NUM_COLOURS % len(MARKERS)]
                axes.plot([x + 1 for x, _ in points], [y for _, y in points], marker=marker, label=label)
    axes.set_xlabel("round")
    axes.set_ylabel("latency (ms)")
    axes.set_ylim(bottom=0)
    axes.legend()
    return axes


def plot_host_syncs(result: Result, axes: Axes | None = None) -> Axes:
    """Draws the host syncs of each case and stage, a bar a variant; nothing where they are not known."""
    axes = _axes(axes)
    places = [(case, stage) for case in result.cases for stage in result.stages]
    width = 0.8 / len(result.named)
    for index, name in enumerate(result.named):
        counts = {(cell.case, cell.stage): cell.host_syncs for cell in result.cells if cell.variant == name}
        if len(result.stages) == 1:
            counts = {(case, result.stages[0]): counts.get((case, WHOLE)) for case in result.cases}
        known = [(x, counts.get(place)) for x, place in enumerate(places)]
        bars = [(x, count) for x, count in known if count is not None]
        axes.bar([x + width * index for x, _ in bars], [count for _, count in bars], width=width, label=name)
    axes.set_xticks(range(len(places)), [f"{case}\n{stage_text(stage)}" for case, stage in places])
    axes.set_ylabel("host syncs")
    axes.legend()
    return axes


def _label(delta: Delta) -> str:
    return f"{delta.case} {stage_text(delta.stage)} {delta.candidate}"


def _axes(axes: Axes | None) -> Axes:
    if axes is not None:
        return axes
    from matplotlib import pyplot

    return pyplot.figure(layout="constrained").add_subplot()
