"""Files of other benchmarks as tables: their stages in ms, and what they say of the run."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from bagel_perf.records.bench_files import BenchFile
from bagel_perf.report.table import NONE, Column, Table, counted, ms_text, sentences

WHERE = {
    "SGLang": "the whole (e2e) is the server's own",
    "vLLM": "the whole (e2e) is at the client",
    "vLLM-Omni": "the whole (e2e) is at the client",
}


def bench_tables(files: Sequence[BenchFile], name: str) -> tuple[Table, ...]:
    """One of a single file with its mean, median and slow end; of several their medians, from low to high."""
    first = files[0]
    headers = ("mean (ms)", "p50 (ms)", "p99 (ms)") if len(files) == 1 else ("low (ms)", "median (ms)", "high (ms)")
    rows = _rows_of_one(first) if len(files) == 1 else _rows_of_many(files)
    caption = sentences(
        "the names of stages say the units, and all are shown in ms",
        WHERE[first.form],
        f"each of {len(files)} files gives its median, or its mean where it has no median" if len(files) > 1 else "",
    )
    return (
        Table(
            title=f"What {first.form} wrote: {name}",
            columns=(Column(header="stage"), *(Column(header=header, numeric=True) for header in headers)),
            rows=tuple(rows),
            caption=caption,
        ),
    )


def _rows_of_one(file: BenchFile) -> Iterator[tuple[str, ...]]:
    for each in file.stages:
        yield each.stage, ms_text(each.mean_ms), ms_text(each.p50_ms), ms_text(each.p99_ms)


def _rows_of_many(files: Sequence[BenchFile]) -> Iterator[tuple[str, ...]]:
    for stage in dict.fromkeys(each.stage for file in files for each in file.stages):
        found = [ms for file in files if (ms := file.typical_ms(stage)) is not None]
        yield stage, *map(ms_text, (min(found), statistics.median(found), max(found)))


def bench_lines(files: Sequence[BenchFile]) -> Iterator[str]:
    """What each file says of its run, and what of it is not known."""
    for each in files:
        parts = (
            each.model or "unknown model",
            counted(each.num_requests, "request") if each.num_requests is not None else "",
            f"{each.num_failed} failed" if each.num_failed is not None else "failures unknown",
            f"{each.duration_s:.1f} s" if each.duration_s is not None else "",
            f"{each.throughput_rps:.3g}/s" if each.throughput_rps is not None else "",
            f"peak {each.peak_bytes / 2**30:.2f} GiB" if each.peak_bytes is not None else "",
            *(f"{name} {NONE if value is None else value}" for name, value in each.asked.items()),
        )
        yield f"- {each.name}: {', '.join(part for part in parts if part)}"
    unknown = dict.fromkeys(stage for each in files for stage in each.unknown)
    if unknown:
        yield f"- not shown, as their unit is not known: {', '.join(unknown)}"
    yield "- next: gate result FOLDER --reference FOLDER judges folders of six files and more, a run each"
