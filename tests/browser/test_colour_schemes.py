"""A report follows the reader's scheme, and its text can be read in both."""

from __future__ import annotations

from pathlib import Path

import pytest

from chromium import DESK, PHONE, Browser, Scheme
from contrast_script import LOW_CONTRAST, PAGE_LUMINANCE

MIN_RATIO = 4.5


def test_the_background_follows_the_scheme(browser: Browser, page: Path) -> None:
    browser.open(page, scheme="dark")
    assert browser.run(PAGE_LUMINANCE) < 0.05
    browser.show(scheme="light")
    assert browser.run(PAGE_LUMINANCE) > 0.8


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_page_and_plots_has_contrast(browser: Browser, page: Path, scheme: Scheme, width: int) -> None:
    browser.open(page, scheme=scheme, width=width)
    browser.open_details()
    assert browser.run(LOW_CONTRAST, MIN_RATIO) == []


@pytest.mark.parametrize(
    "markup",
    [
        '<p style="color:#888">faint</p>',
        '<p style="opacity:.4">faint</p>',
        '<div style="background:#333"><p>black</p></div>',
        '<svg width=90 height=40><rect width=90 height=40 fill="#333"/><text x=9 y=20>black</text></svg>',
    ],
)
def test_text_without_contrast_is_seen(browser: Browser, tmp_path: Path, markup: str) -> None:
    page = tmp_path / "faint.html"
    page.write_text(f"<!doctype html><title>faint</title><p>good</p>{markup}", encoding="utf-8")
    browser.open(page)
    assert [text for _, text in browser.run(LOW_CONTRAST, MIN_RATIO)] in (["faint"], ["black"])
