"""Where the GPU's time went by class of kernel in the profiled runs, against the floor of the same request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bagel_perf.analysis.kernel_classes import CLASSES, ClassTime, class_times
from bagel_perf.report.html import svg
from bagel_perf.report.html.content import Block, Plot, TableBlock
from bagel_perf.report.html.profiled import size_of, variant_of
from bagel_perf.report.table import NONE, Column, Table
from bagel_perf.schema.floors import StageFloor
from bagel_perf.schema.results import Result
from bagel_perf.schema.syncs import SyncReport

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
        handles = [_square(svg.SERIES[index], name) for index, name in enumerate(CLASSES)]
        figure.legend(handles=handles, loc="outside lower left", ncols=len(CLASSES))

    label = f"Time of the GPU by class of kernel{f' at {size}' if size else ''}"
    caption = f"{label}, in profiled runs; idle time is not in it. The first bar is the floor of the same work."
    return Plot(svg=svg.draw(key, 1.0 + 0.3 * (len(runs) + 1), paint), label=label, caption=caption)


def _paint_row(axes: Axes, y: int, times_ms: Sequence[float]) -> None:
    left = 0.0
    for index, ms in enumerate(times_ms):
        if svg.is_plain(ms):
            axes.barh(y, ms, left=left, height=0.62, color=svg.SERIES[index], linewidth=0)
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
