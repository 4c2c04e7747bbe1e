"""The colours of all pages: one for each variant, kind of wait, cause of idle time, lane and part; none has two uses.

Each is a CSS custom property, set for light, dark and paper by ``root_css``: ``--v0`` to ``--v11`` of variants, which
may colour text as well, ``--k-scalar_read`` of kinds, ``--c-host_sync`` of causes, ``--l-gpu`` of lanes, ``--p0`` of
parts such as classes of kernels. Drawings of matplotlib use the stand-ins, which ``svg`` turns into the properties.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bagel_perf.records.sites import KINDS
from bagel_perf.records.traces import CAUSES

Pair = tuple[str, str]
"""In light, which paper has too, and in dark."""

BASE_COLOURS: Mapping[str, Pair] = {
    "paper": ("#ffffff", "#0f1216"),
    "ink": ("#15181d", "#e8ebef"),
    "muted": ("#59626e", "#9da7b3"),
    "line": ("#d9dee4", "#333a44"),
    "shade": ("#c9d1d9", "#39424e"),
    "raised": ("#f4f6f8", "#181c22"),
    "code": ("#eaeef2", "#232a33"),
    "link": ("#0550ae", "#79b8ff"),
    "better": ("#0a6b35", "#6fd39a"),
    "better-fill": ("#e3f4ea", "#12301f"),
    "worse": ("#a61e16", "#ff8a80"),
    "worse-fill": ("#fdeae8", "#3a1614"),
    "doubt": ("#7a4a00", "#e9b949"),
    "doubt-fill": ("#fdf3dc", "#33260b"),
}
"""Of text, lines and fills, which stand for no thing."""
PAPER: Mapping[str, str] = {"ink": "#000000", "muted": "#444444", "line": "#bbbbbb", "link": "#000000"}
"""What is darker on paper than on a light screen."""
VARIANT_COLOURS: tuple[Pair, ...] = (
    ("#646b75", "#98a1ac"),
    ("#b35309", "#ee9d45"),
    ("#1d63b8", "#6cb2f7"),
    ("#0b7452", "#3fc79c"),
    ("#8a2fb0", "#d59bff"),
    ("#b3153f", "#ff6f8b"),
    ("#5f5a00", "#d8cf4a"),
    ("#0e7490", "#5ad1e6"),
    ("#373450", "#7a8e24"),
    ("#2f1da5", "#8a70fc"),
    ("#76151a", "#db640e"),
    ("#670470", "#edc1c5"),
)
"""By position; the first, the reference, is grey. Each has a contrast of 4.5 with the page and its cards."""
KIND_COLOURS: Mapping[str, Pair] = dict(
    zip(
        KINDS,
        (
            ("#2a8eef", "#2d95d3"),
            ("#a3856e", "#8c685d"),
            ("#ed4a4c", "#cc2631"),
            ("#8b8806", "#76c00c"),
            ("#4e4092", "#3266e4"),
            ("#a779ab", "#8b77b1"),
            ("#24922d", "#24f394"),
            ("#77436b", "#9842c4"),
            ("#0a3b0d", "#477647"),
            ("#a74e7f", "#ce61d9"),
            ("#2b5042", "#399585"),
            ("#459579", "#9de0b5"),
        ),
        strict=True,
    )
)
"""By kind of host sync."""
CAUSE_COLOURS: Mapping[str, Pair] = dict(
    zip(
        CAUSES,
        (
            ("#a90c74", "#e64887"),
            ("#b144bb", "#fc78e1"),
            ("#483419", "#adac68"),
            ("#8a6d2c", "#fdce95"),
            ("#804728", "#ae834c"),
            ("#5c11a0", "#c37e93"),
            ("#575ce3", "#b4c0ff"),
            ("#7e5db1", "#e59b95"),
            ("#408eae", "#17a92a"),
            ("#13317a", "#92de40"),
            ("#12557c", "#148922"),
            ("#423fc4", "#9b90ea"),
        ),
        strict=True,
    )
)
"""By cause of idle time."""
LANE_COLOURS: Mapping[str, Pair] = {"cpu": ("#6f7ad0", "#7153dd"), "gpu": ("#106118", "#73a472")}
PART_COLOURS: tuple[Pair, ...] = (
    ("#db640e", "#ed4a4c"),
    ("#dd4ba1", "#be2b86"),
    ("#8a70fc", "#207392"),
    ("#c45e6e", "#b65577"),
    ("#630c43", "#f897c9"),
    ("#44206f", "#c494c8"),
)
"""Of classes of kernels, parts of a floor, and the like."""


def variant_name(index: int) -> str:
    """The property of the variant at a position: ``v0`` of the reference alone; those of others repeat after eleven."""
    return f"v{1 + (index - 1) % (len(VARIANT_COLOURS) - 1) if index else 0}"


def kind_name(kind: str) -> str:
    """The property of a kind of host sync; one of another version has that of ``unknown``."""
    return f"k-{kind if kind in KIND_COLOURS else 'unknown'}"


def cause_name(cause: str) -> str:
    """The property of a cause of idle time; one of another version has that of ``unknown``."""
    return f"c-{cause if cause in CAUSE_COLOURS else 'unknown'}"


def part_name(index: int) -> str:
    """The property of a part at a position; after six they repeat."""
    return f"p{index % len(PART_COLOURS)}"


def properties() -> Iterator[tuple[str, Pair]]:
    """All names with their colours."""
    yield from ((variant_name(index), pair) for index, pair in enumerate(VARIANT_COLOURS))
    yield from ((kind_name(kind), pair) for kind, pair in KIND_COLOURS.items())
    yield from ((cause_name(cause), pair) for cause, pair in CAUSE_COLOURS.items())
    yield from ((f"l-{lane}", pair) for lane, pair in LANE_COLOURS.items())
    yield from ((part_name(index), pair) for index, pair in enumerate(PART_COLOURS))


STAND_INS: Mapping[str, str] = {name: f"#0001{number:02x}" for number, (name, _) in enumerate(properties())}
"""By name what matplotlib draws with."""


def stand_in(name: str) -> str:
    """What matplotlib draws with where the page has the property of this name."""
    return STAND_INS[name]


def root_css() -> str:
    """The rules that set all colours: by the reader's scheme, by ``data-theme`` of the root element, and on paper."""
    dark = _declarations(1)
    return (
        f":root {{ color-scheme: light; {_declarations(0)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root:not([data-theme=light]) {{ color-scheme: dark; {dark} }} }}\n"
        f":root[data-theme=dark] {{ color-scheme: dark; {dark} }}\n"
        f"@media print {{ :root, :root[data-theme], :root:not([data-theme=light]) "
        f"{{ color-scheme: light; {_declarations(0, PAPER)} }} }}\n"
    )


def _declarations(scheme: int, more: Mapping[str, str] | None = None) -> str:
    """Of light (0) or dark (1)."""
    pairs = [*BASE_COLOURS.items(), *properties()]
    return " ".join(f"--{name}: {(more or {}).get(name, pair[scheme])};" for name, pair in pairs)
