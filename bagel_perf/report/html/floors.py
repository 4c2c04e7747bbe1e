"""Where the time goes against the least that the device needs, and how near its rates come to the ceilings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bagel_perf.analysis.floors import against_floor
from bagel_perf.report.cells import cell_of
from bagel_perf.report.condition_tables import condition_tables
from bagel_perf.report.floor_tables import floor_tables
from bagel_perf.report.html import svg
from bagel_perf.report.html.content import Block, Plot, Section, TableBlock, Text, tables
from bagel_perf.report.html.kernels import Profiled, kernel_blocks, profiled_classes
from bagel_perf.report.table import stage_text
from bagel_perf.report.tables import work_table
from bagel_perf.schema.floors import Ceilings, StageFloor
from bagel_perf.schema.results import Result
from bagel_perf.schema.syncs import SyncReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KERNELS_CLASS = "GEMM"
"""The class of which a result counts operations and bytes both."""
MISSING = "No floor: the rates that the device can reach are measured on a GPU alone, by compare in the same run."
UNPROFILED = "Which kernels took the time is not known: profiled runs of syncs, given beside the result, say so."


def floors_section(result: Result, reports: Sequence[SyncReport] = ()) -> Section:
    """Drawings, components and multiples of the floor; then what the GPU did and what that took.

    Profiled runs among ``reports`` say which kernels it was.
    """
    runs = profiled_classes(result, reports)
    work: tuple[TableBlock, ...] = tables(work_table(result)) if any(cell.work for cell in result.cells) else ()
    floors: tuple[Block, ...] = (*_plots(result, runs), *tables(*floor_tables(result))) or (Text(text=MISSING),)
    kernels = tuple(kernel_blocks(runs)) or (Text(text=UNPROFILED),)
    conditions = tables(*condition_tables(result))
    return Section(anchor="floors", title="Floors", blocks=(*floors, *kernels, *work, *conditions))


def _plots(result: Result, runs: Sequence[Profiled]) -> Iterator[Plot]:
    floors = [each for each in result.floors if svg.is_plain(each.floor_ms) and each.floor_ms > 0]
    if result.ceilings is not None and floors:
        yield _parts_plot(result, floors)
        yield _roofline(result, floors, result.ceilings, runs)


def _place(floor: StageFloor) -> str:
    return f"{stage_text(floor.stage)} at {floor.case}"


def _parts_plot(result: Result, floors: list[StageFloor]) -> Plot:
    """Components one after another, and the medians of the variants as marks."""

    def paint(figure: Figure) -> None:
        grid = figure.subplots(len(floors), 1, squeeze=False)
        for row, floor in enumerate(floors):
            _paint_parts(grid[row][0], result, floor)

    label = "Components of each floor, and each variant's median"
    caption = (
        f"{label}. Bars: the least time of each part, one after another (ms); marks: medians of the variants (ms)."
    )
    return Plot(svg=svg.draw("floor", 0.4 + 1.3 * len(floors), paint), label=label, caption=caption)


def _paint_parts(axes: Axes, result: Result, floor: StageFloor) -> None:
    left = 0.0
    for index, part in enumerate(floor.components):
        colour = svg.SERIES[index % len(svg.SERIES)]
        axes.barh(
            0, part.floor_ms, left=left, height=0.5, color=colour, edgecolor=svg.PAPER, label=svg.short(part.name)
        )
        left += part.floor_ms
    case = floor.case
    for index, variant in enumerate(result.named):
        cell = cell_of(result, case, floor.stage, variant)
        if cell is not None and cell.median_ms is not None and svg.is_plain(cell.median_ms):
            axes.plot([cell.median_ms], [0.75], marker="v", color=svg.INK, markersize=5, linestyle="none")
            height = 1.05 + 0.45 * (index % 3)
            axes.text(cell.median_ms, height, svg.short(variant), ha="center", va="bottom", fontsize=8)
    axes.set_yticks([])
    axes.set_ylim(-0.4, 2.6)
    axes.set_xlim(left=0)
    axes.spines["left"].set_visible(False)
    axes.set_title(f"{_place(floor)} (ms)", loc="left")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), ncols=2)


def _roofline(result: Result, floors: list[StageFloor], ceilings: Ceilings, runs: Sequence[Profiled]) -> Plot:
    """Both axes are logarithmic; a point a stage and variant, and one for each class of kernels in a profiled run."""

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set_xscale("log")
        axes.set_yscale("log")
        for index, variant in enumerate(result.named):
            points = list(_points(result, floors, variant))
            if points:
                style = svg.style_of(index)
                axes.plot(*zip(*points, strict=True), label=svg.short(variant), markersize=6, linestyle="none", **style)
        kernels = list(_paint_kernels(axes, runs, result.named))
        _paint_ceilings(axes, ceilings, [*(floor.flops / floor.bytes for floor in floors if floor.bytes), *kernels])
        _paint_places(axes, floors)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "25" else "")
        axes.set_xlabel("operations per byte moved (FLOP/B)")
        axes.set_ylabel("rate (TFLOP/s)")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))

    label = "Roofline: the rate of each stage and variant under the measured ceilings"
    how = "operations and bytes are those of the floor, both axes logarithmic, ceilings measured in the same run"
    if any(each.name == KERNELS_CLASS and each.intensity for run in runs for each in run.classes):
        how += f"; hollow: all {KERNELS_CLASS} kernels of a profiled run over their time, at the clocks of that run"
    return Plot(svg=svg.draw("roofline", 4.2, paint), label=label, caption=f"{label}; {how}.")


def _points(result: Result, floors: list[StageFloor], variant: str) -> Iterator[tuple[float, float]]:
    for floor in floors:
        cell = cell_of(result, floor.case, floor.stage, variant)
        if cell is not None and cell.median_ms is not None and floor.bytes and floor.flops:
            yield floor.flops / floor.bytes, against_floor(cell.median_ms, floor).tflops


def _paint_kernels(axes: Axes, runs: Sequence[Profiled], variants: Sequence[str]) -> Iterator[float]:
    """The class whose operations and bytes are known, in the variant's colour; gives where it stands on the x axis."""
    for run in runs:
        for each in run.classes:
            if each.name == KERNELS_CLASS and each.intensity and each.tflops and svg.is_plain(each.intensity):
                index = variants.index(run.variant) if run.variant in variants else len(variants)
                style = svg.style_of(index)
                axes.plot([each.intensity], [each.tflops], markersize=8, markerfacecolor="none", **style)
                yield each.intensity


def _paint_places(axes: Axes, floors: list[StageFloor]) -> None:
    """A line for each stage, its name above, to the left and to the right by turns."""
    known = sorted((floor.flops / floor.bytes, _place(floor)) for floor in floors if floor.bytes and floor.flops)
    for index, (x, name) in enumerate(known):
        axes.axvline(x, color=svg.LINE, linewidth=0.8, zorder=0)
        side = "left" if index % 2 else "right"
        at: dict[str, Any] = {
            "xycoords": ("data", "axes fraction"),
            "rotation": 90,
            "ha": side,
            "va": "bottom",
            "fontsize": 8,
        }
        axes.annotate(name, (x, 1.01), **at)


def _paint_ceilings(axes: Axes, ceilings: Ceilings, intensities: list[float]) -> None:
    low, high = min(intensities, default=1.0) / 3, max(intensities, default=1000.0) * 3
    for name, tflops in (("GEMM", ceilings.gemm_tflops), ("attention", ceilings.attention_tflops)):
        if svg.is_plain(tflops) and tflops > 0:
            axes.plot([low, high], [tflops, tflops], color=svg.INK, linewidth=1)
            axes.annotate(f"{name} {tflops:.0f} TFLOP/s", (low, tflops), va="bottom", fontsize=8)
    if svg.is_plain(ceilings.copy_tbps) and ceilings.copy_tbps > 0:
        top = max(ceilings.gemm_tflops, ceilings.attention_tflops)
        ends = [low, min(high, top / ceilings.copy_tbps)]
        if ends[0] < ends[1]:
            axes.plot(ends, [end * ceilings.copy_tbps for end in ends], color=svg.INK, linewidth=1, linestyle="--")
            middle = math.sqrt(ends[0] * ends[1])
            beside: dict[str, Any] = {"xytext": (6, 0), "textcoords": "offset points", "va": "top", "fontsize": 8}
            axes.annotate(f"copy {ceilings.copy_tbps:.2f} TB/s", (middle, middle * ceilings.copy_tbps), **beside)
