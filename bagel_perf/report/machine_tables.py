"""What each variant takes of the GPU, how far it is from its floor, and under which conditions it was timed."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from bagel_perf.records.results import Ceilings, Cell, Result, StageFloor
from bagel_perf.records.runs import Conditions, TimedRun, runs_of
from bagel_perf.report.table import NONE, Column, Table, sentences, stage_text
from bagel_perf.verdicts.work import against_floor


def floor_tables(result: Result) -> tuple[Table, ...]:
    """Components of each floor, then each variant against it; none where no ceilings were measured."""
    if result.ceilings is None:
        return ()
    return _component_table(result.floors, result.ceilings), _ratio_table(result)


def _component_table(floors: tuple[StageFloor, ...], ceilings: Ceilings) -> Table:
    rows = []
    for floor in floors:
        place = (floor.case, stage_text(floor.stage))
        rows += [
            (*place, part.name, _in(1e12, part.flops), _in(1e9, part.bytes), f"{part.floor_ms:.1f}")
            for part in floor.components
        ]
        rows.append(
            (*place, "in all", f"{floor.flops / 1e12:.1f}", f"{floor.bytes / 1e9:.1f}", f"{floor.floor_ms:.1f}")
        )
    return Table(
        title="Floors",
        columns=(
            Column(header="case"),
            Column(header="stage"),
            Column(header="component"),
            Column(header="TFLOP", numeric=True),
            Column(header="GB", numeric=True),
            Column(header="floor (ms)", numeric=True),
        ),
        rows=tuple(rows),
        caption=sentences(
            "a floor is the time of all operations and bytes one after another, at rates that were measured here",
            f"the means of all shapes are {ceilings.gemm_tflops:.0f} TFLOP/s of GEMMs, each of which counts at its own "
            f"rate, {ceilings.attention_tflops:.0f} TFLOP/s of attention, and {ceilings.copy_tbps:.2f} TB/s of copies",
            f"a launch takes {ceilings.launch_us:.1f} us, which no floor holds",
        ),
    )


def _in(unit: float, amount: float | None) -> str:
    return NONE if amount is None else f"{amount / unit:.1f}"


def _ratio_table(result: Result) -> Table:
    floors = {(floor.case, floor.stage): floor for floor in result.floors}
    rows = [
        (cell.case, stage_text(cell.stage), cell.variant, *_ratio_texts(cell, floors[cell.case, cell.stage]))
        for cell in result.cells
        if (cell.case, cell.stage) in floors and cell.variant in result.named
    ]
    headers = ("time (ms)", "floor (ms)", "times floor", "TFLOP/s", "GB/s")
    return Table(
        title="Against the floor",
        columns=(
            Column(header="case"),
            Column(header="stage"),
            Column(header="variant"),
            *(Column(header=header, numeric=True) for header in headers),
        ),
        rows=tuple(rows),
        caption=sentences(
            "time is the median latency",
            "TFLOP/s and GB/s count the operations and bytes of the floor, whatever a variant does besides",
        ),
    )


def _ratio_texts(cell: Cell, floor: StageFloor) -> tuple[str, ...]:
    least = f"{floor.floor_ms:.1f}"
    if cell.median_ms is None:
        return NONE, least, NONE, NONE, NONE
    against = against_floor(cell.median_ms, floor)
    rates = f"{against.times_floor:.2f}", f"{against.tflops:.0f}", f"{against.gbps:.0f}"
    return f"{cell.median_ms:.1f}", least, *rates


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
            caption=sentences(
                "all are medians of the timed runs",
                "joules are those of the GPU's own counter, and the load of the CPU is that of all cores of the host",
            ),
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
