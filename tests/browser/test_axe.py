"""The audit of axe-core finds nothing serious."""

from __future__ import annotations

from pathlib import Path

import pytest

from chromium import AXE, DESK, PHONE, Browser, Scheme
from live_pages import pictures_page

AUDIT = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ['violations']}).then(
    found => done(found.violations.map(v => [v.impact, v.id, v.nodes.slice(0, 3).map(n => n.html.slice(0, 120))])),
    problem => done([['critical', String(problem), []]]));
"""
GRAVE = ("serious", "critical")


def audit(browser: Browser) -> list[list[object]]:
    browser.run(AXE.read_text(encoding="utf-8"))
    found = browser.driver.execute_async_script(AUDIT)
    return [violation for violation in found if violation[0] in GRAVE]


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, page: Path, scheme: Scheme, width: int) -> None:
    browser.open(page, scheme=scheme, width=width)
    browser.open_details()
    assert audit(browser) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_finds_nothing_serious_in_pictures_that_are_compared(
    browser: Browser, tmp_path: Path, scheme: Scheme
) -> None:
    browser.open(pictures_page(tmp_path / "page"), scheme=scheme)
    for number in range(3):
        browser.run("document.querySelectorAll('.compare button')[arguments[0]].click()", number)
        assert audit(browser) == []


def test_axe_finds_what_is_wrong(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "wrong.html"
    page.write_text("<!doctype html><p style='color:#999'>faint</p><img src='data:,'>", encoding="utf-8")
    browser.open(page)
    assert {violation[1] for violation in audit(browser)} == {
        "color-contrast",
        "document-title",
        "html-has-lang",
        "image-alt",
    }
