"""Where the variants wait: source line, expression, how often, and what to write instead."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bagel_perf.records.outlines import WHOLE
from bagel_perf.records.results import Result
from bagel_perf.records.runs import CountedRun, runs_of
from bagel_perf.records.sites import HINTS, SyncSite
from bagel_perf.records.syncs import SyncReport
from bagel_perf.report.html.content import Block, Fold, Section, TableBlock, Text
from bagel_perf.report.html.profiles import size_of, variant_of
from bagel_perf.report.sync_tables import setup_details, setup_text, split_setup
from bagel_perf.report.table import NONE, Column, Table, counted, ms_text
from bagel_perf.verdicts.hints import hint_of

TOP = 6
CODE = ("source line", "expression", "instead")
TIMED = (
    "of a profiled run, what left the GPU idle most first; blocked: the host inside the waits; idle caused: of the GPU"
)
UNTIMED = "without times: those come from a profiled run of syncs of this variant and case"
NO_SYNCS = "No variant waits: host syncs were counted, and there are none."
MISSING = (
    "This result does not say where its variants wait; bagel-perf syncs --variant NAME does, and so does a result of "
    "a newer compare."
)


def sites_section(result: Result, reports: Sequence[SyncReport] = ()) -> Section:
    """A table for each variant and case, all but the first variant's last case closed; profiled ones with times."""
    found = [*_profiled(reports), *_counted(result)]
    order = list(dict.fromkeys([*result.named, *(each.variant for each in found)]))
    first_of_place = {(each.variant, each.size): each for each in reversed(found)}
    last_first = dict(zip(reversed(result.cases), range(len(result.cases)), strict=True))
    ranked = sorted(
        first_of_place.values(),
        key=lambda each: (
            order.index(each.variant),
            last_first.get(each.size, len(last_first)),
        ),
    )
    blocks: list[Block] = [Text(text=each) for each in _unlike_counts(found, result)]
    for number, each in enumerate(ranked):
        blocks += _tables(each, is_open=number == 0)
    return Section(anchor="sites", title="Waits by line", blocks=tuple(blocks) or (Text(text=_no_sites(result)),))


def _unlike_counts(found: Sequence[Waiting], result: Result) -> Iterator[str]:
    """Which profiled runs waited more or less often than the result says."""
    wholes = {(each.variant, each.case): each.host_syncs for each in result.cells if each.stage == WHOLE}
    for each in found:
        total, whole = sum(site.count for site in each.sites), wholes.get((each.variant, each.size))
        if each.is_profiled and whole is not None and total != whole:
            yield (
                f"The profiled run of {each.variant} at {each.size} waited {counted(total, 'time')}, and the run that "
                f"was counted {whole}: the profile is of another version or request; its table has its own counts."
            )


def _no_sites(result: Result) -> str:
    counted_cells = [cell.host_syncs for cell in result.cells if cell.host_syncs is not None]
    return NO_SYNCS if counted_cells and not any(counted_cells) else MISSING


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The sites of a variant at one resolution, in the order in which they are shown."""

    variant: str
    size: str
    sites: tuple[SyncSite, ...]
    is_profiled: bool = False


def _profiled(reports: Sequence[SyncReport]) -> Iterator[Waiting]:
    for report in reports:
        if report.sites:
            yield Waiting(variant=variant_of(report), size=size_of(report), sites=report.sites, is_profiled=True)


def _counted(result: Result) -> Iterator[Waiting]:
    for run in runs_of(CountedRun, result.runs):
        if run.sites and run.variant in result.named:
            yield Waiting(
                variant=run.variant,
                size=run.case,
                sites=tuple(sorted(run.sites, key=lambda site: -site.count)),
            )


def _tables(waiting: Waiting, *, is_open: bool) -> Iterator[Block]:
    sites = waiting.sites
    where = f"{waiting.variant}{f' at {waiting.size}' if waiting.size else ''}"
    title = f"{where}: {counted(sum(site.count for site in sites), 'host sync')}"
    if not is_open:
        yield Fold(summary=title, blocks=(site_block(sites, title, waiting.variant, waiting.size),))
        return
    work, setup = split_setup(sites)
    yield site_block((*work[:TOP], *setup), title, waiting.variant, waiting.size)
    if work[TOP:]:
        title = f"{where}: {counted(len(work) - TOP, 'site')} more"
        yield Fold(summary=title, blocks=(site_block(work[TOP:], title, waiting.variant, waiting.size),))


def wait_anchor(variant: str, size: str, site: SyncSite) -> str:
    """The id of a site's row in the table of a variant, or program, and a case, "" for none."""
    place = (variant, size, site.kind, site.file, str(site.line), site.region, site.op or "", site.process)
    return f"wait-{hashlib.sha256(chr(0).join(place).encode()).hexdigest()[:12]}"


def site_block(sites: Sequence[SyncSite], title: str, variant: str, size: str = "") -> TableBlock:
    """Sites as a table, in their order, those of the set-up in one row at the end; with times where they have any.

    Rows have the ids of ``wait_anchor``, of several that share one the first.
    """
    work, setup = split_setup(sites)
    timed = any(site.blocked_ms is not None or site.lost_gpu_ms is not None for site in sites)
    several = any(site.process for site in sites)
    times = ("blocked (ms)", "idle caused (ms)") if timed else ()
    return TableBlock(
        table=Table(
            title=title,
            columns=(
                Column(header="kind"),
                Column(header="source line"),
                Column(header="expression"),
                *([Column(header="process")] if several else []),
                *(Column(header=header, numeric=True) for header in ("count", *times)),
                Column(header="instead"),
            ),
            rows=(
                *(_row(site, timed=timed, several=several) for site in work),
                *_setup_rows(setup, timed=timed, several=several),
            ),
            caption=TIMED if timed else UNTIMED,
        ),
        code_columns=CODE,
        row_ids=tuple(_first_only([wait_anchor(variant, size, site) for site in work])) + ("",) * bool(setup),
    )


def _first_only(names: Sequence[str]) -> Iterator[str]:
    """Each name once, "" where it stands again."""
    yield from ("" if name in names[:number] else name for number, name in enumerate(names))


def place_text(site: SyncSite) -> str:
    """Source line, or the operator inside which a library waits."""
    return f"{site.file}:{site.line}" if site.file else site.op or "no line of Python"


def _row(site: SyncSite, *, timed: bool, several: bool) -> tuple[str, ...]:
    process = (site.process,) if several else ()
    times = (ms_text(site.blocked_ms), ms_text(site.lost_gpu_ms)) if timed else ()
    instead = f"allowed: {site.allowed}" if site.allowed else site.phase or hint_of(site).advice
    label = HINTS[site.kind].label
    return label, place_text(site), "; ".join(site.expressions) or NONE, *process, str(site.count), *times, instead


def _setup_rows(sites: Sequence[SyncSite], *, timed: bool, several: bool) -> Iterator[tuple[str, ...]]:
    if sites:
        values = ([site.blocked_ms for site in sites], [site.lost_gpu_ms for site in sites])
        times = (ms_text(sum(value or 0.0 for value in each)) for each in values) if timed else ()
        num_waits = sum(site.count for site in sites)
        process = (NONE,) if several else ()
        details = "; ".join(setup_details(sites)) or NONE
        yield "set-up", details, setup_text(sites), *process, str(num_waits), *times, NONE
