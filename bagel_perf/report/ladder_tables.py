"""The ladder, rung by rung; what lies beyond it by a declared tolerance; the slots of a rung taken apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bagel_perf.report.cells import (
    bitwise_variants,
    cell_of,
    change_text,
    delta_of,
    launches_text,
    median_text,
    peak_text,
    place_text,
    resolutions,
    rounds_text,
    syncs_text,
    tolerant_variants,
)
from bagel_perf.report.table import NONE, STAGE_LABELS, Column, Table, res_text
from bagel_perf.schema.ablations import Ablation, Saving, SlotSaving
from bagel_perf.schema.results import IdentityCheck, Result
from bagel_perf.schema.slots import STAGES


def ladder_tables(result: Result) -> Iterator[Table]:
    """One a resolution, a row per stage and variant; none unless the ladder was asked for."""
    if result.ladder:
        yield from (_ladder_table(result, res) for res in resolutions(result))


def _ladder_table(result: Result, res: int | str) -> Table:
    rows = []
    for stage in STAGES:
        for variant in bitwise_variants(result):
            cell = cell_of(result, res, stage, variant)
            step, change = (delta_of(deltas, res, stage, variant) for deltas in (result.steps, result.deltas))
            counts = syncs_text(cell), launches_text(cell), peak_text(cell)
            rows.append(
                (STAGE_LABELS[stage], variant, median_text(cell), change_text(step), change_text(change), *counts)
            )
    headers = ("ms", "step", f"from {result.variants[0]}", "syncs", "launches", "GiB")
    return Table(
        title=f"{place_text(result)}: ladder at {res_text(res)}",
        columns=(
            Column(header="stage"),
            Column(header="variant"),
            *(Column(header=header, numeric=True) for header in headers),
        ),
        rows=tuple(rows),
        caption=f"{rounds_text(result)}; GiB: peak memory",
    )


def tolerance_tables(result: Result) -> Iterator[Table]:
    """One, apart from all that is bitwise; none unless a variant declares a tolerance."""
    variants = tolerant_variants(result)
    if variants:
        yield tolerance_table(result, variants)


def tolerance_table(result: Result, variants: Sequence[str]) -> Table:
    """A row per resolution, stage and variant: the change, also from the variant before it, and the worst PSNR."""
    checks = {(check.res, check.candidate): check for check in result.identity}
    rows = []
    for res in resolutions(result):
        for stage in STAGES:
            for variant in variants:
                cell, check = cell_of(result, res, stage, variant), checks.get((res, variant))
                step, change = (delta_of(deltas, res, stage, variant) for deltas in (result.steps, result.deltas))
                place = res_text(res), STAGE_LABELS[stage], variant
                rows.append((*place, median_text(cell), change_text(step), change_text(change), psnr_text(check)))
    reference = result.variants[0]
    return Table(
        title=f"{place_text(result)}: declared tolerance",
        columns=(
            Column(header="resolution"),
            Column(header="stage"),
            Column(header="variant"),
            *(Column(header=header, numeric=True) for header in ("ms", "step", f"from {reference}", "PSNR (dB)")),
        ),
        rows=tuple(rows),
        caption=f"{rounds_text(result)}; step: from the variant before; PSNR: worst of all runs against {reference}",
    )


def psnr_text(check: IdentityCheck | None) -> str:
    """The worst PSNR, with the limit where it is under that."""
    if check is None:
        return NONE
    if check.psnr_db is None:
        return "identical"
    return f"{check.psnr_db:.1f}" if check.is_ok else f"{check.psnr_db:.1f} (under {check.min_psnr_db:.0f})"


def tolerance_lines(result: Result) -> Iterator[str]:
    """How far each variant with a tolerance is from the first's picture."""
    for check in result.identity:
        if check.min_psnr_db is not None:
            what = "identical" if check.psnr_db is None else f"{psnr_text(check)} dB or more from {check.reference}'s"
            limit = f"{check.min_psnr_db:.0f} dB asked for, {check.num_runs} runs"
            yield f"- {check.candidate} at {res_text(check.res)}: picture {what}; {limit}"


def ablation_tables(result: Result) -> Iterator[Table]:
    """One a resolution, a row per stage and slot; none unless slots were taken apart."""
    for res in dict.fromkeys(each.res for each in result.ablations):
        yield _ablation_table([each for each in result.ablations if each.res == res], place_text(result))


def _ablation_table(ablations: list[Ablation], place: str) -> Table:
    first = ablations[0]
    rows: list[tuple[str, ...]] = []
    for ablation in ablations:
        label = STAGE_LABELS[ablation.stage]
        rows += [(label, _name(slot), *_saving(slot.alone), *_saving(slot.last)) for slot in ablation.slots]
        rows.append((label, "all together", *_saving(ablation.total), NONE, NONE))
        rows.append((label, "rest", *_saving(ablation.rest), NONE, NONE))
    headers = ("alone saves (ms)", "95% interval", "last saves (ms)", "95% interval")
    return Table(
        title=f"{place}: slots of {first.variant} at {res_text(first.res)}",
        columns=(
            Column(header="stage"),
            Column(header="slot"),
            *(Column(header=header, numeric=True) for header in headers),
        ),
        rows=tuple(rows),
        caption=(
            f"alone: put into {first.reference}; last: put in where all others are; rest: all together less the slots "
            "alone; * is a part of what denoise_loop does, and not in that sum"
        ),
    )


def ablation_lines(result: Result) -> Iterator[str]:
    """Whether the slots add up, stage by stage; what interacts where they do not."""
    for ablation in result.ablations:
        place = f"{res_text(ablation.res)} {STAGE_LABELS[ablation.stage]}, slots of {ablation.variant}"
        yield f"- {place}: {_sum_text(ablation)}"


def _sum_text(ablation: Ablation) -> str:
    rest = ablation.rest
    if rest is None:
        return "not every slot could be timed alone"
    share = f"{rest.ms:+.1f} of {ablation.total.ms:.1f} ms saved are no slot's alone"
    if rest.ci_ms is None:
        return f"{share}; too few rounds to say whether the slots add up"
    share += f" ({rest.ci_ms[0]:+.1f} to {rest.ci_ms[1]:+.1f})"
    if not rest.is_shown:
        return f"they add up, no difference shown: {share}"
    apart = [each.slot for each in ablation.slots if each.apart is not None and each.apart.is_shown]
    others = ", ".join(apart) or "none shown"
    return f"they interact: {share}; alone another amount than last: {others}"


def _name(slot: SlotSaving) -> str:
    return f"{slot.slot} *" if slot.swallowed else slot.slot


def _saving(saving: Saving | None) -> tuple[str, str]:
    if saving is None:
        return NONE, NONE
    interval = NONE if saving.ci_ms is None else f"{saving.ci_ms[0]:.1f} to {saving.ci_ms[1]:.1f}"
    return f"{saving.ms:.1f}", interval
