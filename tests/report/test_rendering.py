"""Tables say what the result says, fit into 100 columns, and never show a wrong picture as fast."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from bagel_perf.records.errors import BagelPerfError, RunFailed
from bagel_perf.records.results import Result
from bagel_perf.records.runs import Environment, Run, TensorCheck, Verification
from bagel_perf.report.summary import result_markdown
from bagel_perf.report.tables import result_tables
from bagel_perf.report.text import print_result, print_verification
from bagel_perf.verdicts.compare import Session, build_result
from scripted import CPU, ENVIRONMENT, make_outline, make_plan, make_runs

PLAN = make_plan(((256, 256), (1024, 1024)))


def make_result(
    *,
    pairs: int = 5,
    environment: Environment = ENVIRONMENT,
    change: Callable[[Run], Run] = lambda run: run,
    error: BagelPerfError | None = None,
) -> Result:
    session = Session(
        command="bagel-perf compare", created="2026-01-31", pairs=pairs, warmup=1, order_seed=0, processes=pairs
    )
    runs = [change(run) for run in make_runs(PLAN, pairs)]
    return build_result(make_outline(PLAN), environment, runs, session, error=error)


def text_of(result: Result) -> str:
    stream = io.StringIO()
    print_result(result, Path("reports/a/result.json"), stream)
    return stream.getvalue()


def row(text: str, *starts: str) -> list[str]:
    """The cells of the first row that starts with the given cells."""
    rows = (re.split(r"\s{2,}", line.strip()) for line in text.splitlines())
    return next(cells for cells in rows if cells[: len(starts)] == list(starts))


def test_the_latency_table_reads_as_in_the_pull_request() -> None:
    text = text_of(make_result())
    assert row(text, "256x256", "AR") == [
        "256x256",
        "AR",
        "200.0",
        "180.0",
        "-10.0",
        "-10.0",
        "5 processes, 6 needed",
        "inconclusive",
    ]
    assert "Latency on NVIDIA H200, 7b preset: baseline -> pr3987" in text
    assert "Latency on NVIDIA H200, 7b preset: baseline -> sync_free" in text
    headers = [column.header for column in result_tables(make_result())[0].columns]
    assert headers[2:6] == ["before (ms)", "after (ms)", "delta of medians (%)", "paired change (%)"]


def test_six_pairs_show_their_interval() -> None:
    assert row(text_of(make_result(pairs=6)), "1024x1024", "DiT")[4:] == [
        "-10.0",
        "-10.0",
        "-10.0 to -10.0",
        "improved",
    ]


def test_the_sync_table_has_a_column_per_variant() -> None:
    text = text_of(make_result())
    below = text[text.index("Host syncs") :]
    assert row(below, "case", "stage") == ["case", "stage", "baseline", "pr3987", "sync_free"]
    assert row(below, "256x256", "DiT") == ["256x256", "DiT", "6000", "4000", "1"]
    assert "counted on a simulated device" in text


def test_the_identity_table_says_yes_and_no() -> None:
    def wrong(run: Run) -> Run:
        bad = run.variant == "sync_free" and run.case == "1024x1024"
        return replace(run, output=replace(run.output, md5=run.output.md5[::-1])) if bad else run

    text = text_of(make_result(change=wrong))
    below = text[text.index("Pictures") :]
    assert row(below, "256x256", "sync_free")[3:] == ["yes", "8"]
    assert row(below, "1024x1024", "sync_free")[3:] == ["NO", "8"]
    assert row(text[text.index("-> sync_free") :], "1024x1024", "DiT")[3:] == ["-", "-", "-", "-", "not judged"]
    assert "verdict: outputs differ (exit code 3)" in text
    assert "- sync_free at 1024x1024 differs from baseline" in text


def test_a_cpu_says_that_it_predicts_nothing() -> None:
    text = text_of(make_result(environment=CPU))
    assert "CPU latency (predicts nothing about a GPU), 7b preset: baseline -> pr3987" in text


def test_the_last_line_says_where_and_what_next() -> None:
    last = "result: reports/a/result.json; next: --processes 6 --pairs 12 for intervals and verdicts"
    assert text_of(make_result()).splitlines()[-1] == last
    failed = text_of(make_result(error=RunFailed("out of memory")))
    assert "- ended early: out of memory" in failed
    assert failed.splitlines()[-1].startswith("result: reports/a/result.json; next: mend")


def test_numbers_stand_to_the_right_in_markdown() -> None:
    lines = result_markdown(make_result()).splitlines()
    header = next(i for i, line in enumerate(lines) if "before (ms)" in line)
    assert lines[header + 1] == "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"
    assert (
        lines[header + 2] == "| 256x256 | AR | 200.0 | 180.0 | -10.0 | -10.0 | 5 processes, 6 needed | inconclusive |"
    )


def test_markdown_and_text_show_the_same_cells() -> None:
    result = make_result(pairs=6)
    text = text_of(result)
    for line in result_markdown(result).splitlines():
        if line.startswith("| ") and "---" not in line:
            words = {word for cell in line.strip("| ").split(" | ") for word in cell.split()}
            assert all(word in text for word in words)


@pytest.mark.parametrize("wrong", [True, False])
def test_a_failing_tensor_is_listed_by_name(wrong: bool) -> None:
    error = 0.5 if wrong else 0.02
    checks = (
        TensorCheck(variant="baseline", tensor="i2i.main.k.0", error=0.001, limit=0.015, ok=True),
        TensorCheck(variant="baseline", tensor="i2i_global.latent", error=error, limit=0.04, ok=not wrong),
    )
    stream = io.StringIO()
    print_verification(Verification(variants=("baseline",), checks=checks), stream)
    text = stream.getvalue()
    assert row(text, "kv cache") == ["kv cache", "1", "i2i.main.k.0", "0.001", "0.015", "yes"]
    assert ("FAILED baseline: i2i_global.latent, error 0.5, limit 0.04" in text) is wrong
    assert text.splitlines()[-1] == f"verdict: {'outputs differ' if wrong else 'pass'}, 2 checks, {int(wrong)} failed"


def test_a_variant_without_checks_does_not_pass() -> None:
    check = TensorCheck(variant="baseline", tensor="x", error=0.0, limit=0.0, ok=True)
    verification = Verification(variants=("baseline", "pr3987"), checks=(check,))
    stream = io.StringIO()
    print_verification(verification, stream)
    assert not verification.ok
    assert "FAILED pr3987: nothing was checked" in stream.getvalue()
