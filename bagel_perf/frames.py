"""Results as pandas frames: one row a cell, sample, change, output or source line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from bagel_perf.schema.codec import to_json
from bagel_perf.schema.results import Result
from bagel_perf.schema.runs import CountedRun, TimedRun, runs_of
from bagel_perf.schema.sites import Site
from bagel_perf.schema.waits import HINTS


def cell_frame(result: Result) -> pd.DataFrame:
    """Tells of each case, stage and variant the median in ms, and exact counts; NaN and None where not measured."""
    return _frame((_plain(to_json(cell), but=("latency_ms",)) for cell in result.cells), CELLS)


def sample_frame(result: Result) -> pd.DataFrame:
    """Tells every timed run, in the order of time: its latency in ms, and whether its pairs count."""
    dropped = {(each.case, each.round, each.variant) for each in result.dropped}
    rows = [
        {
            "case": run.case,
            "stage": measured.stage,
            "variant": run.variant,
            "round": run.round,
            "process": run.process,
            "is_control": run.again,
            "latency_ms": measured.latency_ms,
            "is_dropped": (run.case, run.round, run.variant) in dropped,
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
SAMPLES = ("case", "stage", "variant", "round", "process", "is_control", "latency_ms", "is_dropped")
DELTAS = ("case", "stage", "reference", "candidate", "delta_pct", "low_pct", "high_pct", "verdict", "num_processes")
OUTPUTS = ("case", "variant", "kind", "md5", "sha256", "path", "identical", "is_ok", "distance")
SITES = ("case", "variant", "count", "kind", "file", "line", "function", "region", "expression", "instead")


def _site(site: Site) -> dict[str, Any]:
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
