"""No two labels of a drawing lie on each other, and no tick shows digits that nobody measured."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.text
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from msgspec.structs import replace

from bagel_perf.records.results import Result
from bagel_perf.records.runs import Run, TimedRun
from bagel_perf.report.html import svg
from bagel_perf.report.html.changes import forest_section
from bagel_perf.report.html.history import history_section
from bagel_perf.report.html.samples import samples_section
from bagel_perf.report.html.source import Source, source_of
from bagel_perf.report.html.successive import successive_section
from gated_results import make_result
from scripted import ENVIRONMENT

MANY = ("adjust_positions", "route_experts", "timestep_schedule", "merge_kv", "attention_lengths", "branch_offsets")
LONG = "is a name of a variant, longer than any plot has room for"


def of_many(named: Callable[[int, str], str]) -> Result:
    """Candidates, each a little faster than the one before, under names of another kind."""
    built = [f"baseline+{each}" for each in MANY] + [f"sync_free-{each}" for each in MANY]
    changes = {name: {"e2e": -3.0 * index} for index, name in enumerate(built)}
    text = json.dumps(make_result(changes, num_pairs=6).to_json())
    for index, name in enumerate(built):
        text = text.replace(json.dumps(name), json.dumps(named(index, name)))
    return Result.from_json(json.loads(text))


NAMES: dict[str, Callable[[int, str], str]] = {
    "many": lambda index, name: f"variant_{index}",
    "long": lambda index, name: f"{index} {LONG}",
    "mixtures": lambda index, name: name,
}
SECTIONS = {
    "forest": lambda result: forest_section(result),
    "history": lambda result: history_section(history(result)),
    "successive": lambda result: successive_section(result),
    "samples": lambda result: samples_section(result),
}
Box = tuple[str, Any]


def history(result: Result) -> list[Source]:
    devices = ("NVIDIA H200",) * 8 + ("NVIDIA H100",) * 8 + ("NVIDIA H200",) * 8
    return [
        source_of(
            replace(
                result,
                created=f"2026-01-{day:02}T12:00:00+00:00",
                environment=replace(ENVIRONMENT, device_name=device),
            ),
            Path(),
        )
        for day, device in enumerate(devices, 1)
    ]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Those that were drawn."""
    found: list[Figure] = []
    save = Figure.savefig

    def kept(self: Figure, *args: Any, **options: Any) -> None:
        found.append(self)
        save(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", kept)
    return found


def boxes(figure: Figure) -> Iterator[Box]:
    """What is written, and where."""
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    for text in figure.findobj(matplotlib.text.Text):
        if text.get_text().strip() and is_drawn(text):
            yield text.get_text(), text.get_window_extent(canvas.get_renderer())


def is_drawn(text: Any) -> bool:
    """Ticks beyond the limits of an axis are none."""
    if text.axes is None:
        return bool(text.get_visible())
    for axis in (text.axes.xaxis, text.axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if text in (tick.label1, tick.label2):
                return bool(text.get_visible() and low <= tick.get_loc() <= high and axis.get_visible())
    return bool(text.get_visible())


def collisions(figure: Figure) -> list[tuple[str, str]]:
    return [
        (name, other)
        for (name, box), (other, another) in itertools.combinations(boxes(figure), 2)
        if overlap(box, another)
    ]


def overlap(a: Any, b: Any) -> bool:
    """Beyond a pixel."""
    return bool(min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1)


@pytest.mark.parametrize("section", ["forest", "history"])
@pytest.mark.parametrize("names", NAMES)
def test_no_label_lies_on_another(section: str, names: str, figures: list[Figure]) -> None:
    SECTIONS[section](of_many(NAMES[names]))
    assert figures
    for figure in figures:
        assert collisions(figure) == []


def test_labels_on_each_other_are_noticed(figures: list[Figure]) -> None:
    def paint(figure: Figure) -> None:
        figure.text(0.5, 0.5, "one")
        figure.text(0.5, 0.5, "another")

    svg.draw("x", 2, paint)
    assert collisions(figures[0]) == [("one", "another")]


def numbers(section: Any) -> list[str]:
    """Of what stands on the axes of its drawings."""
    text = "".join(block.svg for block in section.blocks if hasattr(block, "svg"))
    return re.findall(r"<text[^>]*>([-\u2212+]?[0-9][0-9.e\u2212+-]*)</text>", text)


def still(run: Run) -> Run:
    """As long as the first run of all."""
    if not isinstance(run, TimedRun):
        return run
    return replace(run, measurements=tuple(replace(each, latency_ms=57.2) for each in run.measurements))


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("num_pairs", [1, 6])
def test_ticks_of_runs_that_are_all_the_same_have_few_digits(section: str, num_pairs: int) -> None:
    same = make_result({"pr3987": {"e2e": 0.0}}, num_pairs=num_pairs, load=(1.0,) * 10, edit=still)
    found = numbers(SECTIONS[section](same))
    assert found
    for number in found:
        assert "e" not in number
        assert len(re.sub(r"[^0-9]", "", number).strip("0")) <= 4, number


def test_an_axis_of_all_but_equal_values_is_as_wide_as_they_can_be_told_apart() -> None:
    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.plot([57.2, 57.2000001], [1e-9, 2e-9])

    found = re.findall(r">([-\u2212+]?[0-9.e\u2212+-]+)</text>", svg.draw("x", 2, paint))
    assert not [each for each in found if "e" in each or each.startswith("+")]
    assert {"56", "58"} <= set(found)
