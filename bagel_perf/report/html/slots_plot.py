"""What each slot of a rung saves, put in alone and put in last, with the intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bagel_perf.report.html import svg
from bagel_perf.report.html.content import Plot
from bagel_perf.report.table import stage_text
from bagel_perf.schema.ablations import Ablation, Saving
from bagel_perf.schema.results import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHIFT = 0.17
"""Of the two marks of a slot from the middle of its row."""
TOTAL = "all together"
CAPTION = (
    "{label}. Round, above: put in alone; square, below: put in where all others are; diamond: all together. Bars are "
    "intervals, cut at the edge; hollow marks have one that holds 0 or none; * is a part of what denoise_loop does."
)


def slot_plots(result: Result) -> Iterator[Plot]:
    """One a resolution, the stages side by side."""
    for index, case in enumerate(dict.fromkeys(each.case for each in result.ablations)):
        ablations = [each for each in result.ablations if each.case == case]
        label = f"What the slots of {ablations[0].variant} save at {case}"
        drawing = _drawn(f"slots{index}", ablations)
        yield Plot(svg=drawing, label=label, caption=CAPTION.format(label=label))


def _drawn(key: str, ablations: Sequence[Ablation]) -> str:
    names = list(dict.fromkeys(slot.slot for each in ablations for slot in each.slots))
    swallowed = {slot.slot for each in ablations for slot in each.slots if slot.swallowed}
    labels = [svg.short(f"{name} *" if name in swallowed else name) for name in names]

    def paint(figure: Figure) -> None:
        grid = figure.subplots(1, len(ablations), squeeze=False)
        for axes, ablation in zip(grid[0], ablations, strict=True):
            _paint(axes, ablation, names)
            shown = [*labels, TOTAL] if ablation is ablations[0] else [""] * (len(names) + 1)
            axes.set_yticks(range(len(names) + 1), shown)

    return svg.draw(key, 0.9 + 0.34 * (len(names) + 1), paint)


def _paint(axes: Axes, ablation: Ablation, names: Sequence[str]) -> None:
    axes.axvline(0, color=svg.INK, linewidth=0.8)
    for slot in ablation.slots:
        row = names.index(slot.slot)
        _mark(axes, slot.alone, row - SHIFT, svg.SERIES[0], "o")
        _mark(axes, slot.last, row + SHIFT, svg.SERIES[1], "s")
    _mark(axes, ablation.total, len(names), svg.INK, "D")
    savings = [each for slot in ablation.slots for each in (slot.alone, slot.last) if each is not None]
    plain = [each for each in (*savings, ablation.total) if svg.is_plain(each.ms, *(each.ci_ms or ()))]
    if plain:
        axes.set_xlim(svg.limits([each.ms for each in plain], [end for each in plain for end in each.ci_ms or ()]))
    axes.set_title(f"{stage_text(ablation.stage)}: saved (ms)", loc="left")
    axes.set_ylim(len(names) + 0.6, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=4)
    axes.grid(axis="x")


def _mark(axes: Axes, saving: Saving | None, y: float, colour: str, marker: str) -> None:
    if saving is None or not svg.is_plain(saving.ms, *(saving.ci_ms or ())):
        return
    if saving.ci_ms is not None:
        axes.plot(saving.ci_ms, (y, y), color=colour, linewidth=1.6, solid_capstyle="butt")
    face = colour if saving.is_shown else svg.PAPER
    axes.plot([saving.ms], [y], marker=marker, markersize=5, color=colour, markerfacecolor=face, zorder=5)
