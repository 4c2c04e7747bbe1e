"""Several results are a history: the newest is the subject, and what moved is marked where intervals are apart."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from msgspec.structs import replace

from bagel_perf.records.errors import UsageError
from bagel_perf.records.store import write_json_atomic
from bagel_perf.report.html.content import Fold, Section, TableBlock, Text
from bagel_perf.report.html.history import environments
from bagel_perf.report.html.page import build_page
from bagel_perf.report.html.source import Source, load_sources, source_of
from gated_results import make_result
from scripted import CPU, ENVIRONMENT


def source(e2e_pct: float, day: int, device: str = "NVIDIA H200", num_pairs: int = 10) -> Source:
    environment = replace(ENVIRONMENT, device_name=device)
    result = make_result({"pr3987": {"e2e": e2e_pct}}, environment=environment, num_pairs=num_pairs)
    return source_of(replace(result, created=f"2026-01-{day:02}T12:00:00+00:00"), Path())


def section(sources: tuple[Source, ...], anchor: str) -> Section:
    return next(each for each in build_page(sources).sections if each.anchor == anchor)


def notes(*sources: Source) -> list[str]:
    folds = [block for block in section(sources, "history").blocks if isinstance(block, Fold)]
    block = folds[0].blocks[0]
    assert isinstance(block, TableBlock)
    return [row[-1] for row in block.table.rows if row[0] == "e2e"]


@pytest.mark.usefixtures("undrawn")
def test_intervals_that_are_apart_have_changed() -> None:
    assert notes(source(-5, 1), source(-5, 2), source(-9, 3)) == ["first", "no change shown", "changed"]


@pytest.mark.usefixtures("undrawn")
def test_another_environment_begins_a_line_of_its_own() -> None:
    assert notes(source(-5, 1), source(-9, 2, device="NVIDIA H100")) == ["first", "first"]
    h200 = source(-5, 1), source(-9, 2, device="NVIDIA H100"), source(-9, 3), source(-9, 4, device="NVIDIA H100")
    assert notes(*h200) == ["first", "no change shown", "first", "changed"]
    names = section(h200, "history").blocks[0]
    assert isinstance(names, TableBlock)
    letters = [row[2].partition(":")[0] for row in names.table.rows]
    assert letters == ["A", "B", "A", "B"]
    assert names.table.rows[1][2] == "B: NVIDIA H100, torch 2.11.0, 7b preset"
    found = section((source(-5, 1), source(-9, 2, device="NVIDIA H100")), "environment").blocks[-1]
    assert isinstance(found, TableBlock)
    assert found.table.rows[0][1] == "device_name NVIDIA H200 and NVIDIA H100"


@pytest.mark.usefixtures("undrawn")
def test_another_make_of_the_subject_begins_a_line_of_its_own() -> None:
    """As another preset, which is no field of the environment."""
    first, second = source(-5, 1), source(-9, 2)
    subject = first.result.subject
    tiny = replace(first.result, subject=replace(subject, details={**subject.details, "preset": "tiny"}))
    sources = dataclasses.replace(first, result=tiny), second
    assert notes(*sources) == ["first", "first"]
    found = section(sources, "environment").blocks[-1]
    assert isinstance(found, TableBlock)
    assert found.table.rows[0][1] == "preset tiny and 7b"


def test_results_of_other_resolutions_have_their_own_drawing() -> None:
    other = source_of(make_result({"pr3987": {"e2e": -5}}, sizes=((1024, 1024),)), Path())
    blocks = section((other, source(-5, 2)), "history").blocks
    summaries = [block.summary for block in blocks if isinstance(block, Fold)]
    assert summaries == ["Paired changes at 256x256 over the results", "Paired changes at 1024x1024 over the results"]


@pytest.mark.usefixtures("undrawn")
def test_without_intervals_nothing_is_said_to_have_changed() -> None:
    assert notes(source(-5, 1, num_pairs=3), source(-9, 2)) == ["first", "no interval"]


def test_the_newest_is_the_subject_in_whatever_order_and_each_counts_once(tmp_path: Path) -> None:
    for name, each in (("a", source(-9, 2)), ("b", source(-5, 1))):
        (tmp_path / name).mkdir()
        write_json_atomic(tmp_path / name / "result.json", each.result.to_json())
    sources = load_sources([tmp_path / "a", tmp_path / "b", tmp_path / "a" / "result.json"])
    assert [each.created.day for each in sources] == [1, 2]


def test_no_line_joins_results_of_unlike_environments() -> None:
    """A CPU's, another torch's and another prompt's, each between two of the same GPU."""
    first = source(-5, 1)
    subject, environment = first.result.subject, first.result.environment
    asked = {case: {**each, "steps": 50} for case, each in subject.asked.items()}
    others = (
        replace(first.result, environment=CPU),
        replace(first.result, environment=replace(environment, torch="2.12.0")),
        replace(first.result, subject=replace(subject, asked=asked)),
    )
    assert environments([first, *(dataclasses.replace(first, result=each) for each in others), first]) == [
        0,
        1,
        2,
        3,
        0,
    ]
    other_commit = replace(first.result, environment=replace(environment, commit="fffffff"))
    assert environments([first, dataclasses.replace(first, result=other_commit)]) == [0, 0]


@pytest.mark.usefixtures("undrawn")
def test_a_newer_result_of_a_cpu_is_never_what_a_page_is_about(tmp_path: Path) -> None:
    newer = replace(source(-9, 3).result, environment=CPU)
    for name, result in (("gpu", source(-5, 2).result), ("cpu", newer), ("older", source(-5, 1).result)):
        (tmp_path / name).mkdir()
        write_json_atomic(tmp_path / name / "result.json", result.to_json())
    sources = load_sources([tmp_path / name for name in ("gpu", "cpu", "older")])
    assert [each.result.environment.device_kind for each in sources] == ["cpu", "cuda", "cuda"]
    assert [each.created.day for each in sources] == [3, 1, 2]
    told = section(sources, "history").blocks[0]
    assert isinstance(told, Text) and told.text == (
        "This page is about result 3, the newest of a GPU. Result 1 is newer, but of a lesser kind of device, "
        "and this section alone shows results of it."
    )
    assert not isinstance(section(sources[1:], "history").blocks[0], Text)


def test_one_result_has_no_history() -> None:
    assert "history" not in [each.anchor for each in build_page((source(-5, 1),)).sections]


def test_a_result_without_a_date_is_refused() -> None:
    with pytest.raises(UsageError, match="result has no date"):
        source_of(replace(make_result({"pr3987": {}}), created="yesterday"), Path())
