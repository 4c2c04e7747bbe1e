"""Where the time goes against the least that the device needs, by class of kernel; how near rates come to ceilings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bagel_perf.records.results import Ceilings, Result, StageFloor
from bagel_perf.records.syncs import SyncReport
from bagel_perf.report.html import svg
from bagel_perf.report.html.content import Block, Plot, Section, TableBlock, Text, tables
from bagel_perf.report.html.profiles import size_of, variant_of
from bagel_perf.report.machine_tables import condition_tables, floor_tables
from bagel_perf.report.table import NONE, Column, Table, cell_of, stage_text
from bagel_perf.report.tables import work_table
from bagel_perf.traces.names import CLASSES, ClassTime, class_times
from bagel_perf.verdicts.work import against_floor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

FLOOR = "floor"
CAPTION = (
    "kernels of a whole profiled run, by their names; floor, operations and bytes are those of the result, ViT with "
    "the GEMMs, autoencoder with the convolutions; the floor's rates had the clocks of another run, so it may be passed"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiled:
    """A profiled run with its kernels by class."""

    size: str
    variant: str
    classes: tuple[ClassTime, ...]


def profiled_classes(result: Result, reports: Sequence[SyncReport]) -> tuple[Profiled, ...]:
    """Of the runs whose kernels are known."""
    return tuple(
        Profiled(
            size=size_of(report),
            variant=variant_of(report),
            classes=tuple(class_times(report.profile.kernels, _floors(result, size_of(report)))),
        )
        for report in reports
        if report.profile is not None and report.profile.kernels
    )


def kernel_blocks(runs: Sequence[Profiled]) -> Iterator[Block]:
    """A drawing for each resolution, then the table."""
    for index, size in enumerate(dict.fromkeys(run.size for run in runs)):
        yield _plot(f"kernels{index}", size, [run for run in runs if run.size == size])
    if runs:
        yield TableBlock(table=_table(runs))


def _floors(result: Result, size: str) -> list[StageFloor]:
    return [floor for floor in result.floors if floor.case == size]


def _plot(key: str, size: str, runs: Sequence[Profiled]) -> Plot:
    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        floor = {each.name: each.floor_ms or 0.0 for run in runs for each in run.classes}
        rows = [(FLOOR, floor)] if any(floor.values()) else []
        rows += [(run.variant, {each.name: each.total_ms for each in run.classes}) for run in runs]
        for y, (_, times) in enumerate(rows):
            _paint_row(axes, y, [times.get(name, 0.0) for name in CLASSES])
        axes.set_yticks(range(len(rows)), [svg.short(name) for name, _ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("ms of the GPU in a whole run")
        axes.grid(axis="x")
        handles = [_square(svg.PARTS[index], name) for index, name in enumerate(CLASSES)]
        figure.legend(handles=handles, loc="outside lower left", ncols=len(CLASSES))

    label = f"Time of the GPU by class of kernel{f' at {size}' if size else ''}"
    caption = f"{label}, in profiled runs; idle time is not in it. The first bar is the floor of the same work."
    return Plot(svg=svg.draw(key, 1.0 + 0.3 * (len(runs) + 1), paint), label=label, caption=caption)


def _paint_row(axes: Axes, y: int, times_ms: Sequence[float]) -> None:
    left = 0.0
    for index, ms in enumerate(times_ms):
        if svg.is_plain(ms):
            axes.barh(y, ms, left=left, height=0.62, color=svg.PARTS[index], linewidth=0)
            left += ms


def _square(colour: str, label: str) -> Patch:
    from matplotlib.patches import Patch as Square

    return Square(color=colour, label=label)


def _table(runs: Sequence[Profiled]) -> Table:
    rows = [(run.size or NONE, run.variant, *_texts(each)) for run in runs for each in run.classes]
    headers = ("kernels", "GPU (ms)", "floor (ms)", "times floor", "TFLOP/s", "TB/s")
    return Table(
        title="Kernels by class",
        columns=(
            *(Column(header=header) for header in ("case", "variant", "class")),
            *(Column(header=header, numeric=True) for header in headers),
        ),
        rows=tuple(rows),
        caption=CAPTION,
    )


def _texts(each: ClassTime) -> tuple[str, ...]:
    return (
        each.name,
        str(each.count),
        f"{each.total_ms:.1f}",
        NONE if each.floor_ms is None else f"{each.floor_ms:.1f}",
        NONE if each.times_floor is None else f"{each.times_floor:.2f}",
        NONE if each.tflops is None else f"{each.tflops:.0f}",
        NONE if each.tbps is None else f"{each.tbps:.2f}",
    )


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
        colour = svg.PARTS[index % len(svg.PARTS)]
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
