"""Whether the processes of a comparison are enough for what it is to resolve, and how many are to come."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from itertools import pairwise

from bagel_perf.analysis import pictures
from bagel_perf.analysis.ablation import ablations_of
from bagel_perf.analysis.changes import Changes
from bagel_perf.analysis.planning import expected_half_width, plan_text
from bagel_perf.analysis.rounds import latency_by_round
from bagel_perf.analysis.stats import percent
from bagel_perf.schema.ablations import Ablation, Saving
from bagel_perf.schema.outlines import Outline
from bagel_perf.schema.runs import Run


def is_resolved(outline: Outline, runs: Sequence[Run], half_width_pct: float, looks: Sequence[int]) -> bool:
    """Whether every interval that the result will show is known within so many percent to either side.

    A saving of a slot is held to that share of the reference's latency. What has no interval is not known.
    """
    return all(width_pct <= half_width_pct for width_pct in _half_widths_pct(outline, runs, tuple(looks)))


def outlook(outline: Outline, runs: Sequence[Run], half_width_pct: float, looks: Sequence[int], seconds: float) -> str:
    """How many processes and minutes the change that varies most is expected to take; ``seconds``: one process."""
    changes = _changes(outline, runs, tuple(looks))
    ratios = [[*each.values()] for each in changes.ratios(_pairs(outline)).values()]
    widths_pct = [
        percent(max((expected_half_width(each, number, looks) for each in ratios), default=math.inf))
        for number in looks
    ]
    return plan_text(widths_pct, half_width_pct, looks, seconds)


def _pairs(outline: Outline) -> list[tuple[str, str]]:
    steps = [*pairwise(outline.named)] if outline.ladder else []
    return [*((outline.named[0], each) for each in outline.measured[1:]), *steps]


def _changes(outline: Outline, runs: Sequence[Run], looks: tuple[int, ...]) -> Changes:
    """As if every output were right; where one is not, nothing has to be known of it."""
    trusted = {(case, name) for case in outline.cases for name in outline.measured}
    return Changes.of(runs, outline.cases, outline.timed_stages, trusted, looks)


def _half_widths_pct(outline: Outline, runs: Sequence[Run], looks: tuple[int, ...]) -> Iterator[float]:
    changes = _changes(outline, runs, looks)
    deltas = [*changes.deltas(_pairs(outline))]
    if len(deltas) < len(outline.cases) * len(_pairs(outline)) * len(
        outline.timed_stages
    ):  # of some every round was left out
        yield math.inf
    for delta in deltas:
        low, high = (math.log1p(end / 100) for end in delta.ci_pct or (0.0, math.inf))
        yield percent((high - low) / 2)
    for ablation in ablations_of(outline, runs, changes.trusted, looks):
        own = pictures.at(runs, ablation.case, ablation.reference)
        whole_ms = statistics.median(latency_by_round(own, ablation.stage).values())
        for saving in _savings(ablation):
            low, high = saving.ci_ms or (0.0, math.inf)
            yield (high - low) / 2 / whole_ms * 100


def _savings(ablation: Ablation) -> Iterator[Saving]:
    slots = [(each.alone, each.last, each.apart) for each in ablation.slots]
    for saving in (ablation.total, ablation.rest, *(each for slot in slots for each in slot)):
        if saving is not None:
            yield saving
