"""Whether the whole takes what its stages take, where it was timed in runs of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bagel_perf.schema.results import Cell, Result
from bagel_perf.schema.slots import Stage, summed_stages

LARGE_GAP = 0.1
"""Of the median of e2e."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageGap:
    """Median of the whole, and the sum of the medians of its stages."""

    res: int | str
    variant: str
    e2e_ms: float
    sum_ms: float

    @property
    def share(self) -> float:
        """Of the whole, what is in no stage; negative where the stages take more."""
        return (self.e2e_ms - self.sum_ms) / self.e2e_ms


def large_gaps(result: Result) -> Iterator[StageGap]:
    """Of each named variant and resolution at which whole and stages are further apart than they should be."""
    cells = {(cell.res, cell.stage, cell.variant): cell for cell in result.cells}
    for res, stage, variant in cells:
        if stage == "e2e" and variant in result.variants:
            gap = _gap(cells, res, variant)
            if gap is not None and abs(gap.share) > LARGE_GAP:
                yield gap


def _gap(cells: dict[tuple[int | str, Stage, str], Cell], res: int | str, variant: str) -> StageGap | None:
    found = [cells.get((res, stage, variant)) for stage in ("e2e", *summed_stages("e2e"))]
    medians = [cell.median_ms for cell in found if cell is not None and cell.median_ms is not None]
    if len(medians) < len(found):
        return None
    return StageGap(res=res, variant=variant, e2e_ms=medians[0], sum_ms=sum(medians[1:]))
