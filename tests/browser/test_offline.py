"""A report is one file that asks for nothing and complains about nothing."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from chromium import Browser, Scheme
from report_pages import HISTORY


def test_a_page_asks_for_itself_alone(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.requests() == [page.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_console_stays_empty(browser: Browser, page: Path, scheme: Scheme) -> None:
    browser.open(page, scheme=scheme)
    browser.open_details()
    assert browser.complaints() == []


def test_a_page_forbids_what_it_does_not_need(browser: Browser, page: Path) -> None:
    browser.open(page)
    policy = browser.run("return document.querySelector('meta[http-equiv=Content-Security-Policy]').content")
    assert "default-src 'none'" in policy


def test_the_trace_that_a_page_carries_can_be_downloaded(
    browser: Browser, reports: dict[str, Path], tmp_path: Path
) -> None:
    browser.cdp("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path), eventsEnabled=True)
    browser.open(reports[HISTORY])
    browser.run("document.querySelector('a[download]').click()")
    path = tmp_path / "bagel-perf-timelines.trace.json.gz"
    browser.wait_for(path.exists)
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    assert {event["ph"] for event in events} == {"M", "X"} and len(events) > 100
    assert browser.complaints() == []


@pytest.mark.parametrize(
    "markup",
    [
        '<img src="http://example.invalid/x.png">',
        "<script>console.warn(1)</script>",
        '<link rel=stylesheet href="x.css">',
    ],
)
def test_a_request_or_a_complaint_is_seen(browser: Browser, tmp_path: Path, markup: str) -> None:
    page = tmp_path / "bad.html"
    page.write_text(f"<!doctype html><title>bad</title>{markup}", encoding="utf-8")
    browser.open(page)
    assert browser.requests() != [page.as_uri()] or browser.complaints() != []
