"""Gives a result as pandas frames, one row a cell, sample, change, output or source line, and as matplotlib axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from bagel_perf.records.codec import to_json
from bagel_perf.records.outlines import WHOLE
from bagel_perf.records.results import Delta, Result
from bagel_perf.records.runs import CountedRun, TimedRun, runs_of
from bagel_perf.records.sites import HINTS, SyncSite
from bagel_perf.report.table import stage_text
from bagel_perf.verdicts.judging import latency_by_round

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def cell_frame(result: Result) -> pd.DataFrame:
    """Tells of each case, stage and variant the median in ms, and exact counts; NaN and None where not measured."""
    return _frame((_plain(to_json(cell), but=("latency_ms",)) for cell in result.cells), CELLS)


def sample_frame(result: Result) -> pd.DataFrame:
    """Tells every timed run, in the order of time: its latency in ms, and whether its pairs count."""
    excluded = {(each.case, each.round, each.variant) for each in result.excluded}
    rows = [
        {
            "case": run.case,
            "stage": measured.stage,
            "variant": run.variant,
            "round": run.round,
            "process": run.process,
            "is_control": run.is_control,
            "latency_ms": measured.latency_ms,
            "is_excluded": (run.case, run.round, run.variant) in excluded,
        }
        for run in runs_of(TimedRun, result.runs)
        for measured in run.measurements
    ]
    return _frame(rows, SAMPLES)


def delta_frame(result: Result) -> pd.DataFrame:
    """Tells each change of latency against the first variant in percent, with its interval and verdict."""
    rows = []
    for delta in result.deltas:
        low, high = delta.ci_pct or (None, None)
        rows.append({**_plain(to_json(delta), but=("ci_pct",)), "low_pct": low, "high_pct": high})
    return _frame(rows, DELTAS)


def output_frame(result: Result) -> pd.DataFrame:
    """Tells the output of each variant in each case: its hashes, and whether it is the first variant's."""
    checks = {(check.case, check.candidate): check for check in result.identity}
    rows = []
    for shown in result.outputs:
        check = checks.get((shown.case, shown.variant))
        rows.append(
            {
                **_plain(to_json(shown), but=("difference_path",)),
                "identical": None if check is None else check.identical,
                "is_ok": None if check is None else check.is_ok,
                "distance": None if check is None else check.distance,
            }
        )
    return _frame(rows, OUTPUTS)


def site_frame(result: Result) -> pd.DataFrame:
    """Tells each line at which a counted run waited for the device, the most frequent first."""
    rows = [
        {"case": run.case, "variant": run.variant, **_site(site)}
        for run in runs_of(CountedRun, result.runs)
        for site in sorted(run.sites, key=lambda site: -site.count)
    ]
    return _frame(rows, SITES)


CELLS = ("case", "stage", "variant", "median_ms", "host_syncs", "launches", "peak_bytes")
SAMPLES = ("case", "stage", "variant", "round", "process", "is_control", "latency_ms", "is_excluded")
DELTAS = ("case", "stage", "reference", "candidate", "delta_pct", "low_pct", "high_pct", "verdict", "num_processes")
OUTPUTS = ("case", "variant", "kind", "md5", "sha256", "path", "identical", "is_ok", "distance")
SITES = ("case", "variant", "count", "kind", "file", "line", "function", "region", "expression", "instead")


def _site(site: SyncSite) -> dict[str, Any]:
    return {
        "count": site.count,
        "kind": site.kind,
        "file": site.file,
        "line": site.line,
        "function": site.function,
        "region": site.region,
        "expression": "; ".join(site.expressions),
        "instead": HINTS[site.kind].advice,
    }


def _plain(record: Mapping[str, Any], but: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a record that are no records themselves."""
    return {key: value for key, value in record.items() if key not in but and not isinstance(value, (dict, list))}


def _frame(rows: Iterable[Mapping[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    """A frame with these columns first, also where there is no row."""
    frame = pd.DataFrame(list(rows))
    others = [name for name in frame.columns if name not in columns]
    return frame.reindex(columns=[*columns, *others])


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
