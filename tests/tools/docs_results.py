"""Writes the tables of a result into a document, between two markers: ``python tests/tools/docs_results.py``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from bagel_perf.commands.common import print_error
from bagel_perf.records.errors import BagelPerfError, UsageError
from bagel_perf.records.results import Result, result_file
from bagel_perf.records.store import writing
from bagel_perf.report.inert import markdown, print_line, source_text
from bagel_perf.report.summary import table_markdown
from bagel_perf.report.table import (
    NONE,
    Column,
    Table,
    bitwise_variants,
    cell_of,
    change_text,
    changes_caption,
    delta_of,
    median_text,
    medians_change_text,
    noise_columns,
    noise_texts,
    place_text,
    stage_text,
    syncs_text,
    tolerant_variants,
)
from bagel_perf.report.tables import PAIR_HEADERS, sync_caption, tolerance_tables
from bagel_perf.verdicts.reading import load_checked


def markers(what: str) -> tuple[str, str]:
    """What stands before and after a section that a program writes."""
    return f"<!-- {what}:begin -->", f"<!-- {what}:end -->"


BEGIN, END = markers("result")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 when the document holds the result, 1 when ``--check`` finds that it does not, 2 on wrong input."""
    parser = argparse.ArgumentParser(prog="python tests/tools/docs_results.py", description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="result.json or its folder, one or more")
    parser.add_argument("document", type=Path, help="the file with the two markers")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the file differs")
    options = parser.parse_args(argv)
    try:
        return update(options.results, options.document, check=options.check)
    except BagelPerfError as error:
        print_error(error)
        return error.exit_code


def update(results: Sequence[Path], document: Path, *, check: bool) -> int:
    """Replaces what stands between the markers, or with ``check`` only compares; 1 when a check fails."""
    try:
        text = document.read_text(encoding="utf-8")
    except OSError as problem:
        raise UsageError("file cannot be read", value=document, allowed=problem.strerror or "") from problem
    paths = [result_file(path) for path in results]
    sections = [section(_complete(path), path.parent, document.parent) for path in paths]
    expected = replace_section(text, "\n\n".join(sections))
    if check and text != expected:
        print_line(f"{document} does not show {', '.join(map(str, paths))}; next: run without --check", sys.stderr)
        return 1
    if text != expected:
        with writing(document):
            document.write_text(expected, encoding="utf-8")
    return 0


def _complete(path: Path) -> Result:
    result = load_checked(path)
    if result.environment.device_kind != "cuda" or not result.complete:
        raise UsageError(
            "only a complete result of a GPU goes into a document", value=path, remedy="name it with RESULT="
        )
    return result


def section(result: Result, folder: Path, document_folder: Path) -> str:
    """The table of all variants, and a line that says where it comes from, with a link relative to the document."""
    link = Path(os.path.relpath(folder, document_folder)).as_posix()
    measured = f"Measured on {markdown(source_text(result))}: [{markdown(link)}]({quote(link)})."
    tables = (headline_table(result), *tolerance_tables(result))
    return "\n\n".join([*map(table_markdown, tables), f"{_pictures_text(result)}{measured}"])


def headline_table(result: Result) -> Table:
    """A row for each bitwise variant: its median latency, the two changes from the first, and its host syncs."""
    variants = bitwise_variants(result)
    rows = []
    for case in result.cases:
        for stage in result.timed_stages:
            first = cell_of(result, case, stage, variants[0])
            for variant in variants:
                cell, delta = cell_of(result, case, stage, variant), delta_of(result.deltas, case, stage, variant)
                changes = NONE if cell is first else medians_change_text(first, cell), change_text(delta, sign="")
                noise = noise_texts(result, case, stage)
                rows.append((case, stage_text(stage), variant, median_text(cell), *changes, *noise, syncs_text(cell)))
    return Table(
        title=place_text(result),
        columns=(
            Column(header="case"),
            Column(header="stage"),
            Column(header="variant"),
            *(Column(header=header, numeric=True) for header in ("ms", *PAIR_HEADERS)),
            *noise_columns(result),
            Column(header="host syncs", numeric=True),
        ),
        rows=tuple(rows),
        caption=f"{changes_caption(result, variants, rows)} {sync_caption(result)}",
    )


def _pictures_text(result: Result) -> str:
    """What was found of the outputs that have to be identical; nothing where there were none to compare."""
    apart = tolerant_variants(result)
    checks = [check for check in result.identity if check.candidate not in apart]
    if not checks:
        return ""
    same = "md5-identical" if all(check.identical for check in checks) else "NOT identical"
    num_runs = sum(check.num_runs for check in checks)
    runs = "the one run" if num_runs == 1 else f"all {num_runs} runs"
    what = f"{result.outline.noun}s".capitalize()
    return f"{what}: {same} in {runs} against {markdown(result.named[0])}. "


def replace_section(text: str, content: str, what: str = "result") -> str:
    """``text`` with ``content`` between its markers; ``UsageError`` unless each stands there once, in order."""
    begin, end = markers(what)
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise UsageError(f"the file lacks the markers of the {what}", allowed=f"one {begin} and below it one {end}")
    head, rest = text.split(begin)
    return f"{head}{begin}\n{content}\n{end}{rest.split(end)[1]}"


if __name__ == "__main__":
    sys.exit(main())
