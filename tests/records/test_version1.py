"""Files of version 1, which knew BAGEL alone, read as if version 2 had written them, and no damaged one surprises."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bagel_perf.records.errors import UsageError
from bagel_perf.records.events import EnvironmentEvent, Event, Head, RunEvent, read_lines, to_line
from bagel_perf.records.outlines import WHOLE, Tolerance
from bagel_perf.records.results import Result, current, load_json
from bagel_perf.records.runs import MeasuredRun
from bagel_perf.records.version1 import WORDS, upgraded_event
from bagel_perf.report.ablation_tables import ablation_tables
from bagel_perf.report.tables import result_tables
from bagel_perf.verdicts.comparability import unlike
from bagel_perf.verdicts.reading import checked, read_result
from committed_results import committed
from edited_json import setting
from scripted import make_plan

DATA = Path(__file__).resolve().parents[1] / "data" / "version1"
"""Written by revision 4ed41c0, the last of version 1, of scripted runs."""
NAMES = sorted(path.name.removesuffix(".json.gz") for path in DATA.iterdir())
FOLDERS = [each for each in committed("result.json") if load_json(each / "result.json")["version"] == 1]


def old(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(gzip.decompress((DATA / f"{name}.json.gz").read_bytes()))
    return data


def parts(data: dict[str, Any], name: str) -> list[Any]:
    """The values of a field in all records of a list."""
    return [each.get(name) for each in data]  # type: ignore[attr-defined]


def check_agreement(data: dict[str, Any], result: Result) -> None:
    """What version 1 says of the runs stands in the result under the names of version 2."""
    sides = {request["width"]: f"{request['width']}x{request['height']}" for request in data["requests"]}
    requests = data["requests"]
    assert result.cases == tuple(f"{each['width']}x{each['height']}" for each in requests)
    assert (result.stages, result.named, result.seed) == (("ar", "dit"), tuple(data["variants"]), requests[0]["seed"])
    assert result.subject.kind == "bagel" and result.subject.title == f"{data['environment']['preset']} preset"
    assert result.subject.details["weights"] == data["environment"]["weights"]
    assert [result.subject.asked[case]["steps"] for case in result.cases] == [each["steps"] for each in requests]
    assert len(result.runs) == len(data["runs"])
    for run, was in zip(result.runs, data["runs"], strict=True):
        picture = was["picture"]
        assert (run.case, run.variant, run.seed) == (f"{was['width']}x{was['height']}", was["variant"], was["seed"])
        assert (run.output.kind, run.output.md5, run.output.sha256) == (
            "picture", picture["md5"], picture["pixels_sha256"]
        )  # fmt: skip
        assert run.output.shape == (picture["height"], picture["width"], 3)
        assert run.output.num_values == picture["height"] * picture["width"]
        assert (run.distance, run.num_differing) == (was.get("mse"), was.get("differing_pixels"))
        measured = run.measurements if isinstance(run, MeasuredRun) else ()
        for name in ("latency_ms", "host_syncs", "peak_bytes"):
            assert [getattr(each, name, None) for each in measured] == parts(was["measurements"], name)
    for names, found in (
        ("cells", result.cells),
        ("deltas", result.deltas),
        ("identity", result.identity),
        ("images", result.outputs),
    ):
        squares = {str(side): size for side, size in sides.items() if size == f"{side}x{side}"}
        assert [each.case for each in found] == [squares.get(str(res), res) for res in parts(data[names], "res")]
    assert [each.path for each in result.outputs] == parts(data["images"], "path")
    assert [each.distance for each in result.identity] == parts(data["identity"], "psnr_db")
    assert [each.tolerance and each.tolerance.limit for each in result.identity] == parts(
        data["identity"], "min_psnr_db"
    )
    assert [each.delta_pct for each in result.deltas] == parts(data["deltas"], "delta_pct")
    assert [each.launches_per_step for each in result.cells] == parts(data["cells"], "launches_per_step")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_committed_result_reads_and_its_runs_give_what_it_concludes(folder: Path) -> None:
    data = load_json(folder / "result.json")
    result = Result.from_json(current(data))
    check_agreement(data, result)
    read = checked(data)
    assert (read.runs, read.outline, read.outputs) == (result.runs, result.outline, result.outputs)
    assert (read.identity, read.verdict, read.findings) == (result.identity, result.verdict, result.findings)
    assert read.outline.timed_stages == ("ar", "dit", WHOLE)
    assert bool(read.mixtures) == bool(data.get("ablations")) == bool(read.ablations)


@pytest.mark.parametrize("name", NAMES)
def test_whatever_version_1_concluded_its_runs_still_give(name: str) -> None:
    data = old(name)
    result = Result.from_json(current(data))
    check_agreement(data, result)
    read = checked(data)
    assert (read.identity, read.verdict, read.exit_code) == (result.identity, data["verdict"], data["exit_code"])
    assert read.findings == result.findings and len(read.findings) == len(data["findings"])


@pytest.mark.parametrize("name", NAMES)
def test_a_result_of_version_1_is_written_as_one_of_version_2(name: str) -> None:
    read = checked(old(name))
    data = json.loads(json.dumps(read.to_json()))
    assert data["version"] == 2 and not {"request", "requests", "images"} & data.keys()
    assert checked(data) == read


def in_former_words(value: Any) -> Any:
    """What a revision from before 2026-12-01 wrote of the same; the subject and floors had the names of today."""
    if isinstance(value, dict):
        former = {today: word for word, today in WORDS.items()}
        return {
            former.get(key, key): each if key in ("subject", "floors") else in_former_words(each)
            for key, each in value.items()
        }
    return [in_former_words(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", NAMES)
def test_a_result_of_version_2_reads_the_same_in_the_words_of_before(name: str) -> None:
    data = json.loads(json.dumps(checked(old(name)).to_json()))
    data["subject"]["details"] |= {"slot": 1, "price_ms": 2, "again": 3}
    former = in_former_words(data)
    assert {"ladder", "dropped"} <= former.keys() and all("syncs_by_slot" in cell for cell in former["cells"])
    assert checked(former) == checked(data)


def test_lines_of_a_killed_run_read_the_same_in_the_words_of_before(tmp_path: Path) -> None:
    result = checked(old("ablated"))
    plan = make_plan(variants=result.named)
    head = Head(plan=replace(plan, successive=True), command="compare", created="2026-11-30T00:00:00+00:00")
    outline = replace(result.outline, successive=True)
    started = EnvironmentEvent(environment=result.environment, outline=outline, pairs=result.pairs, warmup=1)
    events: list[Event] = [started, *(RunEvent(run=run) for run in result.runs)]
    lines = [head.to_line(), *map(to_line, events)]
    former = [json.dumps(in_former_words(json.loads(line))) for line in lines]
    for name, each in (("today", lines), ("before", former)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in each), encoding="utf-8")
    for name in ("today", "before"):
        found, read = read_lines(tmp_path / name)
        assert [found.to_line(), *map(to_line, read)] == lines


def test_a_sentence_names_the_case_as_the_tables_do() -> None:
    assert checked(old("other_pictures")).findings == (
        "sync_free at 256x256 differs from baseline",
        "sync_free at 64x32 differs from baseline",
    )
    assert checked(old("beyond_tolerance")).findings == ("close at 256x256 is 39.93 dB from baseline, under 40",)


def test_what_a_case_brings_along_and_its_floors_are_kept() -> None:
    result = checked(old("beyond_tolerance"))
    assert [(each.case, each.output.path) for each in result.inputs] == [
        ("256x256", "256_input.png"),
        ("64x32", "64_input.png"),
    ]
    assert [(each.case, each.stage) for each in result.floors] == [
        (case, stage) for case in ("256x256", "64x32") for stage in ("ar", "dit")
    ]
    assert result.variants[2].tolerance == Tolerance(kind="psnr", limit=40.0)
    per_step = {each.launches_per_step for each in result.cells if each.variant == "close" and each.stage == "dit"}
    assert per_step == {3.0}, "42 launches in the 14 steps of a loop of 15 timesteps"


def test_an_ablated_result_keeps_its_mixtures() -> None:
    data = old("ablated")
    result = checked(data)
    assert result.named == ("baseline", "pr3987") and result.num_named == 2
    assert result.outline.ablated == "pr3987"
    slots = [each["slot"] for each in data["ablations"][0]["slots"]]
    assert [each.component for each in result.mixtures] == slots and len(slots) == 5
    ran = {name for each in result.mixtures for name in (each.left_in, each.left_out)}
    assert ran == {run.variant for run in result.runs} - set(result.named)
    assert set(result.outline.measured) == {run.variant for run in result.runs}
    assert [each.total.ms for each in result.ablations] == [each["total"]["ms"] for each in data["ablations"]]
    tables = [table.title for table in (*ablation_tables(result), *result_tables(result))]
    assert any("256x256" in title for title in tables)


def test_a_rung_that_this_program_does_not_know_means_what_was_recorded_with_it() -> None:
    text = json.dumps(old("beyond_tolerance")).replace('"close"', '"rough"').replace('"close at', '"rough at')
    result = checked(json.loads(text))
    assert result.named == ("baseline", "fused", "rough")
    assert result.variants[2].tolerance == Tolerance(kind="psnr", limit=40.0)


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        ("request.prompt", "another", "request is not the first of requests"),
        ("requests", [], "request is not the first of requests"),
        ("requests.0.width", "wide", "request is not the first of requests"),
        ("variants", [], "variants"),
        ("variants", ["baseline", "sync_free", "sync_free"], "variants name one twice"),
        ("variants", "baseline", "variants are empty"),
        ("environment", None, "environment"),
        ("environment.torch", 2.11, "environment.torch has a wrong value"),
        ("cells.0.res", 512, "cells[0] is 256x256, and its res is 512x512"),
        ("cells.0.res", None, "cells[0].case"),
        ("images.1.res", "64x16", "outputs[1].case is none of the cases: 64x16"),
        ("images.1.md5", "0" * 32, "outputs[1].md5 is 000"),
        ("identity.0.identical", False, "identity[0].identical is False"),
        ("identity.0.num_runs", None, "identity[0].num_runs has a wrong value"),
        ("runs.0.width", 512, "runs[0]"),
        ("runs.0.width", None, "runs[0].case"),
        ("runs.0.picture", "none", "runs[0].output"),
        ("runs.0.picture.width", 512, "runs[0] is 256x256, its picture 512x256"),
        ("runs.0.picture.path", "../secret.png", "path of runs[0] leads elsewhere (../secret.png)"),
        ("runs.0.variant", "fused", "runs[0] is of no variant"),
        ("runs.3.mse", -1.0, "a distance is not 0 or more"),
        ("findings", ["all is well"], "findings is 1 in all"),
        ("verdict", "pass", "exit code 3 does not go with the verdict pass"),
    ],
)  # fmt: skip
def test_a_damaged_file_of_version_1_is_refused_in_one_line(place: str, value: Any, named: str) -> None:
    data = old("other_pictures")
    setting(place, value)(data)
    with pytest.raises(UsageError) as caught:
        checked(data)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def places(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Each value of an object, of a list the first and the last alone."""
    if place:
        yield place
    if isinstance(value, dict):
        for key, each in value.items():
            yield from places(each, (*place, key))
    elif isinstance(value, list):
        for number in sorted({0, len(value) - 1} if value else set()):
            yield from places(value[number], (*place, number))


def short(value: Any) -> Any:
    """Of a list of many records the first and the last."""
    return [value[0], value[-1]] if isinstance(value, list) and len(value) > 4 else value


@pytest.mark.parametrize("name", ["other_pictures", "beyond_tolerance"])
@pytest.mark.parametrize("value", [None, "?", -1, 0.5, True, [], {}, [None], {"?": 1}, "absent"])
def test_no_value_of_any_field_is_more_than_one_line(name: str, value: Any) -> None:
    """It is refused with one line, or reads as what the rest of the file says."""
    whole = {key: short(each) for key, each in old(name).items()}
    refusals = []
    for place in places(whole):
        data = copy.deepcopy(whole)
        parent: Any = data
        for key in place[:-1]:
            parent = parent[key]
        if value == "absent":
            del parent[place[-1]]
        else:
            parent[place[-1]] = value
        try:
            assert isinstance(Result.from_json(current(data)), Result)
        except UsageError as refusal:
            refusals.append(str(refusal))
    assert len(refusals) > 100
    assert not [each for each in refusals if "\n" in each]


@pytest.mark.parametrize(("preset", "told"), [("7b", []), ("tiny", ["preset 7b and tiny"])])
def test_a_file_of_version_1_is_held_to_one_of_version_2_by_all_that_both_record(
    tmp_path: Path, preset: str, told: list[str]
) -> None:
    data = old("other_pictures")
    subject = checked(data).subject
    newer = replace(checked(data), subject=replace(subject, details={**subject.details, "preset": preset}))
    for name, each in (("before", data), ("now", newer.to_json())):
        (tmp_path / name).write_text(json.dumps(each), encoding="utf-8")
    before, now = (read_result(tmp_path / name) for name in ("before", "now"))
    assert before.environment_fields == now.environment_fields
    assert unlike(before.result, now.result) == told


def test_events_of_a_worker_of_version_1_are_those_of_version_2() -> None:
    run = old("beyond_tolerance")["runs"][-1]
    found = upgraded_event({"event": "run", "run": run})["run"]
    assert found["case"] == "64x32" and found["output"]["shape"] == [32, 64, 3]
    picture = old("beyond_tolerance")["inputs"][0]
    assert upgraded_event({"event": "input", "picture": picture})["input"]["case"] == "256x256"
    environment = old("beyond_tolerance")["environment"]
    event = upgraded_event({"event": "environment", "environment": environment, "pairs": 6, "warmup": 1})
    assert event["outline"]["subject"]["details"]["preset"] == environment["preset"]
    assert "preset" not in event["environment"]
    newer = {"event": "run", "run": {**found}}
    assert upgraded_event(newer) == newer
