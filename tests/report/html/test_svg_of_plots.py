"""A drawing keeps only what draws, and takes its colours from the page."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from bagel_perf.report.html.content import Plot
from bagel_perf.report.html.samples import samples_section
from bagel_perf.report.html.svg import MAX_LABEL, SERIES, draw, is_plain, limits, rebuilt, short, style_of
from gated_results import make_result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="9pt">'

COMPONENTS = ("merge_kv", "route_experts", "adjust_positions")


def painted(figure: Figure) -> None:
    axes = figure.add_subplot()
    axes.plot([0, 1], [2, 3], color=SERIES[0], marker="o", label="a $b$ <c>")
    axes.legend()


def test_what_could_run_or_load_is_left_out() -> None:
    inside = (
        "<script>1</script><!-- note --><style>*{}</style><metadata/><image href='http://x'/><foreignObject/>"
        "<a xlink:href='javascript:1'><path/></a><use xlink:href='http://x#a' onclick='1'/><path d='M0' onload='1'/>"
        "<g clip-path='url(http://x)'/>"
    )
    assert rebuilt(f"{HEAD}{inside}</svg>", "k") == '<svg><use></use><path d="M 0"></path><g></g></svg>'


def test_references_stay_within_the_drawing() -> None:
    inside = "<defs><path id='m'/><path id='unused'/></defs><use xlink:href='#m'/><g clip-path='url(#m)'/>"
    expected = '<defs><path id="k-m"></path><path></path></defs><use href="#k-m"></use><g clip-path="url(#k-m)"></g>'
    assert rebuilt(f"{HEAD}{inside}</svg>", "k") == f"<svg>{expected}</svg>"


def test_an_unknown_colour_is_that_of_the_text() -> None:
    found = rebuilt(f"{HEAD}<path style='fill: #123456; stroke: {SERIES[1]}'/></svg>", "k")
    assert "fill: currentColor; stroke: var(--v1)" in found


def test_text_stays_text_and_is_no_formula() -> None:
    found = draw("k", 2.0, painted)
    assert ">a $b$ &lt;c&gt;</text>" in found
    assert "DejaVu" not in found


def test_a_drawing_is_the_same_each_time() -> None:
    assert draw("k", 2.0, painted) == draw("k", 2.0, painted)


def test_a_title_stands_in_the_group_that_it_names_as_text() -> None:
    found = rebuilt(f"{HEAD}<g id='waits'><path d='M0 0'/></g></svg>", "k", {"waits": "</title><script>"})
    assert found == '<svg><g><title>&lt;/title&gt;&lt;script&gt;</title><path d="M0 0"></path></g></svg>'


def test_long_names_are_cut() -> None:
    assert short("a" * 99) == "a" * (MAX_LABEL - 1) + "…"
    assert short("a\n b") == "a b"


def test_one_wild_interval_does_not_press_the_rest_together() -> None:
    low, high = limits([-10.0, -5.0], [-12.0, -8.0, -4000.0, 1.0])
    assert -30 < low < -12 and 1.0 < high < 3
    low, high = limits([-10.0, -5.0], [-12.0, -3.0])
    assert low < -12 and high > 0
    assert limits([0.0], [])[0] < 0 < limits([0.0], [])[1]


def test_only_numbers_fit_an_axis() -> None:
    assert is_plain(0.0, -3.5)
    assert not any(map(is_plain, (None, float("nan"), float("inf"), 1e300)))


def test_many_variants_are_told_apart_by_colour_and_marker() -> None:
    styles = [style_of(index) for index in range(66)]
    assert len({(each["color"], each["marker"]) for each in styles}) == 66
    assert [each["color"] for each in styles[:12]] == list(SERIES), "as long as colours last, each has its own"
    for before, after in itertools.pairwise(styles):
        assert before["color"] != after["color"] and before["marker"] != after["marker"]


def test_every_drawing_of_samples_has_its_variants_in_these_styles() -> None:
    names = ["pr3987", "sync_free", "captured", "fused", *(f"sync_free-{component}" for component in COMPONENTS)]
    result = make_result({name: {} for name in names}, num_pairs=2)
    drawing = next(block.svg for block in samples_section(result).blocks if isinstance(block, Plot))
    markers = re.findall(r'<use [^>]*stroke: var\(--(v\d+)\)[^>]*href="#([^"]+)"', drawing)
    assert len(set(markers)) == len(names) + 1
