"""One Chromium for all browser tests, and the pages that they look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chromium import Browser, missing
from report_pages import HOSTILE, PAGES, report_of

HERE = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    absent = missing()
    if not absent:
        return
    skip = pytest.mark.skip(reason=f"needs {', '.join(absent)}; make test-browser installs what is missing")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    return {name: report_of(name, folder) for name in PAGES}


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest, reports: dict[str, Path]) -> Path:
    """Each page in turn."""
    return reports[request.param]


@pytest.fixture
def hostile(reports: dict[str, Path]) -> Path:
    return reports[HOSTILE]
