"""Tables can be sorted by any column, filtered and copied, by pointer and by keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from bagel_perf.report.html.content import Page, Section, TableBlock
from bagel_perf.report.html.page import page_html
from bagel_perf.report.table import Column, Table
from chromium import Browser

ENTER = "\ue007"
VALUES = ("57.2", "1,176", "12 / 3", "-17.5 to -6.6", "\u221220 to 1", "-", "300 ms", "1.2 s", "8.1%", "0")
NAMES = tuple("kJihgFedca")
ORDER = {
    "descending": ["1.2 s", "1,176", "300 ms", "57.2", "12 / 3", "8.1%", "0", "-17.5 to -6.6", "\u221220 to 1", "-"],
    "ascending": ["\u221220 to 1", "-17.5 to -6.6", "0", "8.1%", "12 / 3", "57.2", "300 ms", "1,176", "1.2 s", "-"],
}
CELLS = """return [...document.querySelectorAll('tbody tr')].filter(row => !row.hidden)
    .map(row => row.cells[arguments[0]].textContent)"""
INPUT = "document.querySelector('.tools input')"
SORT = "document.querySelectorAll('button.sort')[arguments[0]]"
# What a browser without a clipboard for files has.
NO_CLIPBOARD = """Object.defineProperty(navigator, 'clipboard', {value: undefined, configurable: true});
document.execCommand = () => false;"""
CLIPBOARD = """window.copied = null;
Object.defineProperty(navigator, 'clipboard', {value: {writeText: async text => { window.copied = text; }}});"""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    columns = (Column(header="name"), Column(header="time", numeric=True), Column(header="code"))
    rows = tuple((name, value, f"x[{name}] | y") for name, value in zip(NAMES, VALUES, strict=True))
    block = TableBlock(table=Table(title="All values", columns=columns, rows=rows), code_columns=("code",))
    page = Page(title="t", subtitle="", sections=(Section(anchor="a", title="A", blocks=(block,)),), data_json="{}")
    path = tmp_path_factory.mktemp("table") / "table.html"
    path.write_text(page_html(page), encoding="utf-8")
    return path


def test_numbers_are_sorted_by_what_they_mean_and_the_third_click_brings_the_order_back(
    browser: Browser, table: Path
) -> None:
    browser.open(table)
    for expected in ("descending", "ascending", None):
        browser.run(f"{SORT}.click()", 1)
        header = f"return {SORT}.closest('th').getAttribute('aria-sort')"
        assert browser.run(header, 1) == expected
        assert browser.run(CELLS, 1) == (ORDER[expected] if expected else list(VALUES))


def test_words_are_sorted_by_the_keyboard_whatever_their_case(browser: Browser, table: Path) -> None:
    browser.open(table)
    browser.run(f"{SORT}.focus()", 0)
    browser.press(ENTER)
    assert browser.run(CELLS, 0) == sorted(NAMES, key=str.lower)
    browser.press(ENTER)
    assert browser.run(CELLS, 0) == sorted(NAMES, key=str.lower, reverse=True)
    assert browser.run("return document.querySelectorAll('[aria-sort]').length") == 1


def test_a_filter_counts_what_it_leaves_and_tells_a_screen_reader(browser: Browser, table: Path) -> None:
    browser.open(table)
    browser.run("document.querySelector('.tools input').focus()")
    browser.press("x[k")
    assert browser.run(CELLS, 0) == ["k"]
    status = browser.run("return document.querySelector('.tools [role=status]').textContent")
    assert status == "1 of 10 rows"
    browser.run("const i = document.querySelector('.tools input'); i.value = ''; i.dispatchEvent(new Event('input'))")
    assert browser.run(CELLS, 0) == list(NAMES)


def test_what_is_seen_is_copied_as_markdown(browser: Browser, table: Path) -> None:
    browser.open(table)
    browser.run(CLIPBOARD)
    browser.run(f"{SORT}.click()", 0)
    browser.run("const i = document.querySelector('.tools input'); i.value = '12'; i.dispatchEvent(new Event('input'))")
    browser.run("document.querySelector('.tools button').click()")
    expected = "| name | time | code |\n| --- | ---: | --- |\n| i | 12 / 3 | `x[i] \\| y` |\n"
    browser.wait_for(lambda: browser.run("return window.copied") == expected)
    browser.wait_for(lambda: browser.run("return document.querySelector('.tools .said').textContent") == "Copied")


HOSTILE = ("a|b", "a\\|b", "`c`|", "<b>d</b>", "[e](f)", "*g* _h_ ~~i~~", "line\nbreak", "&lt;", "__proto__", "")


def test_what_is_copied_is_a_table_whatever_its_cells_hold(browser: Browser, tmp_path: Path) -> None:
    columns = (Column(header="a|b"), Column(header="code"))
    block = TableBlock(
        table=Table(title="t", columns=columns, rows=tuple((text, text) for text in HOSTILE)), code_columns=("code",)
    )
    page = Page(title="t", subtitle="", sections=(Section(anchor="a", title="A", blocks=(block,)),), data_json="{}")
    path = tmp_path / "hostile.html"
    path.write_text(page_html(page), encoding="utf-8")
    browser.open(path)
    tokens = (
        MarkdownIt("commonmark")
        .enable(["table", "strikethrough"])
        .parse(browser.run("return markdownOf(document.querySelector('table'))"))
    )
    inner = [token for token in tokens if token.type == "inline"]
    shown = ["".join(child.content for child in each.children or ()) for each in inner]
    expected = [" ".join(text.split()) for text in HOSTILE]
    assert shown == ["a|b", "code", *(text for text in expected for _ in range(2))]
    assert {child.type for each in inner for child in each.children or ()} <= {"text", "text_special", "code_inline"}


def test_a_filter_takes_regular_expressions_and_markup_for_words(browser: Browser, table: Path) -> None:
    browser.open(table)
    for text, left in ((".*", 0), ("x[k] | y", 1), ("<b>", 0), ("\\", 0), ("   ", len(NAMES))):
        browser.run(f"{INPUT}.value = arguments[0]; {INPUT}.dispatchEvent(new Event('input'))", text)
        assert len(browser.run(CELLS, 0)) == left, text


def test_where_a_file_has_no_clipboard_the_text_stands_selected_in_a_box(browser: Browser, table: Path) -> None:
    browser.open(table)
    browser.run(NO_CLIPBOARD)
    browser.run("document.querySelector('.tools button').click()")
    browser.wait_for(lambda: bool(browser.run("return document.querySelector('.copybox')")))
    box = "const box = document.querySelector('.copybox'); return box.value.slice(box.selectionStart, box.selectionEnd)"
    assert browser.run(box).count("\n") == 12
    assert "Ctrl+C" in browser.run("return document.querySelector('.tools .said').textContent")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1.2 s", 1200),
        ("40 us", 0.04),
        ("-17.5 to -6.6 s", -17500),
        ("1,176", 1176),
        ("2 GB", 2e9),
        ("\u22120.5%", -0.5),
        ("a word", None),
    ],
)
def test_a_number_is_read_in_its_unit(browser: Browser, table: Path, text: str, number: float | None) -> None:
    browser.open(table)
    assert browser.run("return numberOf(arguments[0])", text) == (None if number is None else pytest.approx(number))
