"""On paper a report is white, whole and a few pages long, whatever the scheme on the screen."""

from __future__ import annotations

import io
import unicodedata
from pathlib import Path

from chromium import PHONE, Browser
from contrast_script import LOW_CONTRAST, PAGE_LUMINANCE
from report_pages import RANKS, WAITS

PAPER = 718
"""CSS pixels between the margins of an A4 page, about."""
MAX_PAGES = 30


def text_of_pages(browser: Browser) -> list[str]:
    from pypdf import PdfReader

    return [page.extract_text() for page in PdfReader(io.BytesIO(browser.pdf())).pages]


def words_on_paper(browser: Browser) -> str:
    """All letters and figures in a row: no matter where lines break or letters join; pypdf also loses full stops."""
    return bare("".join(text_of_pages(browser)))


def bare(text: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text)))


def test_a_page_prints_onto_a_few_sheets_none_of_them_empty(browser: Browser, page: Path) -> None:
    browser.open(page, scheme="dark")
    sheets = text_of_pages(browser)
    assert 2 <= len(sheets) <= MAX_PAGES
    assert [number for number, text in enumerate(sheets) if not text.strip()] == []


def test_the_answer_and_each_heading_are_on_paper(browser: Browser, page: Path) -> None:
    browser.open(page)
    paper = words_on_paper(browser)
    wanted = browser.run(
        "const first = 'h1, h2, #answer p, #answer li, #gate p, #gate li';"
        "return [...document.querySelectorAll(first)].map(e => e.textContent)"
    )
    assert [text for text in wanted if bare(text) not in paper] == []


def test_the_rules_for_paper_apply(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert bare(browser.run("return document.querySelector('nav').textContent")) not in words_on_paper(browser)


def test_what_is_folded_on_the_screen_is_on_paper(browser: Browser, page: Path) -> None:
    browser.open(page)
    paper = words_on_paper(browser)
    rows = browser.run(
        "return [...document.querySelectorAll('details:not([open]) tr')].map(e => { const row = e.cloneNode(true);"
        "row.querySelectorAll('.made').forEach(made => made.remove()); return row.textContent; })"
    )
    assert rows or page.stem == RANKS or page.parent.name == WAITS, "these are too few rows to fold"
    assert [row for row in rows if bare(row) not in paper] == []


def test_paper_is_white_and_its_text_dark(browser: Browser, page: Path) -> None:
    browser.open(page, scheme="dark")
    browser.show(scheme="dark", media="print", width=PAPER)
    assert browser.run(PAGE_LUMINANCE) > 0.95
    assert browser.run(LOW_CONTRAST, 4.5) == []


def test_nothing_on_paper_waits_to_be_scrolled(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.show(media="print", width=PAPER)
    script = """return [...document.querySelectorAll('body *')].filter(e => e.scrollWidth > e.clientWidth + 1
        && getComputedStyle(e).overflowX !== 'visible' && e.clientWidth).map(e => e.outerHTML.slice(0, 100))"""
    assert browser.run(script) == []
    assert browser.run("return document.documentElement.scrollWidth") <= PAPER


def test_a_phone_prints_as_much_as_a_desk(browser: Browser, page: Path) -> None:
    """But for a sheet, where a table breaks elsewhere and has its head twice."""
    browser.open(page)
    from_desk = len(text_of_pages(browser))
    browser.open(page, width=PHONE)
    assert abs(len(text_of_pages(browser)) - from_desk) <= 1
