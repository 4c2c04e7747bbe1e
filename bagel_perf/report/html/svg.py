"""Drawings of matplotlib as SVG that may stand in a page: rebuilt from what is allowed, with the page's colours.

Colours are stand-ins while matplotlib draws; each becomes a CSS variable, which light, dark and print set. Paths are
written in few characters, so that a page of thousands of bars stays small.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from bagel_perf.records.errors import clean_text
from bagel_perf.report.html.colours import PART_COLOURS, STAND_INS, VARIANT_COLOURS, part_name, stand_in, variant_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DIGITS = 2
"""After the point, of the 72 points that an inch of a drawing has: less than a tenth of a pixel of a screen."""


def compact(path: str) -> str:
    """The same path, rounded, with lines along an axis as ``H`` and ``V``; one that has curves is only rounded."""
    tokens = re.findall(r"[A-Za-z]|[-+]?[0-9.]+(?:e[-+]?[0-9]+)?", path)
    if not re.fullmatch("([ML]00|z)*", "".join(token if token.isalpha() else "0" for token in tokens)):
        return " ".join(token if token.isalpha() else _number(token) for token in tokens)
    return "".join(_lines(iter(tokens)))


def _lines(tokens: Iterator[str]) -> Iterator[str]:
    begin = at = ("", "")
    closing = False
    for command in tokens:
        if command == "z":
            closing = False
            yield "z"
            continue
        to = _number(next(tokens)), _number(next(tokens))
        if closing:
            yield _line(at, begin)
            closing = False
        if command == "M":
            begin = at = to
            yield f"M{to[0]} {to[1]}"
        elif to == at:
            continue
        elif to == begin:
            closing = True  # z draws this line, if it follows
        else:
            yield _line(at, to)
            at = to
    if closing:
        yield _line(at, begin)


def _line(at: tuple[str, str], to: tuple[str, str]) -> str:
    if at[1] == to[1]:
        return f"H{to[0]}"
    return f"V{to[1]}" if at[0] == to[0] else f"L{to[0]} {to[1]}"


def _number(text: str) -> str:
    """Rounded, without zeros that say nothing."""
    rounded = f"{float(text):.{DIGITS}f}".rstrip("0").rstrip(".")
    return "0" if rounded == "-0" else rounded


INK, MUTED, LINE, PAPER, SHADE = "#000001", "#000002", "#000003", "#000004", "#000005"
BETTER, WORSE = "#000006", "#000007"
SERIES = tuple(stand_in(variant_name(index)) for index in range(len(VARIANT_COLOURS)))
PARTS = tuple(stand_in(part_name(index)) for index in range(len(PART_COLOURS)))
MARKERS = ("o", "s", "^", "D", "v", "P")
VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", PAPER: "paper", SHADE: "shade", BETTER: "better", WORSE: "worse"}
VARIABLES |= {colour: name for name, colour in STAND_INS.items()}

WIDTH_IN = 9.6
MAX_LABEL = 34
TAGS = frozenset({"svg", "g", "path", "text", "tspan", "use", "defs", "clipPath", "rect"})
ATTRIBUTES = frozenset({"d", "style", "transform", "x", "y", "width", "height", "viewBox", "clip-path", "href", "id"})
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "bagel-perf",
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-12, 12),
    "font.size": 9.0,
    "axes.labelsize": 9.0,
    "axes.titlesize": 9.0,
    "legend.fontsize": 8.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": LINE,
    "figure.facecolor": "none",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
}


def draw(key: str, height_in: float, paint: Callable[[Figure], None], titles: Mapping[str, str] | None = None) -> str:
    """What ``paint`` puts on an empty figure, as SVG whose ids begin with ``key``.

    ``titles`` are by the gid of an artist what a browser shows while the pointer is on it.
    """
    import matplotlib
    from matplotlib.figure import Figure as NewFigure
    from matplotlib.text import Text as Label

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that its own font lacks; the browser has them
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        figure = NewFigure(figsize=(WIDTH_IN, height_in), layout="constrained")
        paint(figure)
        for axes in figure.axes:
            _widen(axes)
        for label in figure.findobj(Label):
            label.set_text(clean_text(label.get_text()))  # XML has no place for what is no character
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return rebuilt(buffer.getvalue(), key, titles)


LEAST_SHARE = 1e-3
"""Of its values, that an axis has to span, so that no tick needs digits which nobody measured."""


def _widen(axes: Axes) -> None:
    """Gives an axis whose values are all but the same room on both sides; limits that a drawing set are kept."""
    for is_free, limits_of, set_limits in (
        (axes.get_autoscalex_on(), axes.get_xlim, axes.set_xlim),
        (axes.get_autoscaley_on(), axes.get_ylim, axes.set_ylim),
    ):
        low, high = limits_of()
        middle = abs(low + high) / 2
        if is_free and abs(high - low) < LEAST_SHARE * middle:
            set_limits(low - 0.05 * middle, high + 0.05 * middle)


def rebuilt(source: str, key: str, titles: Mapping[str, str] | None = None) -> str:
    """An SVG of which only drawing is left: no script, no link, no font, no style sheet, no comment."""
    root = _allowed(ElementTree.fromstring(source))
    assert root is not None
    by_id = {element.attrib.get("id"): element for element in root.iter()}
    for name, text in (titles or {}).items():
        title = ElementTree.Element("title")
        title.text = clean_text(text)
        by_id[name].insert(0, title)
    used = {name for element in root.iter() for name in _references(element)}
    for element in root.iter():
        _rename(element, key, used)
    root.attrib.pop("width", None)
    root.attrib.pop("height", None)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _allowed(element: ElementTree.Element) -> ElementTree.Element | None:
    tag = _local(element.tag)
    if tag not in TAGS:
        return None
    attributes = {_local(name): value for name, value in element.attrib.items()}
    copy = ElementTree.Element(tag, {name: value for name, value in attributes.items() if name in ATTRIBUTES})
    copy.text = element.text if tag in ("text", "tspan") else None
    copy.extend(child for child in map(_allowed, element) if child is not None)
    return copy


def _local(name: object) -> str:
    """A name without its namespace; "" for a comment, which has none."""
    return name.rpartition("}")[2] if isinstance(name, str) else ""


def _references(element: ElementTree.Element) -> Iterable[str]:
    yield element.attrib.get("href", "").removeprefix("#")
    yield element.attrib.get("clip-path", "").removeprefix("url(#").removesuffix(")")


def _rename(element: ElementTree.Element, key: str, used: set[str]) -> None:
    """Ids that are used get the key, others go; what is no reference into the drawing goes, too."""
    attributes = element.attrib
    if (name := attributes.pop("id", None)) is not None and name in used:
        attributes["id"] = f"{key}-{name}"
    if (target := attributes.pop("href", "")).startswith("#"):
        attributes["href"] = f"#{key}-{target[1:]}"
    if match := re.fullmatch(r"url\(#([\w-]+)\)", attributes.pop("clip-path", "")):
        attributes["clip-path"] = f"url(#{key}-{match[1]})"
    if "d" in attributes:
        attributes["d"] = compact(attributes["d"])
    if "style" in attributes:
        attributes["style"] = _themed(attributes["style"])


def _themed(style: str) -> str:
    """Fonts and colours of the page; versions of matplotlib write fonts in one property or in two."""
    style = re.sub(r"font-family: [^;]*;? *", "", style)
    style = re.sub(r"(font: [^;]*?[0-9.]+px)[^;]*", r"\1 system-ui, sans-serif", style)
    return re.sub(r"#[0-9a-f]{6}", lambda match: _variable(match[0]), style)


def _variable(colour: str) -> str:
    return f"var(--{VARIABLES[colour]})" if colour in VARIABLES else "currentColor"


def short(text: str) -> str:
    """A name as a plot has room for it, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_LABEL else line[: MAX_LABEL - 1] + "…"


def style_of(index: int) -> dict[str, Any]:
    """Colour and marker of the variant with this number, the same in every drawing; 66 differ."""
    return {"color": stand_in(variant_name(index)), "marker": MARKERS[index % len(MARKERS)]}


LEAST_SPAN = 1.0
"""Of an axis of changes in percent, or of savings in ms; both are told with one digit after the point."""


def limits(points: Sequence[float], ends: Sequence[float]) -> tuple[float, float]:
    """An axis that holds 0, all points, and the ends of intervals as far as they do not press the rest together."""
    low, high = min(0.0, *points), max(0.0, *points)
    room = 1.5 * max(high - low, LEAST_SPAN)
    low, high = max(min((low, *ends)), low - room), min(max((high, *ends)), high + room)
    margin = 0.05 * (high - low) if high - low >= LEAST_SPAN else (LEAST_SPAN - (high - low)) / 2
    return low - margin, high + margin


def is_plain(*values: float | None) -> bool:
    """Whether all are numbers that an axis can hold."""
    return all(value is not None and math.isfinite(value) and abs(value) < 1e12 for value in values)
