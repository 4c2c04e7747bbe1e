"""What a result says in words is shown as words, whatever it says; and a page is whole without its script."""

from __future__ import annotations

from pathlib import Path

import pytest

from chromium import Browser
from report_pages import REMOTE, SHOWN, TEMPLATE

# Elements and attributes that only a string of the result could have brought.
FOREIGN = """return [...document.querySelectorAll('*')].filter(e =>
    e.matches('script:not([type]):not(#live), iframe, object, embed, base, form, textarea, [src="x"]')
    || e.matches('a[href^="javascript" i]')
    || [...e.attributes].some(a => a.name.startsWith('on'))
).map(e => e.outerHTML.slice(0, 100))"""
# Elements and words, without the controls that the script makes.
INVENTORY = """const main = document.body.cloneNode(true);
main.querySelectorAll('.made').forEach(each => each.remove());
return ['h2', 'table', 'tr', 'svg', 'img', 'details'].map(tag => main.querySelectorAll(tag).length)
    .concat(main.textContent.replace(/\\s+/g, ' '))"""
MADE = "return document.querySelectorAll('.made').length"
INJECT = """const script = document.createElement('script');
script.textContent = 'window.pwned = 1';
document.body.append(script);
const link = document.createElement('b');
link.setAttribute('onclick', 'window.pwned = 1');
document.body.append(link);
link.click();"""


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


def test_a_script_that_is_not_the_pages_own_does_not_run(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run(INJECT)
    assert browser.run("return typeof window.pwned") == "undefined"
    assert len([each for each in browser.complaints() if each.startswith("script-src")]) == 2


def test_without_scripts_a_page_shows_the_same_and_nothing_dead(browser: Browser, page: Path) -> None:
    browser.open(page)
    with_scripts = browser.run(INVENTORY)
    assert browser.run(MADE) > 0
    browser.open(page, scripts=False)
    assert browser.run(INVENTORY) == with_scripts
    assert browser.run(MADE) == 0
    assert browser.run("return document.querySelectorAll('button, input, select, canvas').length") == 0
    hidden = "return [...document.querySelectorAll('.plot')].filter(e => !e.closest('details') && !e.checkVisibility())"
    assert browser.run(hidden) == []
