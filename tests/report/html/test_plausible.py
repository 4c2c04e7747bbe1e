"""What no page can be made of is refused with the file and the field; what contradicts itself is said in sentences."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from bagel_perf.cli import main
from bagel_perf.records.errors import RunFailed, UsageError
from bagel_perf.records.results import Result, load
from bagel_perf.records.syncs import SyncReport
from bagel_perf.records.traces import Lanes
from bagel_perf.report.html.inputs import read_inputs
from bagel_perf.report.html.profiles import check_profile
from bagel_perf.report.html.source import MAX_TEXT, load_sources, source_of
from bagel_perf.traces.analyse import analyse
from bagel_perf.traces.formats.reading import read_trace
from bagel_perf.verdicts.plausible import check_result, contradictions
from committed_results import REPORTS, committed
from edited_json import Edit, setting
from gated_results import make_result, with_picture

RESULT = make_result({"pr3987": {"e2e": -5.0}})
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture(scope="module")
def watched() -> SyncReport:
    """A committed report of syncs, with the profile of a committed trace."""
    trace = analyse(read_trace(REPORTS / "syncs-h100" / "pr3987_t2i.json.gz"))
    data = json.loads((REPORTS / "syncs-h100" / "pr3987-256.json").read_text(encoding="utf-8"))
    return replace(SyncReport.from_json(data), profile=trace)


def written(path: Path, edit: Edit = lambda data: None) -> Path:
    data = RESULT.to_json()
    edit(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@pytest.mark.parametrize("folder", committed("result.json"), ids=lambda path: path.name)
def test_a_committed_result_is_plausible_and_does_not_contradict_itself(folder: Path) -> None:
    result = load(folder / "result.json")
    check_result(result)
    assert contradictions(result) == ()


@pytest.mark.parametrize("path", sorted(REPORTS.glob("timelines-h200/*.json.gz")), ids=lambda path: path.name)
def test_a_committed_profile_is_plausible(path: Path) -> None:
    report = SyncReport.from_json(json.loads(gzip.decompress(path.read_bytes())))
    check_profile(report)
    assert report.profile is not None and report.profile.lanes


@pytest.mark.parametrize(
    "result",
    [
        RESULT,
        make_result({"sync_free": {}}, num_pairs=1),
        make_result({"sync_free": {}}, num_pairs=0),
        make_result({"sync_free": {}}, error=RunFailed("out of memory")),
        make_result({"sync_free": {}}, edit=lambda run: with_picture(run, "sync_free")),
    ],
    ids=["passed", "one pair", "no pair", "ended early", "another picture"],
)
def test_whatever_compare_ends_in_is_plausible(result: Result) -> None:
    check_result(Result.from_json(json.loads(json.dumps(result.to_json()))))
    assert contradictions(result) == ()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (setting("deltas.1.delta_pct", None), "deltas[1].delta_pct cannot be shown (null)"),
        (setting("deltas.1.delta_pct", 1e300), "deltas[1].delta_pct cannot be shown (1e+300)"),
        (setting("deltas.1.ci_pct", [3.0, -3.0]), "deltas[1].ci_pct cannot be shown (3 to -3)"),
        (setting("deltas.1.ci_pct", [None, 3.0]), "deltas[1].ci_pct[0] cannot be shown (null)"),
        (setting("cells.0.latency_ms.2", None), "cells[0].latency_ms[2] cannot be shown (null)"),
        (setting("cells.0.latency_ms.2", -1.0), "cells[0] has a latency that is not positive"),
        (setting("cells.0.median_ms", 0.0), "cells[0] has a latency that is not positive"),
        (setting("cells.0.median_ms", 10**400), "number out of range"),
        (setting("cells.0.peak_bytes", 10**400), "cells[0].peak_bytes cannot be shown (1000"),
        (
            setting("cells.0.syncs_by_component.route_experts", 10**400),
            "cells[0].syncs_by_component.route_experts cannot be",
        ),
        (setting("cells.0.case", "512x512"), "cells[0].case is none of the cases: 512x512"),
        (setting("cells.0.stage", "vae"), "cells[0].stage is none of the stages: vae"),
        (setting("outputs.1.case", "64x32"), "outputs[1].case is none of the cases: 64x32"),
        (setting("identity.0.case", "64"), "identity[0].case is none of the cases: 64"),
        (setting("deltas.2.case", "64"), "deltas[2].case is none of the cases: 64"),
        (setting("variants", []), "variants are empty"),
        (setting("cases", []), "cases are empty"),
        (setting("stages", []), "stages are empty"),
        (setting("exit_code", 3), "exit code 3 does not go with the verdict pass"),
        (setting("verdict", "outputs differ"), "exit code 0 does not go with the verdict outputs differ"),
        (setting("verdict", "incomplete"), "exit code 0 does not go with the verdict incomplete"),
        (setting("created", "yesterday"), "result has no date (yesterday)"),
        (setting("created", "0001-01-01T00:00:00+12:00"), "result has no date"),
    ],
)
def test_an_implausible_result_is_refused_with_its_file_and_field(tmp_path: Path, edit: Edit, message: str) -> None:
    path = written(tmp_path / "result.json", edit)
    with pytest.raises(UsageError) as caught:
        load_sources([path])
    assert str(caught.value).startswith(f"result file is not usable ({path}); ")
    assert message in str(caught.value)


LANES = Lanes(
    region="step",
    start_ms=10,
    end_ms=20,
    cpu=((10, 15, ""), (15, 20.0005, "")),
    syncs=((12, 13, "nonzero"),),
    gpu=(),
    idle=(),
    places=(0,),
    shares={"cpu": (1.0, 0.5)},
)


@pytest.mark.parametrize(
    ("lanes", "message"),
    [
        (replace(LANES, end_ms=9.0, cpu=(), syncs=(), shares={}, places=()), "region step: ends at 9 ms, before"),
        (replace(LANES, region="", end_ms=float("nan")), "lanes[0].end_ms cannot be shown (null)"),
        (replace(LANES, cpu=((16, 12, ""), (17, 18, ""))), "region step: lane cpu: segment 0 ends at 12 ms, before"),
        (replace(LANES, cpu=((9, 12, ""), (17, 18, ""))), "lane cpu: segment 0 of 9 to 12 ms lies outside of"),
        (replace(LANES, cpu=((12, 15, ""), (17, 21, ""))), "lane cpu: segment 1 of 17 to 21 ms lies outside of"),
        (replace(LANES, cpu=((12, 15, ""), (14, 18, ""))), "lane cpu: segment 1 begins at 14 ms, before"),
        (replace(LANES, places=(0, 0)), "lane syncs: 2 places of 1 segments"),
        (replace(LANES, places=(100_000,)), "lane syncs: a place that is none of the"),
        (replace(LANES, shares={"cpu": (1.0,)}), "lane cpu: 1 shares of 2 segments"),
        (replace(LANES, shares={"cpu": (1.0, 1.5)}), "lane cpu: a share that is not from 0 to 1"),
        (replace(LANES, shares={"gpus": ()}), "lane gpus: shares of a lane that is none of"),
    ],
)
def test_lanes_that_cannot_be_drawn_are_refused_with_their_file(
    watched: SyncReport, tmp_path: Path, lanes: Lanes, message: str
) -> None:
    assert watched.profile is not None
    path = tmp_path / "profile.json"
    for each, is_refused in ((LANES, False), (lanes, True)):
        report = replace(watched, profile=replace(watched.profile, lanes=(each,)))
        path.write_text(json.dumps(report.to_json()), encoding="utf-8")
        if not is_refused:
            read_inputs([tmp_path, path])
            continue
        with pytest.raises(UsageError) as caught:
            read_inputs([tmp_path, path])
        assert str(caught.value).startswith(f"profile is not usable ({path}); ")
        assert message in str(caught.value)


def damaged(content: bytes) -> bytes:
    return content[:200] + bytes(200) + content[400:]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda text: gzip.compress(text)[:-100], "gzip file is cut off; copy it again"),
        (lambda text: damaged(gzip.compress(text)), "gzip file is damaged"),
        (lambda text: gzip.compress(text)[:-8] + bytes(8), "gzip file is damaged; CRC check failed"),
        (lambda text: gzip.compress(text.replace(b'"version": 1', b'"version": 99', 1)), "of a version that cannot be"),
        (lambda text: gzip.compress(DEEP.encode()), "file is nested too deeply"),
        (lambda text: DEEP.encode(), "file is nested too deeply"),
    ],
    ids=["cut off", "damaged", "wrong sum", "of another version", "nested and gzipped", "nested"],
)
def test_a_profile_that_cannot_be_read_is_one_line_with_its_name(
    watched: SyncReport,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: Callable[[bytes], bytes],
    message: str,
) -> None:
    path = tmp_path / "profile.json.gz"
    path.write_bytes(content(json.dumps(watched.to_json()).encode()))
    result = written(tmp_path / "result.json")
    assert main(["report", str(result), str(path), "--out", str(tmp_path / "page")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ")
    assert message in error and str(path) in error


@pytest.mark.parametrize(
    ("rest", "told"),
    [
        ("", "Expecting ',' delimiter"),
        (', "version": 1}', 'key "version" is given twice in an object'),
        ("}", "key is missing (source)"),
        (', "source": "\\ud800"}', "source has a wrong value ('\ufffd'); it must be an object"),
    ],
)
def test_a_damaged_report_of_a_trace_is_one_line_with_its_name(tmp_path: Path, rest: str, told: str) -> None:
    path = tmp_path / "trace.json"
    path.write_text('{"schema": "bagel-perf.trace", "version": 1' + rest, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_inputs([path])
    assert str(caught.value).startswith(f"report of a trace is not usable ({path}); {told}")


def test_a_gzipped_result_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "result.json.gz"
    path.write_bytes(gzip.compress(written(tmp_path / "x.json").read_bytes()))
    results = read_inputs([path]).results
    with pytest.raises(UsageError, match=r"result file is gzipped \(.*result\.json\.gz\); results are plain JSON"):
        load_sources(results)


def test_a_result_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(DEEP)
    with pytest.raises(UsageError, match=r"nested too deeply \(.*result\.json\)"):
        load(path)


def test_a_folder_of_profiles_names_some_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.json.gz").touch()
    with pytest.raises(UsageError, match=r"result file cannot be read .*profiles are named one by one: .*a\.json\.gz"):
        load_sources([tmp_path])


def test_a_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(UsageError, match="result file cannot be read"):
        load_sources([Path("x" * 300)])


def test_a_long_string_is_cut_alike_wherever_it_stands() -> None:
    name = "pr3987" + "x" * 100_000
    data = json.dumps(RESULT.to_json()).replace('"pr3987"', json.dumps(name))
    result = Result.from_json(json.loads(data))
    shown = source_of(
        replace(result, environment=replace(result.environment, device_name="y" * 100_000)), Path()
    ).result
    assert shown.environment.device_name == "y" * (MAX_TEXT - 1) + "…"
    assert len(shown.named[1]) == MAX_TEXT
    assert {cell.variant for cell in shown.cells} == set(shown.named)


def test_a_pass_with_pictures_that_differ_contradicts_itself() -> None:
    other = make_result({"pr3987": {}}, edit=lambda run: with_picture(run, "pr3987"))
    assert contradictions(other) == ()
    said = contradictions(replace(other, verdict="pass", exit_code=0))
    assert said == (
        "The result says that it passed, and its own runs and checks say otherwise: "
        "pr3987 at 256x256 differs from baseline.",
    )


def test_identical_pictures_with_two_hashes_contradict_themselves() -> None:
    first, second = RESULT.outputs
    assert contradictions(replace(RESULT, outputs=(first, replace(second, md5="0" * 32)))) == (
        "The result says that pr3987 at 256x256 gave the picture of baseline, and the md5 of the two are not the same.",
    )
