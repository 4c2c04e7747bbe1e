"""The result file keeps the keys of its contract and comes back equal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from bagel_perf.records.errors import UsageError
from bagel_perf.records.outlines import SubjectInfo, Tolerance, VariantInfo
from bagel_perf.records.results import Cell, Delta, IdentityCheck, Result, ShownOutput, load, result_file
from bagel_perf.records.runs import RepeatedRun
from bagel_perf.records.store import write_json_atomic
from scripted import DETAILS, ENVIRONMENT, make_picture

RUN = RepeatedRun(variant="baseline", case="768x1024", seed=42, output=make_picture(768, 1024, 42))
CELL = Cell(
    case="768x1024",
    stage="ar",
    variant="baseline",
    latency_ms=(1.0, 3.0, 2.0),
    median_ms=2.0,
    host_syncs=7,
    launches=None,
    peak_bytes=None,
    syncs_by_component={"merge_kv": 7},
    sync_device="cuda",
)
RESULT = Result(
    environment=ENVIRONMENT,
    subject=SubjectInfo(kind="bagel", title="7b preset", details=DETAILS, asked={"256x256": {"steps": 24}}),
    cases=("768x1024", "256x256"),
    stages=("ar", "dit"),
    variants=(
        VariantInfo(name="baseline", target="baseline"),
        VariantInfo(name="sync_free", target="sync_free", tolerance=Tolerance(kind="psnr", limit=40.0)),
    ),
    num_named=2,
    seed=42,
    cells=(CELL,),
    outputs=(
        ShownOutput(
            case="256x256", variant="baseline", kind="picture", md5="a", sha256="b", path="256x256_baseline.png"
        ),
    ),
    identity=(IdentityCheck(case="256x256", reference="baseline", candidate="sync_free", identical=True, num_runs=8),),
    deltas=(
        Delta(
            case="256x256",
            stage="dit",
            reference="baseline",
            candidate="sync_free",
            delta_pct=-16.4,
            ci_pct=(-17.0, -15.8),
            num_pairs=6,
            verdict="improved",
        ),
    ),
    verdict="pass",
    exit_code=0,
    complete=True,
    command="bagel-perf compare",
    created="2026-01-31T12:00:00+00:00",
    pairs=3,
    warmup=1,
    order_seed=9,
    runs=(RUN,),
)

CONTRACT = {
    "": {
        "schema",
        "version",
        "environment",
        "subject",
        "cases",
        "stages",
        "variants",
        "num_named",
        "seed",
        "cells",
        "outputs",
        "identity",
        "deltas",
        "verdict",
        "exit_code",
    },
    "variants": {"name", "target", "tolerance", "made_with"},
    "cells": {"case", "stage", "variant", "latency_ms", "median_ms", "host_syncs", "launches", "peak_bytes"},
    "outputs": {"case", "variant", "kind", "md5", "sha256", "path"},
    "identity": {"case", "reference", "candidate", "identical", "tolerance", "distance", "num_differing"},
    "deltas": {"case", "stage", "reference", "candidate", "delta_pct", "ci_pct", "verdict"},
}


def test_the_file_has_every_key_of_the_contract() -> None:
    data = RESULT.to_json()
    assert (data["schema"], data["version"]) == ("bagel-perf.result", 2)
    assert data["subject"]["details"]["preset"] == "7b"
    for place, keys in CONTRACT.items():
        record = data if not place else data[place][0]
        assert keys <= record.keys(), place


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json_atomic(path, RESULT.to_json())
    assert load(path) == RESULT


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "is empty"),
        ("[]", "bagel-perf.result"),
        ('{"schema": "bagel-perf.trace", "version": 1}', "bagel-perf.trace"),
        ('{"schema": "bagel-perf.result", "version": 3}', "version"),
        ('{"schema": "bagel-perf.result", "version": 2}', "environment"),
        ('{"schema": "bagel-perf.result", "version": 1}', "environment"),
    ],
)
def test_a_foreign_file_is_a_usage_error(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=named) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_an_unreadable_file_is_a_usage_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "result.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError):
        load(path)


def test_a_value_of_a_wrong_type_is_named_by_its_place(tmp_path: Path) -> None:
    data = json.loads(json.dumps(RESULT.to_json()))
    data["cells"][0]["latency_ms"][2] = "fast"
    path = tmp_path / "result.json"
    path.write_text(json.dumps(data))
    with pytest.raises(UsageError, match=r"cells\[0\]\.latency_ms\[2\]"):
        load(path)


def test_a_cell_has_a_median_exactly_when_it_has_latencies() -> None:
    with pytest.raises(UsageError):
        replace(CELL, latency_ms=())
    assert replace(CELL, latency_ms=(), median_ms=None).latency_ms == ()


def test_a_folder_of_two_results_names_them(tmp_path: Path) -> None:
    for name in ("candidate", "reference"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match=r"did you mean \S*candidate or \S*reference\?"):
        load(result_file(tmp_path))
