"""Everything is there on a phone, a tablet and a desk, and the page itself never scrolls sideways."""

from __future__ import annotations

from pathlib import Path

import pytest

from chromium import DESK, PHONE, TABLET, Browser
from report_pages import WAITS

WIDTHS = (PHONE, TABLET, DESK)
MIN_LETTER_PX = 8

INVISIBLE = """
const shown = e => e.checkVisibility({opacityProperty: true, visibilityProperty: true, contentVisibilityAuto: true});
const wanted = 'h1, h2, h2 + *, table, caption, svg, canvas:not([hidden]), figure, img';
return [...document.querySelectorAll(wanted)].filter(e => {
    const box = e.getBoundingClientRect();
    return !e.closest('.drawn-live') && (!shown(e) || box.width < 1 || box.height < 1);
}).map(e => e.outerHTML.slice(0, 100));
"""
# A box that sticks out can be read only if something around it scrolls.
CUT_OFF = """
const width = document.documentElement.clientWidth;
const scrolls = e => e && (['auto', 'scroll'].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
return [...document.querySelectorAll('body *')].filter(e => {
    const box = e.getBoundingClientRect();
    return box.width > 0 && (box.right > width + 1 || box.left < -1) && !scrolls(e.parentElement);
}).map(e => e.outerHTML.slice(0, 100));
"""


@pytest.mark.parametrize("width", WIDTHS)
def test_each_section_table_and_plot_is_visible(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width=width)
    browser.open_details()
    assert browser.run(INVISIBLE) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_does_not_scroll_sideways(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width=width)
    for _ in range(2):  # closed, then open
        outer, inner = browser.run("return [innerWidth, document.documentElement.scrollWidth]")
        assert inner <= outer == width
        assert browser.run(CUT_OFF) == []
        browser.open_details()


@pytest.mark.parametrize("width", WIDTHS)
def test_letters_of_a_plot_stay_readable(browser: Browser, page: Path, width: int) -> None:
    """A plot that shrinks with the page takes its text along."""
    browser.open(page, width=width)
    browser.open_details()
    script = """const scale = matrix => Math.hypot(matrix.a, matrix.b);
        return [...document.querySelectorAll('svg text')].filter(e => e.textContent.trim())
        .map(e => [e.textContent, parseFloat(getComputedStyle(e).fontSize) * scale(e.getScreenCTM())])
        .filter(([_, px]) => px < arguments[0])"""
    assert browser.run(script, MIN_LETTER_PX) == []


def test_the_title_of_a_table_is_read_without_scrolling(browser: Browser, page: Path) -> None:
    browser.open(page, width=PHONE)
    browser.open_details()
    script = """return [...document.querySelectorAll('caption')].flatMap(c => [...c.childNodes]).filter(n => {
        const range = document.createRange();
        range.selectNodeContents(n);
        return range.getBoundingClientRect().right > innerWidth;
    }).map(n => n.textContent)"""
    assert browser.run(script) == []


def test_a_page_has_sections_tables_and_plots(browser: Browser, page: Path) -> None:
    browser.open(page)
    wanted = ["h2", "table"] if page.parent.name == WAITS else ["h2", "table", "svg", "svg text"]
    counts = browser.run("return arguments[0].map(tag => document.querySelectorAll(tag).length)", wanted)
    assert min(counts) > 0, counts
