"""Two pictures of a case lie over each other with a slider, come in turn, or are subtracted at a chosen gain."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image as Pillow

from chromium import Browser
from live_pages import DIFFERING, LEVELS, SIDE, pictures_page

PRESS = "[...document.querySelectorAll('.compare button')].find(e => e.textContent === arguments[0]).click()"
SET = (
    "const input = document.querySelectorAll('.compare input')[arguments[0]]; input.value = arguments[1];"
    "input.dispatchEvent(new Event('input'))"
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures_page(tmp_path_factory.mktemp("pictures") / "page")


@pytest.fixture
def compared(browser: Browser, pictures: Path) -> Browser:
    browser.open(pictures)
    return browser


def test_a_slider_moves_the_edge_between_two_variants(compared: Browser) -> None:
    names = compared.run("return [...document.querySelectorAll('.compare select')].map(e => e.selectedOptions[0].text)")
    assert names == ["baseline", "pr3987"]
    for at in (20, 80):
        compared.run(SET, 0, at)
        assert f"{100 - at}%" in compared.run("return document.querySelector('.stack .over').style.clipPath")
    assert "Left of the edge baseline" in compared.run("return document.querySelector('.compare .said').textContent")


def test_blink_shows_them_in_turn_and_less_often_than_three_times_a_second(compared: Browser) -> None:
    compared.run(PRESS, "Blink")
    shown = "return document.querySelector('.stack').dataset.shown"
    first = compared.run(shown)
    compared.wait_for(lambda: compared.run(shown) != first, limit_s=3)
    compared.wait_for(lambda: compared.run(shown) == first, limit_s=3)
    compared.run(PRESS, "Slider")
    assert compared.run("return document.querySelector('.stack .over').style.visibility") == ""


@pytest.mark.parametrize("gain", [1, 16, 64])
def test_the_difference_is_that_of_the_levels_times_the_gain(compared: Browser, gain: int) -> None:
    compared.run(PRESS, "Difference")
    compared.run(SET, 1, gain)
    script = """const canvas = document.querySelector('.stack canvas');
        return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"""
    data = compared.run(script)
    reds = [data[at] for at in range(0, len(data), 4)]
    assert reds == [min(255, LEVELS * gain)] * DIFFERING + [0] * (SIDE * SIDE - DIFFERING)
    assert {*data[1::4], *data[2::4]} == {0}
    said = compared.run("return document.querySelector('.compare .said').textContent")
    assert said.startswith(
        f"{DIFFERING} of {SIDE * SIDE:,} pixels differ, by {LEVELS} levels at most; shown times {gain}."
    )


def test_the_page_holds_each_picture_once_and_to_the_bit(browser: Browser, pictures: Path) -> None:
    browser.open(pictures, scripts=False)
    sources = browser.run("return [...document.querySelectorAll('img')].map(e => e.src)")
    assert len(sources) == len(set(sources)) == 3, "both, and their difference"
    shown = Pillow.open(io.BytesIO(base64.b64decode(sources[0].partition(",")[2]))).convert("RGB")
    assert shown.tobytes() == Pillow.open(pictures.with_name("a.png")).convert("RGB").tobytes()
