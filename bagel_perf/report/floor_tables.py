"""How far each variant is from what the GPU can do, and of what the floor consists."""

from __future__ import annotations

from bagel_perf.analysis.floors import against_floor
from bagel_perf.report.table import NONE, Column, Table, stage_text
from bagel_perf.schema.floors import Ceilings, StageFloor
from bagel_perf.schema.results import Cell, Result


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
        caption=(
            f"one after another, at rates measured here: GEMM {ceilings.gemm_tflops:.0f} and attention "
            f"{ceilings.attention_tflops:.0f} TFLOP/s (means of all shapes; each GEMM at its own), copy "
            f"{ceilings.copy_tbps:.2f} TB/s; a launch takes {ceilings.launch_us:.1f} us, in no floor"
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
        caption="median latency; operations and bytes are those of the floor, whatever a variant does besides",
    )


def _ratio_texts(cell: Cell, floor: StageFloor) -> tuple[str, ...]:
    least = f"{floor.floor_ms:.1f}"
    if cell.median_ms is None:
        return NONE, least, NONE, NONE, NONE
    against = against_floor(cell.median_ms, floor)
    rates = f"{against.times_floor:.2f}", f"{against.tflops:.0f}", f"{against.gbps:.0f}"
    return f"{cell.median_ms:.1f}", least, *rates
