"""No two things share a colour, and each is told from its background in light and in dark."""

from __future__ import annotations

import re

import pytest

from bagel_perf.records.sites import KINDS
from bagel_perf.records.traces import CAUSES
from bagel_perf.report.html.colours import (
    BASE_COLOURS,
    STAND_INS,
    VARIANT_COLOURS,
    cause_name,
    kind_name,
    part_name,
    properties,
    root_css,
    variant_name,
)

FILLED = {"better": "better-fill", "worse": "worse-fill", "doubt": "doubt-fill"}


def contrast(a: str, b: str) -> float:
    """As WCAG defines it."""
    low, high = sorted(map(_luminance, (a, b)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", [0, 1])
def test_no_two_things_share_a_colour(scheme: int) -> None:
    colours = [pair[scheme] for _, pair in properties()]
    assert len(set(colours)) == len(colours) == len(STAND_INS)
    assert not set(colours) & {pair[scheme] for pair in BASE_COLOURS.values()}


@pytest.mark.parametrize("scheme", [0, 1])
@pytest.mark.parametrize("ground", ["paper", "raised"])
def test_marks_and_names_stand_out_from_the_page_and_its_cards(scheme: int, ground: str) -> None:
    behind = BASE_COLOURS[ground][scheme]
    assert [name for name, pair in properties() if contrast(pair[scheme], behind) < 3] == []
    assert [pair for pair in VARIANT_COLOURS if contrast(pair[scheme], behind) < 4.5] == []
    words = ("ink", "muted", "link", "better", "worse", "doubt")
    assert [word for word in words if contrast(BASE_COLOURS[word][scheme], behind) < 4.5] == []


@pytest.mark.parametrize("scheme", [0, 1])
def test_words_on_their_fill_can_be_read(scheme: int) -> None:
    found = {word: contrast(BASE_COLOURS[word][scheme], BASE_COLOURS[fill][scheme]) for word, fill in FILLED.items()}
    assert [word for word, ratio in found.items() if ratio < 4.5] == []


def test_every_kind_and_cause_has_a_name_and_others_that_of_unknown() -> None:
    names = [*map(kind_name, KINDS), *map(cause_name, CAUSES)]
    assert len(set(names)) == len(KINDS) + len(CAUSES)
    assert kind_name("of a later version") == "k-unknown" and cause_name("of a later version") == "c-unknown"
    assert variant_name(12) == variant_name(1) and part_name(6) == part_name(0)


def test_a_theme_that_is_asked_for_beats_the_readers_scheme() -> None:
    css = root_css()
    assert re.search(r"\(prefers-color-scheme: dark\) \{ :root:not\(\[data-theme=light\]\)", css)
    assert ":root[data-theme=dark] { color-scheme: dark;" in css
    assert css.count("--v0: #646b75;") == 2 and css.count("--v0: #98a1ac;") == 2, "paper is light"
