"""On a hundred columns every cell stands on its line; on eighty a cell may wrap, between words and not inside one.

The names of mixtures that exchange several components are longer than either, and the only ones that are folded.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from bagel_perf.records.bagel import BUILT_IN
from bagel_perf.records.results import Result
from bagel_perf.report.table import Column, Table
from bagel_perf.report.tables import result_tables
from bagel_perf.report.text import LEAST_COLUMNS, PLAIN_COLUMNS, column_widths, console_for, print_result, print_tables
from bagel_perf.verdicts.compare import Session, build_result
from bagel_perf.verdicts.reading import load_checked
from committed_results import committed
from scripted import ENVIRONMENT, make_outline, make_plan, make_runs

SIZES = ((256, 256), (1024, 1024))
VARIANTS = tuple(built_in.name for built_in in BUILT_IN)
LONG = 50
"""Characters of a name for which there may be no room."""


def scripted(pairs: int) -> Result:
    """All variants, each against the first alone."""
    plan = make_plan(SIZES, VARIANTS)
    session = Session(
        command="bagel-perf compare", created="2026-01-31", pairs=pairs, warmup=1, order_seed=0, processes=pairs
    )
    return build_result(make_outline(plan), ENVIRONMENT, list(make_runs(plan, pairs)), session)


def taken_apart(pairs: int) -> Result:
    """A variant of five components, whose mixtures have long names."""
    plan = replace(make_plan(SIZES, ("baseline", "pr3987")), ablate=True)
    everything = replace(plan, variants=plan.measured, ablate=False)
    session = Session(
        command="bagel-perf compare", created="2026-01-31", pairs=pairs, warmup=1, order_seed=0, processes=pairs
    )
    return build_result(make_outline(plan), ENVIRONMENT, list(make_runs(everything, pairs)), session)


RESULTS: Mapping[str, Callable[[], Result]] = {
    "five pairs": lambda: scripted(5),
    "six pairs": lambda: scripted(6),
    "successive of three pairs": lambda: replace(scripted(3), successive=True),
    "successive": lambda: replace(scripted(6), successive=True),
    "components": lambda: taken_apart(6),
    "components in five rounds": lambda: taken_apart(5),
} | {folder.name: lambda folder=folder: load_checked(folder) for folder in committed("result.json")}


def lines_of(table: Table, width: int) -> list[str]:
    stream = io.StringIO()
    console = console_for(stream)
    console.width = width
    print_tables(console, [table])
    return stream.getvalue().splitlines()


def folded_rows(table: Table, width: int) -> list[tuple[str, ...]]:
    """The rows whose cells do not all stand on one line."""
    found = {tuple(re.split(r"\s{2,}", line.strip())) for line in lines_of(table, width)}
    return [row for row in table.rows if row not in found]


@pytest.mark.parametrize("name", RESULTS)
def test_no_cell_is_folded_on_a_hundred_columns(name: str) -> None:
    for table in result_tables(RESULTS[name]()):
        folded = folded_rows(table, PLAIN_COLUMNS)
        assert [row for row in folded if max(map(len, row)) < LONG] == [], table.title
        assert max(map(len, lines_of(table, PLAIN_COLUMNS))) <= PLAIN_COLUMNS


@pytest.mark.parametrize("name", RESULTS)
def test_no_word_is_broken_on_eighty_columns(name: str) -> None:
    result = RESULTS[name]()
    fields = set(result.outline.stages) if result.outline.is_server else set()  # names of 14 letters beside two changes
    for table in result_tables(result):
        lines = lines_of(table, 80)
        assert max(map(len, lines)) <= 80
        words = {word for row in table.rows for cell in row for word in cell.split() if len(word) < LONG}
        assert words - fields <= {word for line in lines for word in line.split()}, table.title


def test_a_folded_cell_is_noticed() -> None:
    columns = tuple(Column(header=header) for header in "ab")
    table = Table(title="", columns=columns, rows=(("x", "y"), ("x " * 30, "y " * 30)))
    assert folded_rows(table, PLAIN_COLUMNS) == [table.rows[1]]


def test_headers_wrap_before_cells_and_cells_before_words() -> None:
    columns = (Column(header="a long header"), Column(header="b"))
    table = Table(title="", columns=columns, rows=(("12 34", "wordword"),))
    assert [column_widths(table, width) for width in (30, 23, 22, 16, 15, 14, 4)] == [
        [13, 8],
        [13, 8],
        [12, 8],
        [6, 8],
        [6, 7],
        [6, 6],
        [6, 6],
    ]


def test_numbers_are_never_broken() -> None:
    columns = (Column(header="name"), Column(header="milliseconds", numeric=True))
    table = Table(title="", columns=columns, rows=(("a long name", "12345.678"),))
    assert column_widths(table, 12) == [4, 9]


def test_sentences_below_are_left_to_the_terminal_and_captions_are_not() -> None:
    stream = io.StringIO()
    print_result(scripted(6), Path("reports/a/result.json"), stream)
    tables, sentences = stream.getvalue().split("verdict: ")
    assert max(map(len, tables.splitlines())) <= PLAIN_COLUMNS
    assert "\n- approx_norm at 256x256: " in sentences


@pytest.mark.parametrize("columns", [60, 160])
def test_columns_of_the_shell_are_used_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert console_for(io.StringIO()).width == columns
    monkeypatch.setenv("COLUMNS", "wide")
    assert console_for(io.StringIO()).width == PLAIN_COLUMNS
    monkeypatch.setenv("COLUMNS", "3")
    assert console_for(io.StringIO()).width == LEAST_COLUMNS
