"""The one wait to look at first: what it is, how often, what taking it out should save, and what that did save."""

from __future__ import annotations

from collections.abc import Sequence

from bagel_perf.records.ablations import Ablation
from bagel_perf.records.outlines import WHOLE
from bagel_perf.records.results import Result
from bagel_perf.records.runs import CountedRun, runs_of
from bagel_perf.records.sites import HINTS, SyncSite
from bagel_perf.records.syncs import SavingCheck, SyncReport
from bagel_perf.records.traces import WaitSite
from bagel_perf.report.html import svg
from bagel_perf.report.html.colours import kind_name
from bagel_perf.report.html.content import Culprit
from bagel_perf.report.html.profiles import of_result, size_of, variant_of
from bagel_perf.report.html.sites import place_text, wait_anchor
from bagel_perf.report.html.words import MINUS, case_text, many
from bagel_perf.report.sync_tables import split_setup
from bagel_perf.report.trace_tables import range_text
from bagel_perf.verdicts.hints import hint_of

COSTLY, FREQUENT = "The wait that costs {who} most", "The line where {who} waits most often"
OF_THE_GONE = ", of those that {best} lacks"


def culprit_of(result: Result, reports: Sequence[SyncReport]) -> Culprit | None:
    """Of the first variant: what cost the GPU most in its last profiled case, else what waits most often; or None.

    A line at which the variant with the fewest waits still waits is passed over, where another one is left.
    """
    first = result.named[0]
    known = {size: number for number, size in enumerate(result.cases)}
    own = [report for report in of_result(reports, result) if variant_of(report) == first]
    for report in sorted(own, key=lambda each: -known[size_of(each)]):
        sites, among = _gone(report.sites, result, size_of(report))
        site = costliest(sites)
        if site is not None:
            measured = _measured(result, size_of(report), site, report.saving_check)
            of_run = _run_word(result)
            return culprit_card(site, first, size_of(report), of_run=of_run, measured=measured, among=among)
    runs = [run for run in runs_of(CountedRun, result.runs) if run.variant == first and split_setup(run.sites)[0]]
    if not runs:
        return None
    last = max(runs, key=lambda run: known.get(run.case, -1))
    sites, among = _gone(split_setup(last.sites)[0], result, last.case)
    site = max(sites, key=lambda each: each.count)
    told = " ".join(filter(None, (_ties_text(site, sites), _measured(result, last.case, site))))
    return culprit_card(site, first, last.case, of_run=_run_word(result), measured=told, among=among)


def _gone(sites: Sequence[SyncSite], result: Result, case: str) -> tuple[Sequence[SyncSite], str]:
    """The sites that the variant with the fewest waits at a case lacks, and words for them where a costlier one stays.

    All of them, and no words, where it lacks none.
    """
    others = [run for run in runs_of(CountedRun, result.runs) if run.case == case and run.variant in result.named[1:]]
    if not others:
        return sites, ""
    best = min(reversed(others), key=lambda run: sum(site.count for site in run.sites))
    kept = {(site.kind, place_text(site)) for site in best.sites}
    gone = [site for site in sites if (site.kind, place_text(site)) not in kept]
    is_passed_over = gone and max(sites, key=_rank) not in gone
    return gone or sites, OF_THE_GONE.format(best=svg.short(best.variant)) if is_passed_over else ""


def _rank(site: SyncSite) -> tuple[float, int]:
    return cost_ms(site), site.count


def _ties_text(site: SyncSite, sites: Sequence[SyncSite]) -> str:
    ties = sum(each.count == site.count for each in sites) - 1
    return f"{many(ties, 'more line')} {'waits' if ties == 1 else 'wait'} as often." if ties else ""


def _run_word(result: Result) -> str:
    return "picture" if result.outline.noun == "picture" else "run"


def costliest(sites: Sequence[SyncSite]) -> SyncSite | None:
    """What would save most if it went, else what left the GPU idle longest; None where no site has a time."""
    work, _ = split_setup(sites)
    found = [site for site in work if site.allowed is None and (site.predicted_saving_ms or site.lost_gpu_ms)]
    return max(found, key=cost_ms, default=None)


def cost_ms(site: SyncSite | WaitSite) -> float:
    """What a site costs: what the program would save without it, else the idle time that it caused."""
    return site.predicted_saving_ms[1] if site.predicted_saving_ms else site.lost_gpu_ms or 0.0


def culprit_card(
    site: SyncSite, variant: str, size: str, *, of_run: str, measured: str = "", who: str = "", among: str = ""
) -> Culprit:
    """What is said of a site; ``of_run`` is what it waits in, ``measured`` what taking it out gave, ``who`` waits.

    ``among`` says of which waits it is the first, if not of all.
    """
    is_timed = site.predicted_saving_ms is not None or bool(site.lost_gpu_ms)
    title = (COSTLY if is_timed else FREQUENT).format(who=svg.short(who or variant))
    hint = hint_of(site)
    label = HINTS[site.kind].label
    text = f"{many(site.count, 'wait')} in one {of_run}, each of them a {label}."
    if site.count == 1:
        text = f"It waits once in a {of_run}; it is a {label}."
    if site.predicted_saving_ms is not None:
        saving = f"{range_text(site.predicted_saving_ms)} ms a {of_run}"
        text += f" Taking {'it' if site.count == 1 else 'them'} out should save {saving}, as a profiled run predicts."
    elif site.lost_gpu_ms:
        text += f" The GPU was idle through that for {site.lost_gpu_ms:.1f} ms of a profiled run."
    return Culprit(
        title=(f"{title} at {case_text(size)}" if size else title) + among,
        place=place_text(site),
        code=site.expressions[0] if site.expressions else "",
        text=f"{text} {measured}".strip(),
        instead=f"{hint.instead} (in place of: {' '.join(hint.waits.split())})",
        href=wait_anchor(variant, size, site),
        colour=kind_name(site.kind),
    )


def _measured(result: Result, case: str, site: SyncSite, check: SavingCheck | None = None) -> str:
    """What taking the component of a site out gave, where that was timed by itself."""
    component = site.region.rpartition("/")[2]
    if check is not None and check.component == component:
        interval = f" ({range_text(check.measured_ci_ms)})" if check.measured_ci_ms else ""
        return f"Measured: {check.measured_ms:.1f} ms less{interval}, with {component} taken out in {check.mixture}."
    found = [each for each in result.ablations if each.case == case]
    for ablation in sorted(found, key=lambda each: each.stage != WHOLE):
        if text := _alone_text(ablation, component):
            return text
    return ""


def _alone_text(ablation: Ablation, component: str) -> str:
    for each in ablation.components:
        if each.component == component and each.alone is not None:
            saving = each.alone
            ends = "" if saving.ci_ms is None else f" ({saving.ci_ms[0]:.1f} to {saving.ci_ms[1]:.1f})"
            what = f"{abs(saving.ms):.1f} ms {'less' if saving.ms >= 0 else 'more'}{ends.replace('-', MINUS)}"
            return f"Measured: {what}, with {component} alone taken from {ablation.variant}."
    return ""
