"""Links open what hides their target, the contents follow the reader, and colours can be chosen."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from chromium import Browser
from contrast_script import PAGE_LUMINANCE
from report_pages import HISTORY, TRACE

SOME = (HISTORY, TRACE)
"""Of a result, and of a trace."""
OPEN = "return document.getElementById(arguments[0]).checkVisibility()"
FOLDED = """const fold = [...document.querySelectorAll('main details')].find(e => e.querySelector('tr'));
fold.open = false; const row = fold.querySelector('tr'); row.id ||= 'folded-row'; return row.id"""


def test_a_link_into_a_closed_fold_opens_it(browser: Browser, reports: dict[str, Path]) -> None:
    browser.open(reports[HISTORY])
    row = browser.run(FOLDED)
    assert not browser.run(OPEN, row)
    browser.run("location.hash = arguments[0]", row)
    browser.wait_for(lambda: bool(browser.run(OPEN, row)))


def test_the_same_link_opens_it_again(browser: Browser, reports: dict[str, Path]) -> None:
    browser.open(reports[HISTORY])
    row = browser.run(FOLDED)
    link = (
        "const link = document.createElement('a'); link.href = `#${arguments[0]}`; document.body.append(link);"
        "link.click()"
    )
    for _ in range(2):
        browser.run(f"document.getElementById(arguments[0]).closest('details').open = false; {link}", row)
        browser.wait_for(lambda: bool(browser.run(OPEN, row)))


def test_a_page_opened_at_a_row_shows_it(browser: Browser, reports: dict[str, Path], tmp_path: Path) -> None:
    page = reports[HISTORY]
    browser.open(page)
    browser.run(FOLDED)
    anchors = browser.run("return [...document.querySelectorAll('main details [id]')].map(e => e.id)")
    known = [each for each in anchors if f'id="{each}"' in page.read_text(encoding="utf-8")]
    browser.driver.get("about:blank")
    browser.driver.get(f"{page.as_uri()}#{known[0]}")
    browser.wait_for(lambda: bool(browser.run(OPEN, known[0])))


@pytest.mark.parametrize("name", SOME)
def test_all_folds_open_and_close(browser: Browser, reports: dict[str, Path], name: str) -> None:
    browser.open(reports[name])
    states = "return [...document.querySelectorAll('main details')].map(e => e.open)"
    press = "[...document.querySelectorAll('.settings button')].find(e => e.textContent === arguments[0]).click()"
    browser.run(press, "Open all folds")
    assert all(browser.run(states))
    browser.run(press, "Close all folds")
    assert not any(browser.run(states))


def test_the_contents_mark_what_is_read(browser: Browser, reports: dict[str, Path]) -> None:
    browser.open(reports[HISTORY])
    marked = "return [...document.querySelectorAll('nav [aria-current]')].map(e => e.hash)"
    links = browser.run("return [...document.querySelectorAll('nav a')].map(e => e.hash)")
    assert browser.run(marked) == links[:1]
    browser.run("document.querySelector(arguments[0]).scrollIntoView()", links[2])
    browser.wait_for(lambda: browser.run(marked) == [links[2]])
    browser.run("scrollTo(0, document.documentElement.scrollHeight)")
    browser.wait_for(lambda: browser.run(marked) == links[-1:])


def choose(browser: Browser, value: str) -> None:
    browser.run("document.querySelectorAll('nav details').forEach(e => { e.open = true; })")
    Select(browser.driver.find_element(By.CSS_SELECTOR, ".settings select")).select_by_value(value)


@pytest.mark.parametrize("name", SOME)
def test_colours_can_be_chosen_and_are_kept(browser: Browser, reports: dict[str, Path], name: str) -> None:
    browser.open(reports[name], scheme="light")
    choose(browser, "dark")
    assert browser.run(PAGE_LUMINANCE) < 0.05
    browser.driver.refresh()
    assert browser.run(PAGE_LUMINANCE) < 0.05
    choose(browser, "light")
    browser.show(scheme="dark")
    assert browser.run(PAGE_LUMINANCE) > 0.8
    choose(browser, "system")
    assert browser.run(PAGE_LUMINANCE) < 0.05


@pytest.mark.parametrize("name", SOME)
def test_a_page_without_a_store_has_all_its_controls(browser: Browser, reports: dict[str, Path], name: str) -> None:
    refuse = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no'); }});"
    added = browser.cdp("Page.addScriptToEvaluateOnNewDocument", source=refuse)["identifier"]
    try:
        browser.open(reports[name])
        choose(browser, "dark")
        assert browser.run(PAGE_LUMINANCE) < 0.05
        assert browser.complaints() == []
    finally:
        browser.cdp("Page.removeScriptToEvaluateOnNewDocument", identifier=added)


def test_a_choice_of_colours_that_is_none_counts_for_nothing(browser: Browser, reports: dict[str, Path]) -> None:
    browser.open(reports[TRACE], scheme="dark")
    browser.run("localStorage.setItem('bagel-perf.theme', '\"><b>')")
    try:
        browser.driver.refresh()
        assert browser.run("return document.documentElement.dataset.theme") is None
        assert browser.run("return document.querySelector('.settings select').value") == "system"
        assert browser.run(PAGE_LUMINANCE) < 0.05
    finally:
        browser.run("localStorage.clear()")
