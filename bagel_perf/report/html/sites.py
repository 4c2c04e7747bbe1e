"""Where the variants wait: source line, expression, how often, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bagel_perf.report.html.content import Block, Fold, Section, TableBlock, Text
from bagel_perf.report.table import NONE, Column, Table, counted, ms_text, res_text
from bagel_perf.schema.results import Result, res_label
from bagel_perf.schema.runs import Run
from bagel_perf.schema.sites import Site
from bagel_perf.schema.waits import HINTS

TOP = 12
CODE = ("source line", "expression", "instead")
TIMED = "blocked: the host inside the waits; lost: GPU idle through them"
UNTIMED = "without times: those come from profiled runs of syncs"
MISSING = (
    "This result does not say where its variants wait; bagel-perf syncs --variant NAME does, and so does a result of "
    "a newer compare."
)


def sites_section(result: Result) -> Section:
    """A table for each variant at its largest resolution, the other resolutions closed."""
    blocks = tuple(_blocks(result))
    return Section(anchor="sites", title="Host syncs by source line", blocks=blocks or (Text(text=MISSING),))


def _blocks(result: Result) -> Iterator[Block]:
    counted_runs = [run for run in result.runs if run.purpose == "count" and run.sites]
    for variant in result.variants:
        runs = [run for run in counted_runs if run.variant == variant]
        runs.sort(key=lambda run: -run.width * run.height)
        for index, run in enumerate(runs):
            yield from _run_blocks(run, is_open=index == 0)


def _run_blocks(run: Run, *, is_open: bool) -> Iterator[Block]:
    sites = sorted(run.sites, key=lambda site: -site.count)
    where = f"{run.variant} at {res_text(res_label(run.width, run.height))}"
    total = counted(sum(site.count for site in sites), "host sync")
    if not is_open:
        yield Fold(summary=f"{where}: {total}", blocks=(site_block(sites, f"{where}: {total}"),))
        return
    yield site_block(sites[:TOP], f"{where}: {total}")
    if sites[TOP:]:
        title = f"{where}: {counted(len(sites) - TOP, 'site')} more"
        yield Fold(summary=title, blocks=(site_block(sites[TOP:], title),))


def site_block(sites: Sequence[Site], title: str) -> TableBlock:
    """Sites as a table, in their order; with times where they have any."""
    timed = any(site.blocked_ms is not None or site.lost_gpu_ms is not None for site in sites)
    times = ("blocked (ms)", "lost (ms)") if timed else ()
    return TableBlock(
        table=Table(
            title=title,
            columns=(
                Column(header="kind"),
                Column(header="source line"),
                Column(header="expression"),
                *(Column(header=header, numeric=True) for header in ("count", *times)),
                Column(header="instead"),
            ),
            rows=tuple(_row(site, timed=timed) for site in sites),
            caption=TIMED if timed else UNTIMED,
        ),
        code_columns=CODE,
    )


def place_text(site: Site) -> str:
    """Source line, or the operator inside which a library waits."""
    return f"{site.file}:{site.line}" if site.file else site.op or "no line of Python"


def _row(site: Site, *, timed: bool) -> tuple[str, ...]:
    times = (ms_text(site.blocked_ms), ms_text(site.lost_gpu_ms)) if timed else ()
    hint = HINTS[site.kind]
    instead = f"allowed: {site.allowed}" if site.allowed else hint.instead
    return hint.label, place_text(site), "; ".join(site.expressions) or NONE, str(site.count), *times, instead
