"""A page is one file that runs nothing and loads nothing, and all of its figures are in the Markdown, too."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from msgspec.structs import replace

from bagel_perf.records.errors import RunFailed
from bagel_perf.report.html.content import Bullets, Fold, Page, Plot, TableBlock
from bagel_perf.report.html.page import build_page, page_html, page_markdown
from bagel_perf.report.html.source import load_sources, source_of
from bagel_perf.report.html.successive import successive_section
from bagel_perf.report.tables import latency_table
from bagel_perf.verdicts.reading import load_checked
from gated_results import make_result
from page_reader import Reader, hash_of

REPORTS = Path(__file__).resolve().parents[3] / "reports"
NEW, OLD = "2026-11-26_h100-80gb_3e079d6", "2026-11-23_h200_252761e"
ANCHORS = ["answer", "changes", "sites", "timeline", "pictures", "successive", "floors", "samples", "limits"]
MAX_BYTES = 3_000_000


@pytest.fixture(scope="module", params=[NEW, OLD])
def page(request: pytest.FixtureRequest) -> Page:
    return build_page(load_sources([REPORTS / request.param]))


@pytest.fixture(scope="module")
def text(page: Page) -> str:
    return page_html(page)


def table_blocks(page: Page) -> list[TableBlock]:
    blocks = [block for section in page.sections for block in section.blocks]
    folded = [inner for block in blocks if isinstance(block, Fold) for inner in block.blocks]
    return [block for block in (*blocks, *folded) if isinstance(block, TableBlock)]


def test_sections_stand_in_order_and_in_the_contents(page: Page, text: str) -> None:
    assert [section.anchor for section in page.sections] == [*ANCHORS, "environment"]
    anchors = {each.anchor for each in page.sections}
    links = [value for value in Reader(text).all("href") if value[1:] in anchors]
    assert links == [f"#{section.anchor}" for section in page.sections]


def test_a_page_runs_nothing_and_loads_nothing(text: str) -> None:
    reader = Reader(text)
    (script,) = reader.running
    assert not reader.tags.keys() & {"link", "iframe", "object", "embed", "form", "base", "style:import", "image"}
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    assert all(value.startswith("data:image/") for value in reader.all("src"))
    assert all(value.startswith("#") for value in reader.all("href"))
    assert reader.policy.startswith(f"default-src 'none'; script-src {hash_of(script)}; style-src 'unsafe-inline';")
    assert reader.policy.count("script-src") == 1 and reader.policy.count("unsafe") == 1
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", text)


def test_a_page_is_small(text: str) -> None:
    assert len(text.encode()) < MAX_BYTES


def test_each_table_has_a_caption_and_its_headers_a_scope(text: str) -> None:
    tags = Reader(text).tags
    assert tags["table"] == tags["caption"] > 5
    assert tags["th"] == text.count("<th scope=")


def test_each_drawing_has_words(page: Page, text: str) -> None:
    assert text.count('<div class="plot" role="img" aria-label="') == text.count("<svg ") > 4
    assert Reader(text).tags["figcaption"] == Reader(text).tags["figure"]


def test_ids_are_unique(text: str) -> None:
    ids = Counter(Reader(text).all("id"))
    assert [name for name, number in ids.items() if number > 1] == []


def test_colours_are_those_of_the_page(text: str) -> None:
    drawings = re.findall(r"<svg .*?</svg>", text, flags=re.DOTALL)
    assert drawings
    assert not [each for each in drawings if re.search(r"#[0-9a-f]{6}", each)]


def test_every_cell_is_in_the_markdown(page: Page) -> None:
    markdown = page_markdown(page)
    rows = {" ".join(line.replace("\\|", "|").split()) for line in markdown.splitlines()}
    for block in table_blocks(page):
        for row in block.table.rows:
            escaped = [" ".join(cell.split()).replace("&", "&amp;").replace("<", "&lt;") for cell in row]
            assert " ".join(f"| {' | '.join(escaped)} |".replace(">", "&gt;").split()) in rows


def test_a_page_is_the_same_each_time() -> None:
    sources = load_sources([REPORTS / OLD])
    assert page_html(build_page(sources)) == page_html(build_page(sources))


@pytest.mark.usefixtures("undrawn")
def test_changes_have_the_cells_of_the_terminal() -> None:
    result = load_checked(REPORTS / NEW / "result.json")
    new = build_page(load_sources([REPORTS / NEW]))
    table = table_blocks(new)[0].table
    for name in ("pr3987", "fused"):
        rows = [(*row[:2], *row[3:-2]) for row in table.rows if row[2] == name]
        assert rows == list(latency_table(result, name).rows)
    assert table.rows[0][2] == "pr3987" and table.rows[0][-2:] == ("11325", "796")


def test_the_way_from_variant_to_variant_marks_what_shows_no_difference() -> None:
    few = successive_section(make_result({"pr3987": {"e2e": -5.0}}, num_pairs=3))
    many = successive_section(make_result({"pr3987": {"e2e": -5.0}}))
    shown = [next(block.svg for block in section.blocks if isinstance(block, Plot)) for section in (few, many)]
    assert ["-4.7%?" in svg for svg in shown] == [True, False]
    assert ["from variant to variant at 256x256" in str(section) for section in (few, many)] == [True, True], (
        "its table, too"
    )


def test_what_is_not_known_is_said(page: Page) -> None:
    limits = next(section for section in page.sections if section.anchor == "limits")
    unknown = next(block for block in reversed(limits.blocks) if isinstance(block, Bullets)).items
    assert any("Noise floor" in line for line in unknown)
    assert any("Source lines" in line for line in unknown)
    assert any("random" in line for line in unknown)


@pytest.mark.usefixtures("undrawn")
def test_a_regression_is_no_gain(tmp_path: Path) -> None:
    text = page_html(build_page((source_of(make_result({"pr3987": {"e2e": 8.0}}), tmp_path),)))
    assert "pr3987</span> is slower than baseline: a 256 \u00d7 256 picture takes 1.90 s" in text.replace("\u00a0", " ")
    assert '<span class="mark worse"><span aria-hidden="true">▲</span> regressed</span>' in text


def test_a_result_without_a_latency_is_a_page(tmp_path: Path) -> None:
    whole = make_result({"pr3987": {}}, num_pairs=1, error=RunFailed("interrupted"))
    empty = replace(whole, runs=(), cells=(), deltas=(), steps=(), outputs=(), identity=(), noise=(), stage_sums=())
    text = page_html(build_page((source_of(empty, tmp_path),)))
    assert "The run ended early, so this is a part of what was to be measured." in text
    assert "no pictures were compared" in text
    assert "Nothing was timed." in text
    assert "The rest: the run ended early" in text
