"""A result file is somebody else's: whatever stands in it is shown, and neither runs, loads, nor breaks the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from bagel_perf.records.errors import clean_text
from bagel_perf.records.results import Result
from bagel_perf.records.runs import Run
from bagel_perf.records.sites import SyncSite
from bagel_perf.report.html.page import build_page, data_text, page_html, page_markdown
from bagel_perf.report.html.source import Source, source_of
from gated_results import make_result
from page_reader import Reader

EVIL = "</script></style></title><script>alert(1)</script><img src=//evil.test/x onerror=alert(1)>\"'`$\\frac{1}{2}$"
CONTROLS = "a\x00b\x1b[31mc\u202ed\ud800e\u2028f"


def hostile_text(value: Any) -> Any:
    return EVIL + CONTROLS if isinstance(value, str) else with_evil(value)


def with_evil(value: Any) -> Any:
    """Strings that are free text become hostile; names of kinds stay, as a file with others is no result."""
    if isinstance(value, dict):
        return {
            key: EVIL + CONTROLS if key in FREE and isinstance(each, str) else with_evil(each)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [EVIL if isinstance(each, str) and each.startswith("free") else with_evil(each) for each in value]
    return value


FREE = {
    "device_name", "torch", "python", "platform", "weights", "commit", "preset", "prompt", "image", "command", "path",
    "md5", "file", "function", "expressions", "allowed", "error", "reason",
}  # fmt: skip


def hostile(folder: Path) -> Source:
    site = SyncSite(kind="unknown", file="f", line=1, function="g", region="", count=2, expressions=("free",))

    def edit(run: Run) -> Run:
        return replace(run, sites=(site,)) if run.purpose == "count" else run

    data = make_result({"pr3987": {"e2e": -5.0}}, edit=edit).to_json()
    data = json.loads(json.dumps(with_evil(json.loads(json.dumps(data)))))
    text = json.dumps(data).replace('"pr3987"', json.dumps(EVIL)).replace('"baseline"', json.dumps("$x^2$ <b>" + EVIL))
    data = json.loads(text)
    data["warnings"] = data["findings"] = [EVIL]
    return source_of(Result.from_json(data), folder)


def test_nothing_of_a_hostile_result_becomes_an_element(tmp_path: Path) -> None:
    text = page_html(build_page((hostile(tmp_path),)))
    reader = Reader(text)
    assert len(reader.running) == reader.tags["style"] == reader.tags["title"] == 1
    assert "alert(1)" not in reader.running[0]
    assert reader.tags["img"] == 0
    assert reader.tags["b"] == text.count("</span> <b>") + text.count("s <b>\u2212"), "only changes are bold"
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    assert "alert(1)" in text, "it is shown"
    text.encode("utf-8")


def test_a_hostile_name_is_no_formula(tmp_path: Path) -> None:
    assert "$x^2$ &lt;b&gt;" in page_html(build_page((hostile(tmp_path),)))


def test_a_hostile_result_puts_no_html_into_markdown(tmp_path: Path) -> None:
    markdown = page_markdown(build_page((hostile(tmp_path),)))
    plain = "\n".join(line for line in markdown.splitlines() if not line.startswith("    "))
    assert "<" not in plain


def test_data_cannot_end_its_element(tmp_path: Path) -> None:
    text = data_text(hostile(tmp_path).result)
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text)["environment"]["torch"].startswith(EVIL)


def test_characters_that_hide_or_turn_text_are_marked() -> None:
    assert clean_text(CONTROLS) == "a\ufffdb\ufffd[31mc\ufffdd\ufffde\u2028f"
    assert clean_text("Grün\n→ 日本") == "Grün\n→ 日本"


def test_numbers_that_no_axis_holds_are_left_out(tmp_path: Path) -> None:
    result = make_result({"pr3987": {"e2e": -5.0}})
    deltas = tuple(replace(each, delta_pct=1e300, ci_pct=(-1e300, 1e300)) for each in result.deltas)
    cells = tuple(replace(cell, latency_ms=(1e300,), median_ms=1e300) for cell in result.cells)
    text = page_html(build_page((source_of(replace(result, deltas=deltas, cells=cells), tmp_path),)))
    assert "No change was measured." in text
