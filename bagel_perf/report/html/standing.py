"""What a result shows, before anybody words it: which case and variant stand for it, what is wrong, what waits cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bagel_perf.records.outlines import WHOLE
from bagel_perf.records.results import Cell, Delta, IdentityCheck, Result
from bagel_perf.report.html.words import change_pct, times_text
from bagel_perf.report.table import bitwise_variants, cell_of, delta_of, tolerant_variants

FEW_SYNCS = 3
FEW_SHARE = 0.001
"""Of the first variant's host syncs: a variant with no more of them does not wait."""
SIGNS = {"improved": -1, "regressed": 1}
"""Of a change, by the verdicts that show one."""
LAUNCHES_PER_SYNC = 1.5
"""Launches that go at most with each wait that goes, where nothing else was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """The first variant and another one in one case: their cells of the whole, and the judged change, if any."""

    case: str
    name: str
    before: Cell
    after: Cell
    delta: Delta | None

    @property
    def medians_ms(self) -> tuple[float, float] | None:
        """Before and after; None where one was not timed."""
        if self.before.median_ms is None or self.after.median_ms is None:
            return None
        return self.before.median_ms, self.after.median_ms

    @property
    def is_odd(self) -> bool:
        """Whether the pairs show a change that the medians, as they are written, do not."""
        return self.delta is not None and self.medians_ms is not None and is_odd(self.delta, *self.medians_ms)


def is_odd(delta: Delta, before_ms: float, after_ms: float) -> bool:
    """Whether the pairs show a change that these medians, as they are written, do not."""
    before, after = times_text((before_ms, after_ms))
    sign = SIGNS.get(delta.verdict)
    return sign is not None and (before == after or sign * round(change_pct(before_ms, after_ms), 1) <= 0)


def checks_of(result: Result, *, bitwise: bool) -> list[IdentityCheck]:
    """Of the variants whose output has to be the same to the bit, or of those that declare a tolerance."""
    tolerant = tolerant_variants(result)
    return [each for each in result.identity if (each.candidate in tolerant) is not bitwise]


def wrong_checks(result: Result) -> list[IdentityCheck]:
    """Outputs of named variants and mixtures that are not what they have to be."""
    return [each for each in result.identity if not each.is_ok]


def pairing(result: Result, case: str, name: str) -> Pairing | None:
    """None where one of the two has no cell."""
    before, after = cell_of(result, case, WHOLE, result.named[0]), cell_of(result, case, WHOLE, name)
    if before is None or after is None:
        return None
    return Pairing(case=case, name=name, before=before, after=after, delta=delta_of(result.deltas, case, WHOLE, name))


def best_of(result: Result, case: str) -> Pairing | None:
    """The variant that gains most among those whose outputs are right in all cases; bitwise come before tolerant ones.

    Without latencies it is the one that waits least.
    """
    wrong = {each.candidate for each in wrong_checks(result)}
    for group in (bitwise_variants(result)[1:], tolerant_variants(result)):
        found = [each for name in group if name not in wrong and (each := pairing(result, case, name)) is not None]
        if timed := [each for each in found if each.delta is not None]:
            return min(timed, key=_by_gain)
        if counted := [each for each in found if each.after.host_syncs is not None]:
            return min(counted, key=lambda each: each.after.host_syncs or 0)
    return None


def _by_gain(each: Pairing) -> tuple[bool, float]:
    assert each.delta is not None
    return each.delta.verdict != "improved", each.delta.delta_pct


def lead(result: Result) -> Pairing | None:
    """What stands for the result: the best variant in the last case in which one was timed, else in the last one."""
    found = [each for case in reversed(result.cases) if (each := best_of(result, case)) is not None]
    return next((each for each in found if each.delta is not None), found[0] if found else None)


def without_waits(result: Result, case: str) -> Pairing | None:
    """The first bitwise variant that does not wait and changes nothing else; None where it cannot be told.

    Nothing else: it replays no graph, and launches no fewer kernels than the waits that went account for.
    """
    wrong = {each.candidate for each in wrong_checks(result)}
    for name in bitwise_variants(result)[1:]:
        each = pairing(result, case, name)
        if each is not None and name not in wrong and each.medians_ms is not None and _only_waits_less(each):
            return each
    return None


def _only_waits_less(each: Pairing) -> bool:
    syncs = each.before.host_syncs, each.after.host_syncs
    works = each.before.work, each.after.work
    if None in syncs or None in works:
        return False
    before, after = syncs[0] or 0, syncs[1] or 0
    if before <= FEW_SYNCS or after > max(FEW_SYNCS, FEW_SHARE * before):
        return False
    work_before, work_after = works
    assert work_before is not None and work_after is not None
    fewer = work_before.launches - work_after.launches
    return not work_after.graph_launches and 0 <= fewer <= LAUNCHES_PER_SYNC * (before - after)


def regressions(result: Result) -> Iterator[Delta]:
    """Every change of a named variant that was shown to be slower, stages where the whole hides it."""
    slower = [each for each in result.deltas if each.verdict == "regressed" and each.candidate in result.named]
    whole = {(each.case, each.candidate) for each in slower if each.stage == WHOLE}
    yield from (each for each in slower if each.stage == WHOLE or (each.case, each.candidate) not in whole)
