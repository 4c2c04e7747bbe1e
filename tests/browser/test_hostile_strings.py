"""What a result says in words is shown as words, whatever it says; and a page needs no scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from chromium import Browser
from report_pages import REMOTE, SHOWN, TEMPLATE

# Elements and attributes that only a string of the result could have brought.
FOREIGN = """return [...document.querySelectorAll('*')].filter(e =>
    e.matches('script:not([type]), iframe, object, embed, base, form, textarea, a[href^="javascript" i], [src="x"]')
    || [...e.attributes].some(a => a.name.startsWith('on'))
).map(e => e.outerHTML.slice(0, 100))"""
INVENTORY = """return ['h2', 'table', 'svg', 'details'].map(tag => document.querySelectorAll(tag).length)
    .concat(document.body.innerText)"""


def test_nothing_of_it_runs(browser: Browser, hostile: Path) -> None:
    browser.open(hostile)
    browser.open_details()
    browser.run("document.querySelectorAll('*').forEach(e => e.dispatchEvent(new Event('mouseover')))")
    assert browser.run("return typeof window.pwned") == "undefined"
    assert browser.run(FOREIGN) == []
    assert browser.complaints() == []


def test_nothing_of_it_is_asked_for(browser: Browser, hostile: Path) -> None:
    browser.open(hostile)
    assert browser.requests() == [hostile.as_uri()]
    links = browser.run("return [...document.querySelectorAll('[href], [src]')].map(e => e.href || e.src)")
    assert [link for link in links if REMOTE in str(link)] == []


@pytest.mark.parametrize("place", SHOWN)
def test_it_is_shown_as_it_is(browser: Browser, hostile: Path, place: str) -> None:
    browser.open(hostile)
    browser.open_details()
    shown = " ".join(browser.run("return document.body.innerText").split())
    assert SHOWN[place] in shown


def test_templates_and_formulas_stay_what_they_are(browser: Browser, hostile: Path) -> None:
    browser.open(hostile)
    assert TEMPLATE in browser.run("return document.body.textContent")
    assert browser.run("return document.querySelectorAll('math, .katex, mjx-container').length") == 0


def test_without_scripts_a_page_shows_the_same(browser: Browser, page: Path) -> None:
    browser.open(page)
    with_scripts = browser.run(INVENTORY)
    browser.open(page, scripts=False)
    assert browser.run(INVENTORY) == with_scripts
