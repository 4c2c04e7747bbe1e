"""The way from the first variant to the best: times and host syncs rung by rung, and what each slot saves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bagel_perf.report.ablation_tables import ablation_tables
from bagel_perf.report.captions import UNSHOWN
from bagel_perf.report.cells import bitwise_variants, cell_of, delta_of
from bagel_perf.report.html import svg
from bagel_perf.report.html.content import Block, Heading, Plot, Section, Text, tables
from bagel_perf.report.html.slots_plot import slot_plots
from bagel_perf.report.ladder_tables import every_ladder_table
from bagel_perf.report.table import stage_text
from bagel_perf.schema.results import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ABLATE = "What each slot saves alone and last is not in this result; bagel-perf compare --ablate --pairs 6 measures it."

HOW = (
    "Full bar: what is left, as a median; pale: what went from the variant above; red: what came; % is its change, "
    f"with {UNSHOWN} where no difference is shown or the pairs are too few."
)


def ladder_section(result: Result) -> Section:
    """A waterfall for each resolution, the table of the ladder, and the slots."""
    is_bagel = result.outline.is_bagel
    ablations: tuple[Block, ...] = (*slot_plots(result), *tables(*ablation_tables(result)))
    blocks: tuple[Block, ...] = (*_waterfalls(result), *tables(*every_ladder_table(result)))
    return Section(
        anchor="ladder",
        title="Ladder" if is_bagel else "From variant to variant",
        blocks=(
            *(blocks or (Text(text="Nothing was timed."),)),
            *((Heading(text="Slots left in and left out"), *(ablations or (Text(text=ABLATE),))) if is_bagel else ()),
        ),
    )


def _waterfalls(result: Result) -> Iterator[Plot]:
    variants = bitwise_variants(result)
    for index, case in enumerate(result.cases):

        def paint(figure: Figure, case: str = case) -> None:
            grid = figure.subplots(2, len(result.timed_stages), squeeze=False)
            for column, stage in enumerate(result.timed_stages):
                times, counts = _medians(result, case, stage, variants), _syncs(result, case, stage, variants)
                notes = [_step_text(result, case, stage, variant) for variant in variants]
                grid[0][column].set_title(f"{stage_text(stage)}: latency (ms)", loc="left")
                grid[1][column].set_title(f"{stage_text(stage)}: host syncs", loc="left")
                _fall(grid[0][column], times, notes, "{:.1f}")
                _fall(grid[1][column], counts, [""] * len(variants), "{:.0f}")
                for row in range(2):
                    names = [svg.short(name) for name in variants] if column == 0 else []
                    grid[row][column].set_yticks(range(len(variants)), names or [""] * len(variants))

        label = f"From {variants[0]} to {variants[-1]} at {case}"
        drawing = svg.draw(f"ladder{index}", 0.9 + 0.5 * len(variants), paint)
        caption = f"{label}. {HOW}"
        yield Plot(svg=drawing, label=label, caption=caption)


def _medians(result: Result, case: str, stage: str, variants: tuple[str, ...]) -> list[float | None]:
    cells = [cell_of(result, case, stage, variant) for variant in variants]
    return [None if cell is None else cell.median_ms for cell in cells]


def _syncs(result: Result, case: str, stage: str, variants: tuple[str, ...]) -> list[float | None]:
    cells = [cell_of(result, case, stage, variant) for variant in variants]
    return [None if cell is None else cell.host_syncs for cell in cells]


def _step_text(result: Result, case: str, stage: str, variant: str) -> str:
    step = delta_of(result.steps, case, stage, variant)
    if step is None:
        return ""
    return f"{step.delta_pct:+.1f}%{UNSHOWN * (step.verdict not in ('improved', 'regressed'))}"


def _fall(axes: Axes, values: list[float | None], notes: list[str], form: str) -> None:
    before: float | None = None
    top = max((value for value in values if value is not None and svg.is_plain(value)), default=0.0) or 1.0
    for y, (value, note) in enumerate(zip(values, notes, strict=True)):
        if value is None or not svg.is_plain(value):
            axes.text(0, y, "not measured", va="center", fontsize=8.5)
            continue
        style: dict[str, Any] = {"height": 0.62, "linewidth": 0}
        axes.barh(y, value, color=svg.SERIES[0], **style)
        if before is not None and before > value:
            axes.barh(y, before - value, left=value, color=svg.SHADE, **style)
        if before is not None and before < value:
            axes.barh(y, value - before, left=before, color=svg.WORSE, **style)
        end = max(value, before or 0.0) + 0.015 * top
        axes.text(end, y, "  ".join(part for part in (form.format(value), note) if part), va="center", fontsize=8.5)
        before = value
    axes.set_xlim(0, 1.45 * top)
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=4)
