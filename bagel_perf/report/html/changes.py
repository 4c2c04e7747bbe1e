"""What changed, in tables and as a forest of intervals: before, after, both changes, verdict, and host syncs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bagel_perf.records.results import Delta, Noise, Result
from bagel_perf.report.html import svg
from bagel_perf.report.html.content import Plot, Section, TableBlock, Text, tables
from bagel_perf.report.load_tables import load_tables
from bagel_perf.report.table import (
    Column,
    Table,
    bitwise_variants,
    cell_of,
    change_text,
    changes_caption,
    delta_of,
    place_text,
    stage_text,
    syncs_text,
    unit_text,
)
from bagel_perf.report.tables import change_cells, change_columns, sync_table, tolerance_tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VARIANT = "pr3987"
SOURCE = "vllm-project/vllm-omni pull request 3987: H800, AR and DiT on separate GPUs, 15 steps, means of 5"
DELTAS_PCT: dict[tuple[str, str], float] = {
    ("256x256", "ar"): -16.4,
    ("256x256", "dit"): -4.1,
    ("1024x1024", "ar"): -13.1,
    ("1024x1024", "dit"): -4.6,
}
"""By resolution and stage, as printed there."""

ROW_IN = 0.24
NO_FLOOR = "noise floor not measured"
SYNC = "Host sync: the CPU waits for the GPU."
TERMS = f"AR: inputs on the host to KV cache ready. DiT: noise to PNG bytes. e2e: the whole request. {SYNC}"
"""Of BAGEL."""


def changes_section(result: Result) -> Section:
    """One table of all bitwise candidates; those with a declared tolerance apart."""
    apart = tables(*tolerance_tables(result), *load_tables(result))
    blocks = (
        TableBlock(table=change_table(result)),
        *apart,
        *(() if result.outline.is_server else tables(sync_table(result))),
    )
    return Section(
        anchor="changes", title="Before and after", blocks=(Text(text=_terms(result), style="note"), *blocks)
    )


def _terms(result: Result) -> str:
    if result.outline.is_bagel:
        return TERMS
    if result.outline.is_server:
        return "e2e: from sending a request to its last byte, at the client. Stages are what the servers tell."
    is_single = len(result.stages) == 1
    whole = f"e2e: all of a run, in one stage ({result.stages[0]})." if is_single else "e2e: all stages of a run."
    return f"{whole} {SYNC}"


def change_table(result: Result) -> Table:
    """A row for each resolution, stage and bitwise candidate, with the host syncs before and after."""
    first, *candidates = variants = bitwise_variants(result)
    counted = () if result.outline.is_server else ("before", "after")  # nobody counts the waits of servers
    rows = [
        (
            case,
            stage_text(stage),
            candidate,
            *change_cells(result, case, stage, candidate),
            *(syncs_text(cell_of(result, case, stage, name)) for name in (first, candidate)[: len(counted)]),
        )
        for case in result.cases
        for stage in result.timed_stages
        for candidate in candidates
    ]
    return Table(
        title=f"{place_text(result)}: against {first}",
        columns=(
            *(Column(header=header) for header in ("case", "stage", "variant")),
            *change_columns(result),
            *(Column(header=f"host syncs {when}", numeric=True) for when in counted),
        ),
        rows=tuple(rows),
        caption=changes_caption(result, variants, rows),
    )


def forest_section(result: Result) -> Section:
    """One drawing a resolution."""
    blocks = tuple(_forests(result))
    return Section(
        anchor="forest", title="Changes and their intervals", blocks=blocks or (Text(text="No change was measured."),)
    )


def _forests(result: Result) -> Iterator[Plot]:
    for index, case in enumerate(result.cases):
        rows = [
            delta
            for stage in result.timed_stages
            for name in result.named[1:]
            if (delta := delta_of(result.deltas, case, stage, name)) is not None
            and svg.is_plain(delta.delta_pct, *(delta.ci_pct or ()))
        ]
        if rows:
            yield _forest(result, f"forest{index}", case, rows)


def _forest(result: Result, key: str, case: str, rows: list[Delta]) -> Plot:
    noise = {each.stage: each for each in result.noise if each.case == case}
    marks = {
        index: DELTAS_PCT[delta.case, delta.stage]
        for index, delta in enumerate(rows)
        if result.outline.is_bagel and delta.candidate == VARIANT and (delta.case, delta.stage) in DELTAS_PCT
    }

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        _paint_noise(axes, rows, noise)
        axes.axvline(0, color=svg.INK, linewidth=1)
        for y, delta in enumerate(rows):
            _paint_row(axes, y, delta, unit_text(result))
        axes.scatter(
            list(marks.values()), list(marks), marker="D", s=34, facecolors="none", edgecolors=svg.PARTS[0], zorder=4
        )
        axes.set_yticks(
            range(len(rows)), [f"{svg.short(stage_text(each.stage))}  {svg.short(each.candidate)}" for each in rows]
        )
        axes.set_ylim(len(rows) - 0.4, -0.6)
        ends = [end for each in rows for end in each.ci_pct or ()]
        axes.set_xlim(svg.limits([*(each.delta_pct for each in rows), *marks.values()], ends))
        axes.set_xlabel(f"paired change of latency from {svg.short(result.named[0])} (%), left is faster")
        axes.grid(axis="x")
        axes.locator_params(axis="x", nbins=5)
        axes.tick_params(axis="y", length=0)

    over = "rounds" if result.unit == "round" else "processes"
    parts = [f"dot: median over {over}; bar: its interval by itself; hollow: no difference shown or no verdict"]
    has_floor = any(each.floor_pct is not None for each in noise.values())
    parts += ["shaded: noise floor, what one pair may show without any effect" if has_floor else NO_FLOOR]
    parts += ["what goes beyond the edge is cut there"]
    told = ", ".join(f"{stage_text(rows[index].stage)} {value:+.1f}%" for index, value in marks.items())
    parts += [f"diamond: published at this resolution ({told}), {SOURCE}"] if marks else []
    label = f"Changes of latency at {case} with their intervals"
    drawing = svg.draw(key, 0.75 + ROW_IN * len(rows), paint)
    return Plot(svg=drawing, label=label, caption=f"{label}; {'; '.join(parts)}.")


def _paint_noise(axes: Axes, rows: list[Delta], noise: dict[str, Noise]) -> None:
    for y, delta in enumerate(rows):
        floor = noise[delta.stage].floor_pct if delta.stage in noise else None
        if floor is not None and svg.is_plain(floor):
            axes.barh(y, 2 * floor, left=-floor, height=1, color=svg.SHADE, linewidth=0)


def _paint_row(axes: Axes, y: int, delta: Delta, unit: str) -> None:
    shown = delta.verdict in ("improved", "regressed")
    colour = {"improved": svg.BETTER, "regressed": svg.WORSE}.get(delta.verdict, svg.INK)
    if delta.ci_pct is not None:
        axes.plot(delta.ci_pct, (y, y), color=colour, linewidth=2, solid_capstyle="butt")
    face = colour if shown else svg.PAPER
    axes.plot([delta.delta_pct], [y], marker="o", markersize=5.5, color=colour, markerfacecolor=face, zorder=5)
    axes.annotate(
        change_text(delta, unit),
        (1.01, y),
        xycoords=("axes fraction", "data"),
        va="center",
        fontsize=8.5,
        annotation_clip=False,
    )
