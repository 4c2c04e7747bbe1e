"""What each variant takes of the GPU, and under which conditions it was timed."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from bagel_perf.report.table import NONE, Column, Table
from bagel_perf.schema.conditions import Conditions
from bagel_perf.schema.results import Cell, Result
from bagel_perf.schema.runs import TimedRun, runs_of


def condition_tables(result: Result) -> Iterator[Table]:
    """One, where a GPU was read while it was timed."""
    cells = [cell for cell in result.cells if cell.stage == "e2e" and cell.variant in result.named]
    if any(each.num_samples for cell in cells for each in _conditions(result, cell)):
        what = "picture" if result.outline.is_bagel else "run"
        headers = (f"J a {what}", f"GPU-s a {what}", "power (W)", "SM clock (MHz)", "hottest (C)", "CPU load (%)")
        yield Table(
            title="Energy and conditions",
            columns=(
                Column(header="case"),
                Column(header="variant"),
                *(Column(header=header, numeric=True) for header in headers),
                Column(header="throttled by"),
            ),
            rows=tuple((cell.case, cell.variant, *_texts(cell, _conditions(result, cell))) for cell in cells),
            caption="medians of the timed runs; J: by the GPU's own counter; CPU load: of all cores of the host",
        )


def _conditions(result: Result, cell: Cell) -> list[Conditions]:
    return [
        run.conditions
        for run in runs_of(TimedRun, result.runs)
        if run.conditions is not None and (run.case, run.variant) == (cell.case, cell.variant)
    ]


def _texts(cell: Cell, found: Sequence[Conditions]) -> tuple[str, ...]:
    reasons = dict.fromkeys(reason for each in found for reason in each.throttle_reasons or ())
    return (
        _text(cell.energy_j, 0),
        _text(cell.gpu_s, 3),
        _median([each.power_w for each in found]),
        _median([each.sm_clock_mhz for each in found]),
        _text(max((each.temperature_c for each in found if each.temperature_c is not None), default=None), 0),
        _median([None if each.cpu_load is None else 100 * each.cpu_load for each in found]),
        ", ".join(reason.replace("_", " ") for reason in reasons) or NONE,
    )


def _median(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return _text(statistics.median(known) if known else None, 0)


def _text(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"
