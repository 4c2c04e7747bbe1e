"""The components of a variant taken apart: what each saves, and whether they add up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bagel_perf.records.ablations import Ablation, ComponentSaving, Saving
from bagel_perf.records.bagel import CALLERS
from bagel_perf.records.results import Result
from bagel_perf.report.table import (
    NONE,
    Column,
    Table,
    counted,
    coverage_text,
    place_text,
    rounds_text,
    sentences,
    stage_text,
)
from bagel_perf.verdicts.changes import NEGLIGIBLE_REST, additivity

HEADERS = ("alone saves (ms)", "interval", "last saves (ms)", "interval")
UNCORRECTED = "not corrected for their number"


def ablation_tables(result: Result) -> Iterator[Table]:
    """One a resolution, a row per stage and component; none unless components were taken apart."""
    for case in dict.fromkeys(each.case for each in result.ablations):
        yield _ablation_table(result, [each for each in result.ablations if each.case == case])


def _ablation_table(result: Result, ablations: Sequence[Ablation]) -> Table:
    first = ablations[0]
    rows: list[tuple[str, ...]] = []
    for ablation in ablations:
        label = stage_text(ablation.stage)
        rows += [
            (label, _name(component), *_saving(component.alone), *_saving(component.last))
            for component in ablation.components
        ]
        rows.append((label, "all together", *_saving(ablation.total), NONE, NONE))
        rows.append((label, "rest", *_saving(ablation.rest), NONE, NONE))
    return Table(
        title=f"{place_text(result)}: components of {first.variant} at {first.case}",
        columns=(
            Column(header="stage"),
            Column(header="component"),
            *(Column(header=header, numeric=True) for header in HEADERS),
        ),
        rows=tuple(rows),
        caption=_caption(result, ablations),
    )


def _caption(result: Result, ablations: Sequence[Ablation]) -> str:
    savings = [saving for each in ablations for saving in _savings(each)]
    intervals = [saving.num_processes for saving in savings if saving.ci_ms is not None]
    swallowed = {part.component for each in ablations for part in each.components if part.swallowed}
    callers = sorted(frozenset[str]().union(*(CALLERS[component] for component in swallowed)))
    number, does = len(intervals), "do" if len(callers) > 1 else "does"
    return sentences(
        rounds_text({saving.num_rounds for saving in savings}, result.pairs),
        f"alone, a component is put into {ablations[0].reference}, and last, it is put in where all others are",
        "the rest is what all together save less what the components save alone",
        f"the components add up where all of its interval lies within {NEGLIGIBLE_REST:.0%} of all together",
        coverage_text(set(intervals), result.looks),
        f"{counted(number, 'interval')} {'are' if number > 1 else 'is'} {UNCORRECTED}" if intervals else "",
        f"* marks a part of what {' and '.join(callers)} {does}, which is not in that sum" if callers else "",
    )


def _savings(ablation: Ablation) -> list[Saving]:
    """All that stand in the rows of one stage."""
    savings = (saving for component in ablation.components for saving in (component.alone, component.last))
    return [saving for saving in (*savings, ablation.total, ablation.rest) if saving is not None]


def ablation_lines(result: Result) -> Iterator[str]:
    """Whether the components add up, stage by stage; what interacts where they do not."""
    for ablation in result.ablations:
        place = f"{ablation.case} {stage_text(ablation.stage)}, components of {ablation.variant}"
        yield f"- {place}: {_sum_text(ablation)}"


def _sum_text(ablation: Ablation) -> str:
    """The conclusion, and what it rests on."""
    state, rest = additivity(ablation), ablation.rest
    if rest is None:
        return f"not every component could be timed alone; {_total_text(ablation.total)}"
    share = f"{_total_text(ablation.total)}, {_rest_text(rest)}"
    if state == "too few processes":
        return f"{share}; too few processes to say whether the components add up"
    if state == "too noisy":
        return f"too noisy to say whether they add up: {share}"
    if state == "add up":
        return f"they add up: {share}"
    apart = [each.component for each in ablation.components if each.apart is not None and each.apart.is_shown]
    number = sum(each.apart is not None and each.apart.ci_ms is not None for each in ablation.components)
    others = f"{', '.join(apart) or 'none shown'} (of {counted(number, 'interval')}, {UNCORRECTED})"
    return f"they interact: {share}; alone another amount than last: {others}"


def _total_text(total: Saving) -> str:
    return f"together they {'cost' if total.ms < 0 else 'save'} {abs(total.ms):.1f} ms"


def _rest_text(rest: Saving) -> str:
    """Against the sum of the components alone, whichever way round."""
    text = f"{abs(rest.ms):.1f} ms {'worse' if rest.ms < 0 else 'better'} than one by one"
    return text if rest.ci_ms is None else f"{text} ({rest.ci_ms[0]:+.1f} to {rest.ci_ms[1]:+.1f})"


def _name(component: ComponentSaving) -> str:
    return f"{component.component} *" if component.swallowed else component.component


def _saving(saving: Saving | None) -> tuple[str, str]:
    if saving is None:
        return NONE, NONE
    if saving.ci_ms is None:
        return f"{saving.ms:.1f}", counted(saving.num_processes, "process")
    return f"{saving.ms:.1f}", f"{saving.ci_ms[0]:.1f} to {saving.ci_ms[1]:.1f}"
