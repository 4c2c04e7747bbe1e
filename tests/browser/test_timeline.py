"""A timeline is zoomed, moved and asked by pointer, fingers and keys, and leads to the lines of its waits and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bagel_perf.records.traces import Lanes
from bagel_perf.report.html.content import Page, Plot, Section
from bagel_perf.report.html.page import page_html
from bagel_perf.report.html.timeline_data import timeline_data
from bagel_perf.report.html.timeline_plot import Strip
from chromium import DESK, PHONE, Browser
from live_pages import timelines_page

LEFT, RIGHT, HOME, ENTER = "\ue012", "\ue014", "\ue011", "\ue007"
BOX = "const box = document.querySelector('.lanes').getBoundingClientRect();"
RANGE = "return document.querySelector('.range').textContent"
# Of the pixels of a lane, by its number from the top of a strip, and of the strip: "1" for those of a bar.
ROW = """const canvas = document.querySelector('.lanes'), context = canvas.getContext('2d');
const data = context.getImageData(0, 20 + 17 * arguments[0] + 12 + 96 * (arguments[1] || 0), canvas.width, 1).data;
const line = getComputedStyle(document.documentElement).getPropertyValue('--line').trim();
const grid = [1, 3, 5].map(at => parseInt(line.slice(at, at + 2), 16));
let found = '';
for (let x = 46; x < canvas.width; x++) {
    const apart = Math.max(...grid.map((value, part) => Math.abs(value - data[4 * x + part])));
    found += data[4 * x + 3] > 100 && apart > 40 ? '1' : '0';
}
return found;"""
COLOUR = """const canvas = document.querySelector('.lanes'), context = canvas.getContext('2d');
return [...context.getImageData(arguments[0], 20 + 12, 1, 1).data].join();"""


@pytest.fixture(scope="module")
def timelines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return timelines_page(tmp_path_factory.mktemp("timelines") / "page")


@pytest.fixture
def live(browser: Browser, timelines: Path) -> Browser:
    return opened(browser, timelines)


def opened(browser: Browser, page: Path, width: int = DESK) -> Browser:
    browser.open(page, width=width)
    browser.run("document.querySelector('.lanes').scrollIntoView({block: 'center'})")
    return browser


def window(browser: Browser) -> tuple[float, float, float]:
    """Begin and end of what is shown, and of all, in ms."""
    browser.run("return new Promise(requestAnimationFrame)")
    begin, _, _, end, _, _, whole, _ = browser.run(RANGE).split()
    return float(begin), float(end), float(whole)


def mouse(browser: Browser, kind: str, x: float, y: float, **more: Any) -> None:
    """At a place of the first timeline's canvas."""
    left, top = browser.run(f"{BOX} return [box.left, box.top]")
    browser.cdp("Input.dispatchMouseEvent", type=kind, x=left + x, y=top + y, **more)


def drag(browser: Browser, begin: float, end: float, y: float = 60) -> None:
    mouse(browser, "mousePressed", begin, y, button="left", clickCount=1, buttons=1)
    mouse(browser, "mouseMoved", (begin + end) / 2, y, button="left", buttons=1)
    mouse(browser, "mouseMoved", end, y, button="left", buttons=1)
    mouse(browser, "mouseReleased", end, y, button="left", clickCount=1)


def place_of_wait(browser: Browser) -> tuple[float, float]:
    """Where in the first lane of waits a bar is drawn."""
    return 46 + browser.run(ROW, 1).index("1") + 0.5, 20 + 17 + 6


def test_the_wheel_zooms_only_with_ctrl_and_about_the_pointer(live: Browser) -> None:
    _, end, whole = window(live)
    assert end == whole
    mouse(live, "mouseWheel", 500, 60, deltaX=0, deltaY=-120)
    assert window(live)[1] == whole, "the page scrolls"
    live.run("document.querySelector('.lanes').scrollIntoView({block: 'center'})")
    width = live.run(f"{BOX} return box.width")
    x = 44 + (width - 45) / 4
    mouse(live, "mouseWheel", x, 60, deltaX=0, deltaY=-200, modifiers=2)
    begin, end, whole = window(live)
    assert end - begin < 0.9 * whole
    assert begin + (end - begin) / 4 == pytest.approx(whole / 4, abs=0.02 * whole), "what is under it stays there"


def test_buttons_zoom_and_move_and_show_all(live: Browser) -> None:
    click = "[...document.querySelectorAll('.timeline .bar button')].find(e => e.textContent === arguments[0]).click()"
    *_, whole = window(live)
    live.run(click, "+")
    begin, end, _ = window(live)
    assert end - begin == pytest.approx(whole / 2, rel=0.01)
    live.run(click, "\u2190")
    assert window(live)[0] < begin
    live.run(click, "\u2212")
    live.run(click, "Show all")
    assert window(live)[:2] == (0, whole)


def test_dragging_moves_and_the_minimap_shows_where(live: Browser) -> None:
    live.run("document.querySelector('.timeline .bar button').click()")
    begin, end, whole = window(live)
    drag(live, 600, 500)
    moved = window(live)
    width = live.run(f"{BOX} return box.width") - 45
    assert moved[0] - begin == pytest.approx(100 / width * (end - begin), rel=0.05)
    left, wide = live.run(
        "const box = document.querySelector('.map-box').getBoundingClientRect(), at = document.querySelector('.window')"
        ".getBoundingClientRect(); return [(at.left - box.left) / box.width, at.width / box.width]"
    )
    assert left == pytest.approx(moved[0] / whole, abs=0.01) and wide == pytest.approx(0.5, abs=0.01)


def test_the_window_of_the_minimap_can_be_dragged(live: Browser) -> None:
    live.run("document.querySelector('.timeline .bar button').click()")
    *_, whole = window(live)
    top = live.run(f"{BOX} return document.querySelector('.map-box').getBoundingClientRect().top - box.top") + 15
    width = live.run(f"{BOX} return box.width") - 45
    drag(live, 44 + width / 2, 44 + width / 4, top)
    assert window(live)[0] == pytest.approx(0, abs=0.01 * whole)


def test_keys_zoom_move_and_come_back_and_say_what_is_seen(live: Browser) -> None:
    live.run("document.querySelector('.lanes').focus()")
    *_, whole = window(live)
    live.press("+")
    begin, end, _ = window(live)
    assert end - begin == pytest.approx(whole / 2, rel=0.01)
    live.press(RIGHT)
    assert window(live)[0] > begin
    live.press(LEFT)
    assert window(live)[0] == pytest.approx(begin, abs=0.2)
    assert "bars of waits" in live.run("return document.querySelector('.timeline > [role=status]').textContent")
    live.press(HOME)
    assert window(live)[:2] == (0, whole)


def test_two_fingers_zoom(live: Browser) -> None:
    left, top = live.run(f"{BOX} return [box.left, box.top]")

    def touch(kind: str, *places: float) -> None:
        points = [{"x": left + x, "y": top + 60, "id": number} for number, x in enumerate(places)]
        live.cdp("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    *_, whole = window(live)
    touch("touchStart", 400, 500)
    touch("touchMove", 350, 550)
    touch("touchMove", 300, 600)
    touch("touchEnd")
    begin, end, _ = window(live)
    assert end - begin == pytest.approx(whole / 3, rel=0.1)


def test_the_pointer_shows_length_line_and_cause(live: Browser) -> None:
    mouse(live, "mouseMoved", *place_of_wait(live))
    tip = live.run("const tip = document.querySelector('.tip'); return tip.hidden ? '' : tip.innerText")
    assert "baseline. Wait: " in tip and " ms, from " in tip and "kernels_baseline/" in tip and "host blocked" in tip
    mouse(live, "mouseMoved", 300, 20 + 3 * 17 + 10)
    tip = live.run("const tip = document.querySelector('.tip'); return tip.hidden ? '' : tip.innerText")
    assert "GPU idle: " in tip


def click_a_wait(browser: Browser) -> str:
    """The id of the row to which it leads."""
    x, y = place_of_wait(browser)
    mouse(browser, "mousePressed", x, y, button="left", clickCount=1)
    mouse(browser, "mouseReleased", x, y, button="left", clickCount=1)
    return str(browser.run("return document.activeElement.id"))


def test_a_click_on_a_wait_leads_to_its_row_and_a_button_back(live: Browser) -> None:
    live.run("document.querySelectorAll('main details').forEach(each => { each.open = false; })")
    live.run("document.querySelector('.lanes').scrollIntoView({block: 'center'})")
    row = click_a_wait(live)
    assert row.startswith("wait-")
    seen = (
        "const e = document.getElementById(arguments[0]), box = e.getBoundingClientRect(); return e.checkVisibility()"
    )
    assert live.run(f"{seen} && box.top >= 0 && box.bottom <= innerHeight && e.classList.contains('found')", row)
    live.run("document.querySelector('tr.found .to-timeline').click()")
    live.wait_for(
        lambda: bool(
            live.run("return document.activeElement.matches('.lanes') && document.activeElement.checkVisibility()")
        )
    )
    assert "kernels_baseline/" in live.run(
        "return document.activeElement.closest('.timeline').querySelector(':scope > [role=status]').textContent"
    )


def test_waits_are_reached_by_keys_alone(live: Browser) -> None:
    live.run("document.querySelector('.lanes').focus({preventScroll: true})")
    live.press("n")
    first = live.run("return document.querySelector('.timeline > [role=status]').textContent")
    live.press("n")
    second = live.run("return document.querySelector('.timeline > [role=status]').textContent")
    assert first.startswith("baseline. Wait: ") and first != second
    live.press("p")
    assert live.run("return document.querySelector('.timeline > [role=status]').textContent") == first
    live.press(ENTER)
    assert live.run("return document.activeElement.matches('tr.found')")


def test_zooming_shows_what_was_too_narrow(live: Browser) -> None:
    def widest() -> int:
        return max(map(len, live.run(ROW, 1).split("0")))

    before = widest()
    live.run("document.querySelector('.lanes').focus()")
    live.press("n")
    for _ in range(10):
        live.press("+")
    begin, end, whole = window(live)
    assert end - begin == pytest.approx(whole / 1024, rel=0.05)
    assert widest() > 2 * before, "the chosen wait stays in sight"


def test_all_variants_share_an_axis_and_a_lane_without_a_bar_says_so(live: Browser, timelines: Path) -> None:
    ends = [live.run(ROW, 3, strip).rindex("1") for strip in range(3)]
    width = live.run("return document.querySelector('.lanes').width")
    assert len({*ends}) == 3 and max(ends) + 46 > 0.98 * width, "each is as long as it took"
    assert "no wait" in timelines.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_a_timeline_is_as_wide_as_the_page_and_no_wider(browser: Browser, timelines: Path, width: int) -> None:
    opened(browser, timelines, width)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run(f"{BOX} return box.width") > 0.7 * min(width, 1000) - 60


def test_the_theme_is_that_of_the_bars(live: Browser) -> None:
    x = 46 + live.run(ROW, 0).index("111") + 1
    light = live.run(COLOUR, x)
    live.show(scheme="dark")
    window(live)
    assert live.run(COLOUR, x) != light


SIZES = "const c = document.querySelector('.lanes'); return [c.width, c.clientWidth]"


def test_on_a_screen_of_other_pixels_it_is_drawn_in_those(live: Browser) -> None:
    width = live.run(SIZES)[1]
    for ratio in (2, 3, 1):
        live.cdp("Emulation.setDeviceMetricsOverride", width=DESK, height=900, deviceScaleFactor=ratio, mobile=False)
        live.run("document.querySelector('.lanes').focus()")
        live.press("+")
        window(live)
        assert live.run(SIZES) == [ratio * width, width]


def test_beyond_its_ends_there_is_nothing_to_move_or_zoom_to(live: Browser) -> None:
    _, _, whole = window(live)
    live.run("document.querySelector('.lanes').focus()")
    for key in (LEFT, RIGHT, "-", HOME):
        for _ in range(3):
            live.press(key)
        assert window(live) == (0, whole, whole)
    for _ in range(40):
        live.press("+")
    begin, end, _ = window(live)
    assert 0 <= begin < end <= whole and end - begin == pytest.approx(0.001, rel=0.1)
    for _ in range(60):
        live.press(RIGHT)
    assert window(live)[1] <= whole


FIRST_ALPHA = """const context = document.querySelector('.lanes').getContext('2d');
return context.getImageData(44, 20 + 17 * arguments[0] + 12, 1, 1).data[3];"""


def test_a_call_that_took_no_time_is_drawn(browser: Browser, tmp_path: Path) -> None:
    at = (10.0, 10.0)
    lanes = Lanes(region="step", start_ms=10, end_ms=10, cpu=((*at, ""),), syncs=((*at, "nonzero"),), gpu=(), idle=())
    plot = Plot(svg="<svg></svg>", label="t", caption="t", lanes=timeline_data([Strip(variant="v", lanes=lanes)], "ms"))
    page = Page(title="t", subtitle="", sections=(Section(anchor="a", title="A", blocks=(plot,)),), data_json="{}")
    path = tmp_path / "empty.html"
    path.write_text(page_html(page), encoding="utf-8")
    opened(browser, path)
    assert window(browser) == (0, 0.0001, 0.0001)
    assert browser.complaints() == []
    for lane in (0, 1):
        assert browser.run(FIRST_ALPHA, lane) > 100, "the bar is seen"
