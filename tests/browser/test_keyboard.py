"""Who has only a keyboard reaches everything, in order, and sees where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from chromium import DESK, PHONE, Browser

TAB, ENTER = "\ue004", "\ue007"

# What acts, and what scrolls: the latter takes the arrow keys once it has the focus.
LIST_STOPS = """
const scrolls = e => e.scrollWidth > e.clientWidth + 1 && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX);
const acts = e => e.matches('a[href], summary, button, input, select, textarea, [tabindex="0"]');
window.stops = [...document.querySelectorAll('body *')].filter(e => e.checkVisibility() && (acts(e) || scrolls(e)));
return stops.map(e => e.outerHTML.slice(0, 80));
"""
WHERE = """
const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
return {
    stop: stops.indexOf(e),
    outlined: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1,
    onScreen: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
};
"""


@pytest.mark.parametrize(("width", "opened"), [(PHONE, False), (DESK, True)])
def test_tab_reaches_everything_in_order_and_visibly(browser: Browser, page: Path, width: int, opened: bool) -> None:
    browser.open(page, width=width)
    if opened:
        browser.open_details()
    stops = browser.run(LIST_STOPS)
    assert stops
    for number, stop in enumerate(stops):
        browser.press(TAB)
        assert browser.run(WHERE) == {"stop": number, "outlined": True, "onScreen": True}, stop


def test_what_scrolls_says_so_to_every_browser(browser: Browser, page: Path) -> None:
    """Chromium lets any scrolling box have the focus; others want a tabindex, and readers a name and a role."""
    browser.open(page, width=PHONE)
    browser.open_details()
    browser.run(LIST_STOPS)
    script = """return stops.filter(e => !e.matches('a[href], summary, button, [tabindex="0"][role][aria-label],'
        + '[tabindex="0"][role][aria-labelledby], input[aria-label], label > select, label > input'))
        .map(e => e.outerHTML.slice(0, 80))"""
    assert browser.run(script) == []


def test_enter_opens_and_closes_details(browser: Browser, page: Path) -> None:
    browser.open(page)
    for number in range(browser.run("return document.querySelectorAll('main details').length")):
        was_open = browser.run(
            "const d = document.querySelectorAll('main details')[arguments[0]]; return d.open", number
        )
        browser.run("document.querySelectorAll('main summary')[arguments[0]].focus()", number)
        for expected in (not was_open, was_open, True):
            if browser.run("return document.querySelectorAll('main details')[arguments[0]].open", number) != expected:
                browser.press(ENTER)
            assert (
                browser.run("return document.querySelectorAll('main details')[arguments[0]].open", number) == expected
            )


def test_links_within_a_page_lead_somewhere(browser: Browser, page: Path) -> None:
    browser.open(page)
    script = """return [...document.querySelectorAll('a[href^="#"]')].map(a => a.getAttribute('href').slice(1))
        .filter(id => !document.getElementById(id))"""
    assert browser.run(script) == []
