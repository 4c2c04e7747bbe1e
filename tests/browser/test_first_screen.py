"""The answer stands above the fold on a desk and on a phone, and the rest of the page stays short."""

from __future__ import annotations

from pathlib import Path

import pytest

from chromium import DESK, PHONE, Browser, Scheme
from report_pages import LARGEST, TRACE, WAITS

HEIGHTS = {DESK: 900, PHONE: 740}
MAX_HEIGHT = 8000
BELOW = """
return arguments[0].filter(selector => {
    const e = document.querySelector(selector);
    return !e || !e.checkVisibility() || e.getBoundingClientRect().bottom > arguments[1];
});
"""
ON_A_DESK = ("h1", ".badge", ".cards", ".bars", ".culprit")
ON_A_PHONE = ("h1", ".badge", ".cards li")


def below_the_fold(browser: Browser, page: Path, width: int, wanted: tuple[str, ...]) -> list[str]:
    """Which of the wanted do not end on the first screen."""
    browser.open(page, width=width)
    found: list[str] = browser.run(BELOW, list(wanted), HEIGHTS[width])
    return found


@pytest.mark.parametrize("name", [LARGEST, TRACE, WAITS])
def test_the_answer_is_above_the_fold(browser: Browser, reports: dict[str, Path], name: str) -> None:
    assert below_the_fold(browser, reports[name], DESK, ON_A_DESK) == []
    assert below_the_fold(browser, reports[name], PHONE, ON_A_PHONE) == []


def test_what_is_below_the_fold_is_seen(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "long.html"
    page.write_text("<!doctype html><title>long</title><p style='height: 899px'></p><h1>late</h1>", encoding="utf-8")
    assert below_the_fold(browser, page, DESK, ("h1", ".badge")) == ["h1", ".badge"]


def test_a_page_has_one_answer_and_one_culprit(browser: Browser, reports: dict[str, Path]) -> None:
    browser.open(reports[LARGEST])
    counts = browser.run("return ['h1', '.culprit'].map(each => document.querySelectorAll(each).length)")
    assert counts == [1, 1]


def test_the_culprit_leads_to_its_row(browser: Browser, reports: dict[str, Path]) -> None:
    browser.open(reports[LARGEST])
    browser.run("document.querySelector('.culprit a').click()")
    place, row = browser.run(
        "return [document.querySelector('.culprit code').textContent, document.querySelector(':target').textContent]"
    )
    assert place in row


def test_a_page_with_its_sections_folded_is_short(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.run("return document.documentElement.scrollHeight") < MAX_HEIGHT


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_theme_that_is_asked_for_beats_the_readers_scheme(
    browser: Browser, reports: dict[str, Path], scheme: Scheme
) -> None:
    browser.open(reports[LARGEST], scheme=scheme)
    shown = []
    for theme in ("light", "dark"):
        browser.run("document.documentElement.dataset.theme = arguments[0]", theme)
        shown.append(browser.run("return getComputedStyle(document.body).backgroundColor"))
    assert shown == ["rgb(255, 255, 255)", "rgb(15, 18, 22)"]


def test_bars_on_a_phone_have_letters_of_full_size(browser: Browser, reports: dict[str, Path]) -> None:
    browser.open(reports[LARGEST], width=PHONE)
    sizes = browser.run(
        "return [...document.querySelectorAll('.bars span')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 13
