"""Every timed round: latencies in the order in which they were measured, and what the GPU did meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from bagel_perf.analysis.rounds import latency_by_round
from bagel_perf.report.cells import resolutions
from bagel_perf.report.html import svg
from bagel_perf.report.html.bounds import MAX_POINTS, thinned
from bagel_perf.report.html.content import Block, Fold, Plot, Section, TableBlock, Text
from bagel_perf.report.table import STAGE_LABELS, Column, Table, ms_text, res_text
from bagel_perf.schema.conditions import Conditions
from bagel_perf.schema.results import Result, res_label
from bagel_perf.schema.runs import Run
from bagel_perf.schema.slots import STAGES, Stage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

READINGS: tuple[tuple[str, Callable[[Conditions], float | None]], ...] = (
    ("SM clock (MHz)", lambda each: each.sm_clock_mhz),
    ("temperature (C)", lambda each: each.temperature_c),
    ("power (W)", lambda each: each.power_w),
)


def samples_section(result: Result) -> Section:
    """A drawing and a table for each resolution, and the runs that do not count."""
    blocks = tuple(_blocks(result)) or (Text(text="Nothing was timed."),)
    dropped = (TableBlock(table=_dropped_table(result)),) if result.dropped else (Text(text="No pair was dropped."),)
    return Section(anchor="samples", title="Samples", blocks=(*blocks, *dropped))


def _blocks(result: Result) -> Iterator[Block]:
    for index, res in enumerate(resolutions(result)):
        own = [run for run in result.runs if run.purpose == "timed" and res_label(run.width, run.height) == res]
        if own:
            yield _plot(result, f"samples{index}", res, own)
            title = f"Latency of each round at {res_text(res)}"
            yield Fold(summary=title, blocks=(TableBlock(table=_table(result, title, own)),))


def _plot(result: Result, key: str, res: int | str, own: list[Run]) -> Plot:
    readings = [(name, read) for name, read in READINGS if any(_reading(run, read) is not None for run in own)]
    gone = {(each.round, each.variant) for each in result.dropped if each.res == res}

    def paint(figure: Figure) -> None:
        heights = [1.6] * len(STAGES) + [1.0] * len(readings)
        grid = figure.subplots(len(heights), 1, squeeze=False, sharex=True, gridspec_kw={"height_ratios": heights})
        for row, stage in enumerate(STAGES):
            _paint_stage(grid[row][0], result, own, stage, gone)
        for row, (name, read) in enumerate(readings, len(STAGES)):
            _paint_reading(grid[row][0], result, own, name, read)
        grid[0][0].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        grid[-1][0].set_xlabel("round")
        grid[-1][0].locator_params(axis="x", integer=True)

    label = f"Latency of each round at {res_text(res)}"
    parts = ["in the order of time"]
    num_rounds = len({run.round for run in own})
    parts += [f"at most {MAX_POINTS} of {num_rounds} rounds"] if num_rounds > MAX_POINTS else []
    parts += [f"small cross: {result.variants[0]} a second time"] if any(run.again for run in own) else []
    parts += ["hollow: dropped"] if gone else []
    parts += [] if readings else ["clocks, temperature and power were not recorded"]
    drawing = svg.draw(key, 0.5 + 1.5 * len(STAGES) + len(readings), paint)
    return Plot(svg=drawing, label=label, caption=f"{label}; {'; '.join(parts)}.")


def _paint_stage(axes: Axes, result: Result, own: list[Run], stage: Stage, gone: set[tuple[int, str]]) -> None:
    for index, variant in enumerate(result.variants):
        colour, marker = svg.SERIES[index % 6], svg.MARKERS[index % 6]
        runs = [run for run in own if run.variant == variant]
        points = [(x + 1, y) for x, y in sorted(latency_by_round(runs, stage).items()) if svg.is_plain(y)]
        points = thinned(points)
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=4, label=svg.short(variant))
        hollow = [(x, y) for x, y in points if (x - 1, variant) in gone]
        if hollow:
            axes.scatter(*zip(*hollow, strict=True), marker=marker, facecolors=svg.PAPER, edgecolors=colour, zorder=5)
        again = thinned([(x + 1, y) for x, y in latency_by_round(runs, stage, again=True).items() if svg.is_plain(y)])
        if again:
            axes.plot(*zip(*again, strict=True), color=colour, marker="x", markersize=4, linestyle="none")
    axes.set_title(f"{STAGE_LABELS[stage]} (ms)", loc="left")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")


def _paint_reading(
    axes: Axes, result: Result, own: list[Run], name: str, read: Callable[[Conditions], float | None]
) -> None:
    for index, variant in enumerate(result.variants):
        points = [
            (run.round + 1, value)
            for run in own
            if run.variant == variant and run.round is not None and (value := _reading(run, read)) is not None
        ]
        if points:
            axes.plot(*zip(*thinned(points), strict=True), markersize=4, linestyle="none", **svg.style_of(index))
    axes.set_title(name, loc="left")
    axes.grid(axis="y")


def _reading(run: Run, read: Callable[[Conditions], float | None]) -> float | None:
    value = None if run.conditions is None else read(run.conditions)
    return value if svg.is_plain(value) else None


def _table(result: Result, title: str, own: list[Run]) -> Table:
    """A row for each round and stage, a column for each variant."""
    series = {
        (stage, variant): latency_by_round([run for run in own if run.variant == variant], stage)
        for stage in STAGES
        for variant in result.variants
    }
    rounds = sorted({run.round for run in own if run.round is not None})
    rows = [
        (str(each + 1), STAGE_LABELS[stage], *(ms_text(series[stage, name].get(each)) for name in result.variants))
        for stage in STAGES
        for each in rounds
    ]
    return Table(
        title=title,
        columns=(
            Column(header="round", numeric=True),
            Column(header="stage"),
            *(Column(header=f"{name} (ms)", numeric=True) for name in result.variants),
        ),
        rows=tuple(rows),
    )


def _dropped_table(result: Result) -> Table:
    return Table(
        title="Runs whose pairs do not count",
        columns=(
            Column(header="resolution"),
            Column(header="round", numeric=True),
            Column(header="variant"),
            Column(header="reason"),
        ),
        rows=tuple((res_text(each.res), str(each.round + 1), each.variant, each.reason) for each in result.dropped),
        caption="by rules that know no latency",
    )
