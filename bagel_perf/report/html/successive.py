"""From the first variant to the best: times and host syncs variant by variant, and what each component saves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bagel_perf.records.ablations import Ablation, Saving
from bagel_perf.records.results import Result
from bagel_perf.report.ablation_tables import ablation_tables
from bagel_perf.report.html import svg
from bagel_perf.report.html.content import Block, Fold, Plot, Section, Text, tables
from bagel_perf.report.table import UNSHOWN, bitwise_variants, cell_of, delta_of, divisible_text, stage_text
from bagel_perf.report.tables import every_successive_table, steps_to
from bagel_perf.verdicts.statistics import change_of_medians_pct

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHIFT = 0.17
"""Of the two marks of a component from the middle of its row."""
TOTAL = "all together"
CAPTION = (
    "{label}. Round, above: put in alone; square, below: put in where all others are; diamond: all together. Bars are "
    "intervals, cut at the edge; hollow marks have one that holds 0 or none; * is a part of what denoise_loop does."
)


def component_plots(result: Result) -> Iterator[Plot]:
    """One a resolution, the stages side by side."""
    for index, case in enumerate(dict.fromkeys(each.case for each in result.ablations)):
        ablations = [each for each in result.ablations if each.case == case]
        label = f"What the components of {ablations[0].variant} save at {case}"
        drawing = _drawn(f"components{index}", ablations)
        yield Plot(svg=drawing, label=label, caption=CAPTION.format(label=label))


def _drawn(key: str, ablations: Sequence[Ablation]) -> str:
    names = list(dict.fromkeys(component.component for each in ablations for component in each.components))
    swallowed = {component.component for each in ablations for component in each.components if component.swallowed}
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
    for component in ablation.components:
        row = names.index(component.component)
        _mark(axes, component.alone, row - SHIFT, svg.PARTS[0], "o")
        _mark(axes, component.last, row + SHIFT, svg.PARTS[1], "s")
    _mark(axes, ablation.total, len(names), svg.INK, "D")
    savings = [
        each for component in ablation.components for each in (component.alone, component.last) if each is not None
    ]
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


ABLATE = (
    "What each component saves alone and last is not in this result; bagel-perf compare --ablate --pairs 6 measures it."
)

HOW = (
    "Full bar: what is left, as a median; pale: what went from the variant above; red: what came; % is the delta of "
    f"medians, with {UNSHOWN} where the paired change is not shown or the pairs are too few."
)


def successive_section(result: Result) -> Section:
    """The last case's waterfall and table from variant to variant, the other cases closed, and the components."""
    drawn = list(zip(_waterfalls(result), tables(*every_successive_table(result)), strict=True))
    folds = tuple(Fold(summary=plot.label, blocks=(plot, table)) for plot, table in drawn[:-1])
    blocks: tuple[Block, ...] = (*drawn[-1], *folds) if drawn else ()
    components = tuple(_components(result)) if result.outline.is_bagel else ()
    return Section(
        anchor="successive",
        title="Variant to variant",
        blocks=(*(blocks or (Text(text="Nothing was timed."),)), *components),
    )


def _components(result: Result) -> Iterator[Block]:
    """What each saves, folded; where it was not measured, how to."""
    blocks: tuple[Block, ...] = (*component_plots(result), *tables(*ablation_tables(result)))
    if blocks:
        yield Fold(summary="Components left in and left out", blocks=blocks)
    else:
        yield Text(text=ABLATE, style="note")


def _waterfalls(result: Result) -> Iterator[Plot]:
    variants = bitwise_variants(result)
    for index, case in enumerate(result.cases):

        def paint(figure: Figure, case: str = case) -> None:
            grid = figure.subplots(2, len(result.timed_stages), squeeze=False)
            for column, stage in enumerate(result.timed_stages):
                times, counts = _medians(result, case, stage, variants), _syncs(result, case, stage, variants)
                notes = list(_step_texts(result, case, stage, variants))
                grid[0][column].set_title(f"{stage_text(stage)}: latency (ms)", loc="left")
                grid[1][column].set_title(f"{stage_text(stage)}: host syncs", loc="left")
                colours = [svg.style_of(result.named.index(variant))["color"] for variant in variants]
                _fall(grid[0][column], times, notes, divisible_text, colours)
                _fall(grid[1][column], counts, [""] * len(variants), "{:,.0f}".format, colours)
                for row in range(2):
                    names = [svg.short(name) for name in variants] if column == 0 else []
                    grid[row][column].set_yticks(range(len(variants)), names or [""] * len(variants))

        label = f"From {variants[0]} to {variants[-1]} at {case}"
        drawing = svg.draw(f"successive{index}", 0.9 + 0.5 * len(variants), paint)
        caption = f"{label}. {HOW}"
        yield Plot(svg=drawing, label=label, caption=caption)


def _medians(result: Result, case: str, stage: str, variants: tuple[str, ...]) -> list[float | None]:
    cells = [cell_of(result, case, stage, variant) for variant in variants]
    return [None if cell is None else cell.median_ms for cell in cells]


def _syncs(result: Result, case: str, stage: str, variants: tuple[str, ...]) -> list[float | None]:
    cells = [cell_of(result, case, stage, variant) for variant in variants]
    return [None if cell is None else cell.host_syncs for cell in cells]


def _step_texts(result: Result, case: str, stage: str, variants: Sequence[str]) -> Iterator[str]:
    """What the bars show, in percent, and whether the paired change is shown."""
    medians = _medians(result, case, stage, tuple(variants))
    for variant, before, after in zip(variants, (None, *medians), medians, strict=False):
        change_pct = change_of_medians_pct(before, after)
        step = delta_of(steps_to(result, variant), case, stage, variant)
        is_shown = step is not None and step.verdict in ("improved", "regressed")
        yield "" if change_pct is None else f"{change_pct:+.1f}%{UNSHOWN * (not is_shown)}"


def _fall(
    axes: Axes,
    values: list[float | None],
    notes: list[str],
    form: Callable[[float], str],
    colours: Sequence[str],
) -> None:
    before: float | None = None
    top = max((value for value in values if value is not None and svg.is_plain(value)), default=0.0) or 1.0
    for y, (value, note) in enumerate(zip(values, notes, strict=True)):
        if value is None or not svg.is_plain(value):
            axes.text(0, y, "not measured", va="center", fontsize=8.5)
            continue
        style: dict[str, Any] = {"height": 0.62, "linewidth": 0}
        axes.barh(y, value, color=colours[y], **style)
        if before is not None and before > value:
            axes.barh(y, before - value, left=value, color=svg.SHADE, **style)
        if before is not None and before < value:
            axes.barh(y, value - before, left=before, color=svg.WORSE, **style)
        end = max(value, before or 0.0) + 0.015 * top
        axes.text(end, y, "  ".join(part for part in (form(value), note) if part), va="center", fontsize=8.5)
        before = value
    axes.set_xlim(0, 1.45 * top)
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=4)
