"""A subject that is not BAGEL is read, judged and shown in its own words: its cases, its stages, its outputs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from msgspec.structs import asdict, replace

import archive
from bagel_perf.records.errors import UsageError
from bagel_perf.records.gates import parse_limits
from bagel_perf.records.outlines import Scalar, Tolerance
from bagel_perf.records.results import CaseInput, Result
from bagel_perf.records.runs import (
    Conditions,
    DeviceWork,
    ProfiledRun,
    RepeatedRun,
    Run,
    StageWork,
    TimedRun,
    TimedStage,
    runs_of,
)
from bagel_perf.records.store import write_json_atomic
from bagel_perf.report.html.changes import SYNC
from bagel_perf.report.html.content import Bullets, Fold, Page, TableBlock
from bagel_perf.report.html.page import build_page, page_html, page_markdown
from bagel_perf.report.html.source import load_sources, source_of
from bagel_perf.report.summary import last_line, summary_markdown, verdict_lines
from bagel_perf.report.tables import result_tables, tolerance_lines
from bagel_perf.verdicts.gate import Source, judge_against, judge_result
from bagel_perf.verdicts.plausible import check_result, contradictions
from bagel_perf.verdicts.reading import checked, load_checked, rebuilt
from docs_results import headline_table, section
from other_subjects import CASES, SHAPE, STAGES, make_output, make_result, with_output
from scripted import CPU

pytestmark = pytest.mark.usefixtures("undrawn")
RESULT = make_result()
SINGLE = make_result(stages=("generate",))
WORK = DeviceWork(launches=6, graph_launches=0, kernels=6, copies={}, busy_ms=9.0)


def as_read(result: Result) -> Result:
    """What a file of the result gives."""
    return checked(json.loads(json.dumps(result.to_json())))


def titles(result: Result) -> list[str]:
    return [table.title for table in result_tables(result)]


def page_of(result: Result) -> Page:
    return build_page((source_of(result, Path()),))


def words(result: Result) -> str:
    """All that is said of a result anywhere but on its page as HTML."""
    return "\n".join([summary_markdown(result), page_markdown(page_of(result)), section(result, Path("a"), Path())])


@pytest.mark.parametrize("result", [RESULT, SINGLE, make_result(num_pairs=1), make_result(num_pairs=0)])
def test_it_comes_back_from_its_file(result: Result) -> None:
    assert as_read(result) == result
    check_result(result)
    assert contradictions(result) == ()


def test_it_passes_with_its_own_cases_and_stages() -> None:
    assert (RESULT.verdict, RESULT.findings) == ("pass", ())
    assert RESULT.timed_stages == ("encode", "decode", "e2e")
    assert [(each.case, each.stage, each.variant) for each in RESULT.cells] == [
        (case, stage, variant)
        for case in CASES
        for stage in ("encode", "decode", "e2e")
        for variant in ("plain", "folded", "half")
    ]
    assert {delta.verdict for delta in RESULT.deltas} == {"improved"}
    assert {(each.case, each.state) for each in RESULT.stage_sums} == {("small", "agree"), ("large", "agree")}


def test_its_tables_name_its_cases_and_stages() -> None:
    table = headline_table(RESULT)
    assert table.title == "Latency on NVIDIA H200, codec.py"
    assert [row[:2] for row in table.rows[::2]] == [(case, stage) for case in CASES for stage in (*STAGES, "e2e")]
    assert titles(RESULT)[-1] == "Outputs" and "Pictures" not in titles(RESULT)
    caption = result_tables(RESULT)[-1].caption
    assert caption == "Every run of the same seed was compared: md5 of the bytes, sha256 of dtype, shape and values."


def test_its_tolerance_reads_in_its_own_unit() -> None:
    table = next(each for each in result_tables(RESULT) if "declared tolerance" in each.title)
    assert {row[-1] for row in table.rows} == {"relative L2 0.00023"}
    assert [*tolerance_lines(RESULT)] == [
        f"- half at {case}: relative L2 against plain at most 0.00023, at most 5 differing values; "
        "0.001 asked for, 9 runs"
        for case in CASES
    ]
    check = next(each for each in RESULT.identity if each.candidate == "half")
    assert (check.identical, check.is_ok, check.distance) == (False, True, 2.3e-4)


@pytest.mark.parametrize("distance", [1.1e-3, math.inf, None])
def test_what_is_beyond_its_tolerance_has_no_latency_also_after_a_file(distance: float | None) -> None:
    """Infinitely far is not written as a number in JSON, and is never read as equal."""
    result = make_result(edit=lambda run: replace(run, distance=distance) if run.variant == "half" else run)
    shown = "0.0011" if distance == 1.1e-3 else "1e+12"
    assert (result.verdict, result.exit_code) == ("outputs differ", 3)
    assert result.findings == tuple(
        f"half at {case} is {shown} from plain, over in relative L2, 0.001" for case in CASES
    )
    for each in (result, as_read(result), Result.from_json(json.loads(json.dumps(result.to_json())))):
        assert not any(check.is_ok for check in each.identity if check.candidate == "half")
        assert not any(cell.latency_ms for cell in each.cells if cell.variant == "half")
    assert f"relative L2 {shown} (over 0.001)" in words(result)


def test_a_bitwise_variant_is_held_to_its_bits() -> None:
    result = make_result(edit=lambda run: with_output(run, "folded", sha256="0" * 64))
    assert result.findings == tuple(f"folded at {case} differs from plain" for case in CASES)
    assert "folded gives other outputs than plain at small and large, and no speed makes up for that." in words(result)
    assert last_line(result, Path("out/result.json")).endswith("look at the outputs in out")


def test_its_seed_may_draw_nothing() -> None:
    """The scripted outputs are the same for each seed, which no picture of BAGEL's may be."""
    assert not any("seed" in finding for finding in RESULT.findings)


@pytest.mark.parametrize(
    ("values", "finding"),
    [
        ({"is_finite": False}, "gives an output that is not finite (NaN or infinity)"),
        ({"is_flat": True, "num_values": 12}, "gives an output in which all numbers are equal"),
        ({"md5": "0"}, "differs from plain"),
    ],
)
def test_an_output_that_shows_nothing_is_said_to(values: dict[str, object], finding: str) -> None:
    result = make_result(edit=lambda run: with_output(run, "folded", **values))
    assert f"folded at small {finding}" in result.findings
    assert as_read(result) == result


def test_no_sentence_speaks_of_pictures_and_of_bagel() -> None:
    noisy = make_result(environment=CPU)
    for result in (RESULT, SINGLE, noisy, make_result(edit=lambda run: with_output(run, "folded", md5="0"))):
        text = words(result)
        for word in ("icture", "PNG", "pixel", "KV cache", "resolution", "DiT", "denoise", "BAGEL", "preset"):
            assert word not in text, word


def test_the_verdict_counts_its_outputs() -> None:
    head = verdict_lines(RESULT)[0]
    assert head == "verdict: pass (exit code 0), the outputs of 2 variants are identical in every run"
    assert "Outputs: md5-identical in all 18 runs against plain." in section(RESULT, Path("a"), Path())
    text = page_markdown(page_of(RESULT))
    assert "identical in 18 of 18 runs of bitwise variants" in text
    assert "folded runs case large in 0.800 s instead of 1.000 s. Its outputs are the same to the bit." in text


def test_stages_that_disagree_with_the_whole_are_named() -> None:
    def apart(run: Run) -> Run:
        return replace(run, measurements=tuple(map(slower, run.measurements))) if isinstance(run, TimedRun) else run

    def slower(each: TimedStage) -> TimedStage:
        return replace(each, latency_ms=each.latency_ms * (1.5 if each.stage == "encode" else 1.0))

    lines = verdict_lines(make_result(environment=CPU, edit=apart))
    assert any("against encode and decode together, as it may on a CPU" in line for line in lines)
    finding = make_result(edit=apart).findings[0]
    assert finding.startswith("plain at small: e2e takes -11.1%") and "its stages together" in finding


def test_a_single_stage_is_the_whole_and_has_no_sums() -> None:
    assert SINGLE.timed_stages == ("e2e",)
    assert (SINGLE.verdict, SINGLE.stage_sums) == ("pass", ())
    assert {cell.stage for cell in SINGLE.cells} == {delta.stage for delta in SINGLE.deltas} == {"e2e"}
    assert [cell.host_syncs for cell in SINGLE.cells] == [4] * len(SINGLE.cells)
    assert [cell.peak_bytes for cell in SINGLE.cells] == [2**20] * len(SINGLE.cells)
    assert [row[:2] for row in headline_table(SINGLE).rows[::2]] == [(case, "e2e") for case in CASES]
    assert "runs of its own" not in headline_table(SINGLE).caption
    text = words(SINGLE)
    assert f"e2e: all of a run, in one stage (generate). {SYNC}" in text
    assert "| small | generate |" not in text
    assert page_html(page_of(SINGLE)).count("<svg ") >= 4


@pytest.mark.parametrize("result", [RESULT, SINGLE], ids=["two stages", "one stage"])
def test_work_of_its_stages_stands_in_the_table(result: Result) -> None:
    measured = tuple(StageWork(stage=stage, work=WORK) for stage in result.stages)

    def profiled(run: RepeatedRun) -> ProfiledRun:
        return ProfiledRun(**{**asdict(run), "measurements": measured})

    runs = (*result.runs, *map(profiled, runs_of(RepeatedRun, result.runs)))
    table = next(each for each in result_tables(as_read_anew(result, runs)) if each.title == "GPU work")
    stages = STAGES if len(result.stages) > 1 else ("e2e",)
    assert {row[1] for row in table.rows} == set(stages)
    assert {row[3] for row in table.rows} == {"6"}


def as_read_anew(result: Result, runs: tuple[Run, ...]) -> Result:
    """What these runs give."""
    return rebuilt(replace(result, runs=runs))


def test_energy_is_that_of_a_run() -> None:
    conditions = Conditions(window_ms=1.0, num_samples=3, power_w=300.0, energy_j=40.0)

    def read(run: Run) -> Run:
        return replace(run, conditions=conditions) if isinstance(run, TimedRun) else run

    table = next(each for each in result_tables(make_result(edit=read)) if each.title == "Energy and conditions")
    assert [column.header for column in table.columns][2:4] == ["J a run", "GPU-s a run"]


def test_the_page_says_what_each_output_is() -> None:
    page = page_of(replace(RESULT, inputs=(CaseInput(case="small", output=make_output("small", "input")),)))
    outputs = next(each for each in page.sections if each.anchor == "pictures")
    assert outputs.title == "Outputs"
    lists = [block.items for block in outputs.blocks if isinstance(block, Bullets)]
    shape = " x ".join(map(str, SHAPE))
    assert lists[0][0] == f"input: tensor of shape {shape}, md5 {make_output('small', 'input').md5}"
    assert lists[0][1] == f"plain, folded: tensor of shape {shape}, md5 {make_output('small').md5}, the reference"
    assert lists[0][2].endswith(", at most 5 of 12 values differ (41.7%), relative L2 0.00023 at worst")
    assert len(lists[1]) == 2
    assert not any("was not kept" in item for items in lists for item in items)


@pytest.mark.parametrize(
    ("kind", "shape", "number", "told"),
    [
        ("text", (), 1, "text, md5"),
        ("number", (), 1, "number, md5"),
        ("nest", (), 12, "nest of 12 values, md5"),
        ("bytes", (), 1, "bytes, md5"),
    ],
)
def test_outputs_of_other_kinds_are_told_by_their_kind(
    kind: str, shape: tuple[int, ...], number: int, told: str
) -> None:
    def other(run: Run) -> Run:
        output = replace(run.output, kind=kind, shape=shape, num_values=number, spread=None)
        return replace(run, output=output, num_differing=None)

    result = make_result(edit=other)
    assert as_read(result) == result
    assert f"- plain, folded: {told}" in page_markdown(page_of(result))


def test_the_page_has_its_details_and_what_its_cases_ask_for(tmp_path: Path) -> None:
    for day in (1, 2):
        made = replace(RESULT, created=f"2027-01-0{day}T12:00:00+00:00")
        (tmp_path / str(day)).mkdir()
        write_json_atomic(tmp_path / str(day) / "result.json", made.to_json())
    page = build_page(load_sources([tmp_path / "1", tmp_path / "2"]))
    tables = {block.table.title: block.table for section in page.sections for block in table_blocks(section.blocks)}
    rows = {row[0]: row[1] for row in tables["Environment and cases"].rows}
    assert (rows["channels"], rows["dtype"]) == ("8", "bfloat16")
    assert (rows["length of small"], rows["length of large"]) == ("16", "4096")
    assert page.subtitle.startswith("codec.py \u00b7 NVIDIA H200 \u00b7 torch 2.11.0")
    assert any(section.anchor == "history" for section in page.sections)
    assert "<script>" not in page_html(page)


def table_blocks(blocks: tuple[object, ...]) -> list[TableBlock]:
    folded = [inner for block in blocks if isinstance(block, Fold) for inner in block.blocks]
    return [block for block in (*blocks, *folded) if isinstance(block, TableBlock)]


def test_a_limit_names_its_cases_and_stages() -> None:
    source = Source(result=RESULT, name="now.json")
    report = judge_result(source, parse_limits(["large/encode:5%", "decode:1%"]), None)
    assert (report.verdict, report.checks[0]) == ("pass", ("outputs", "pass"))
    assert [(cell.case, cell.stage, cell.variant) for cell in report.cells] == [
        ("small", "decode", "folded"),
        ("large", "encode", "folded"),
        ("large", "decode", "folded"),
    ]
    for text in ("ar:3%", "256/encode:3%"):
        with pytest.raises(UsageError):
            judge_result(source, parse_limits([text]), None)


def test_two_subjects_that_are_not_made_alike_are_not_compared() -> None:
    now = replace(RESULT, subject=replace(RESULT.subject, details={"channels": 16, "dtype": "bfloat16"}))
    report = judge_against(Source(result=RESULT, name="a"), Source(result=now, name="b"), parse_limits(["e2e:5%"]))
    assert report.exit_code == 5
    assert [each.message for each in report.findings] == ["a and b differ: channels 8 and 16"]


def test_details_are_words_of_which_none_is_too_large_for_a_page() -> None:
    details: dict[str, Scalar] = {"tokens": 10**30, "scale": 1e300, "offset": -5, "is_causal": True, "name": None}
    result = replace(RESULT, subject=replace(RESULT.subject, details=details))
    assert as_read(result) == result
    assert f"| tokens | {10**30} |" in page_markdown(page_of(result))


def test_it_is_archived_without_what_is_no_picture(tmp_path: Path) -> None:
    """Only pictures are shown of a committed result; a file of tensors would be loaded by nobody."""

    def kept(run: Run) -> Run:
        return replace(run, output=replace(run.output, path="small_plain.pt"))

    result = make_result(edit=kept)
    folder = tmp_path / "out"
    folder.mkdir()
    write_json_atomic(folder / "result.json", result.to_json())
    (folder / "small_plain.pt").write_bytes(b"tensors")
    archived = archive.archive(folder, tmp_path / "reports")
    assert sorted(path.name for path in archived.iterdir()) == ["result.json", "summary.md"]
    read = load_checked(archived)
    assert {each.path for each in read.outputs} == {None} and read.verdict == "pass"


def test_a_tolerance_of_the_largest_difference_reads_as_one() -> None:
    limit = Tolerance(kind="max_abs", limit=0.5)
    variants = (*RESULT.variants[:2], replace(RESULT.variants[2], tolerance=limit))
    result = as_read_anew(replace(RESULT, variants=variants), RESULT.runs)
    assert next(iter(tolerance_lines(result))).startswith(
        "- half at small: largest difference against plain at most 0.00023"
    )
