"""Every timed round: latencies in the order in which they were measured, and what the GPU did meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from bagel_perf.records.results import Result
from bagel_perf.records.runs import Conditions, TimedRun, runs_of
from bagel_perf.report.html import svg
from bagel_perf.report.html.content import MAX_POINTS, Block, Fold, Plot, Section, TableBlock, Text, thinned
from bagel_perf.report.table import Column, Table, ms_text, stage_text
from bagel_perf.verdicts.judging import latency_by_round

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
    excluded = (
        (TableBlock(table=_excluded_table(result)),) if result.excluded else (Text(text="No pair was excluded."),)
    )
    return Section(anchor="samples", title="Samples", blocks=(*blocks, *excluded))


def _blocks(result: Result) -> Iterator[Block]:
    for index, case in enumerate(result.cases):
        own = [run for run in runs_of(TimedRun, result.runs) if run.case == case]
        if own:
            yield _plot(result, f"samples{index}", case, own)
            title = f"Latency of each round at {case}"
            yield Fold(summary=title, blocks=(TableBlock(table=_table(result, title, own)),))


def _plot(result: Result, key: str, case: str, own: list[TimedRun]) -> Plot:
    readings = [(name, read) for name, read in READINGS if any(_reading(run, read) is not None for run in own)]
    gone = {(each.round, each.variant) for each in result.excluded if each.case == case}

    def paint(figure: Figure) -> None:
        heights = [1.6] * len(result.timed_stages) + [1.0] * len(readings)
        grid = figure.subplots(len(heights), 1, squeeze=False, sharex=True, gridspec_kw={"height_ratios": heights})
        for row, stage in enumerate(result.timed_stages):
            _paint_stage(grid[row][0], result, own, stage, gone)
        for row, (name, read) in enumerate(readings, len(result.timed_stages)):
            _paint_reading(grid[row][0], result, own, name, read)
        grid[0][0].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        grid[-1][0].set_xlabel("round")
        grid[-1][0].locator_params(axis="x", integer=True)

    label = f"Latency of each round at {case}"
    parts = ["in the order of time"]
    num_rounds = len({run.round for run in own})
    parts += [f"at most {MAX_POINTS} of {num_rounds} rounds"] if num_rounds > MAX_POINTS else []
    parts += [f"small cross: {result.named[0]} a second time"] if any(run.is_control for run in own) else []
    parts += ["hollow: excluded"] if gone else []
    parts += [] if readings else ["clocks, temperature and power were not recorded"]
    drawing = svg.draw(key, 0.5 + 1.5 * len(result.timed_stages) + len(readings), paint)
    return Plot(svg=drawing, label=label, caption=f"{label}; {'; '.join(parts)}.")


def _paint_stage(axes: Axes, result: Result, own: list[TimedRun], stage: str, gone: set[tuple[int, str]]) -> None:
    for index, variant in enumerate(result.named):
        style = svg.style_of(index)
        runs = [run for run in own if run.variant == variant]
        points = [(x + 1, y) for x, y in sorted(latency_by_round(runs, stage).items()) if svg.is_plain(y)]
        points = thinned(points)
        if points:
            axes.plot(*zip(*points, strict=True), markersize=4, label=svg.short(variant), **style)
        hollow = [(x, y) for x, y in points if (x - 1, variant) in gone]
        if hollow:
            axes.scatter(
                *zip(*hollow, strict=True),
                marker=style["marker"],
                facecolors=svg.PAPER,
                edgecolors=style["color"],
                zorder=5,
            )
        control = thinned(
            [(x + 1, y) for x, y in latency_by_round(runs, stage, is_control=True).items() if svg.is_plain(y)]
        )
        if control:
            axes.plot(*zip(*control, strict=True), color=style["color"], marker="x", markersize=4, linestyle="none")
    axes.set_title(f"{stage_text(stage)} (ms)", loc="left")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")


def _paint_reading(
    axes: Axes, result: Result, own: list[TimedRun], name: str, read: Callable[[Conditions], float | None]
) -> None:
    for index, variant in enumerate(result.named):
        points = [
            (run.round + 1, value)
            for run in own
            if run.variant == variant and (value := _reading(run, read)) is not None
        ]
        if points:
            axes.plot(*zip(*thinned(points), strict=True), markersize=4, linestyle="none", **svg.style_of(index))
    axes.set_title(name, loc="left")
    axes.grid(axis="y")


def _reading(run: TimedRun, read: Callable[[Conditions], float | None]) -> float | None:
    value = None if run.conditions is None else read(run.conditions)
    return value if svg.is_plain(value) else None


def _table(result: Result, title: str, own: list[TimedRun]) -> Table:
    """A row for each round and stage, a column for each variant."""
    series = {
        (stage, variant): latency_by_round([run for run in own if run.variant == variant], stage)
        for stage in result.timed_stages
        for variant in result.named
    }
    rounds = sorted({run.round for run in own})
    rows = [
        (str(each + 1), stage_text(stage), *(ms_text(series[stage, name].get(each)) for name in result.named))
        for stage in result.timed_stages
        for each in rounds
    ]
    return Table(
        title=title,
        columns=(
            Column(header="round", numeric=True),
            Column(header="stage"),
            *(Column(header=f"{name} (ms)", numeric=True) for name in result.named),
        ),
        rows=tuple(rows),
    )


def _excluded_table(result: Result) -> Table:
    return Table(
        title="Runs whose pairs do not count",
        columns=(
            Column(header="case"),
            Column(header="round", numeric=True),
            Column(header="variant"),
            Column(header="reason"),
        ),
        rows=tuple((each.case, str(each.round + 1), each.variant, each.reason) for each in result.excluded),
        caption="by rules that know no latency",
    )
