"""A result is believed for its samples alone: whatever else a file states has to follow from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bagel_perf.cli import main
from bagel_perf.commands.gate_result import BAGEL_STAGES
from bagel_perf.records.errors import EnvironmentUnfit, OutputsDiffer, RunFailed, UsageError
from bagel_perf.records.results import Result, load
from bagel_perf.verdicts.reading import checked, load_checked, read_result
from committed_results import committed
from edited_json import setting
from gated_results import make_result, with_picture

RESULT = make_result({"pr3987": {"e2e": -5.0}, "sync_free": {"dit": -50.0}}, num_pairs=8)


def as_json(result: Result) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(result.to_json()))
    return data


@pytest.mark.parametrize("folder", committed("result.json"), ids=lambda path: path.name)
def test_a_committed_result_is_what_its_samples_give(folder: Path) -> None:
    read, stated = load_checked(folder), load(folder / "result.json")
    by_pair = ("deltas", "noise", "ablations", "stage_sums", "unit") if stated.unit == "pair" else ()
    anew = {name: getattr(read, name) for name in ("steps", "cells", *by_pair)}
    assert read == replace(stated, **anew), "the oldest files lack steps, and numbers of cells"
    assert [cell.median_ms for cell in read.cells] == [cell.median_ms for cell in stated.cells]


@pytest.mark.parametrize(
    "result",
    [
        RESULT,
        make_result({"sync_free": {}}, num_pairs=1),
        make_result({"sync_free": {}}, num_pairs=0),
        make_result({"sync_free": {}}, error=RunFailed("out of memory", value=1, remedy="less")),
        make_result({"sync_free": {}}, error=EnvironmentUnfit("another driver")),
        make_result({"sync_free": {}}, error=OutputsDiffer("another picture than in main")),
        make_result({"sync_free": {}}, edit=lambda run: with_picture(run, "sync_free")),
        make_result({"sync_free": {}}, sizes=((256, 256), (64, 32))),
    ],
    ids=["passed", "one pair", "no pair", "ended early", "unfit", "unlike main", "another picture", "two sizes"],
)
def test_whatever_compare_writes_comes_back(result: Result) -> None:
    assert checked(as_json(result)) == result


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        ("verdict", "incomplete", "exit code 0 does not go with the verdict incomplete"),
        ("complete", False, "complete is False"),
        ("findings", ["all is well"], "findings is 1 in all"),
        ("cells", [], "cells is 0 in all"),
        ("cells.0.median_ms", 1.0, "cells[0].median_ms is 1"),
        ("cells.0.latency_ms.3", 1.0, "cells[0].latency_ms[3] is 1"),
        ("cells.1.host_syncs", 0, "cells[1].host_syncs is 0"),
        ("cells.1.launches", 7, "cells[1].launches is 7); its samples give null"),
        ("cells.1.variant", "fused", "cells[1].variant is fused"),
        ("cells.0.syncs_by_component", {"merge_kv": 3}, "cells[0].syncs_by_component is"),
        ("cells.0.sync_device", "cuda", "cells[0].sync_device is cuda"),
        ("cells.0.peak_bytes", -1, "cells[0].peak_bytes cannot be shown (-1)"),
        ("outputs.1.md5", "0" * 32, "outputs[1].md5 is 000"),
        ("identity.0.identical", False, "identity[0].identical is False"),
        ("identity.0.num_runs", 1000, "identity[0].num_runs is 1000"),
        ("deltas.0.delta_pct", -99.0, "deltas[0].delta_pct is -99"),
        ("deltas.0.ci_pct.1", 90.0, "deltas[0].ci_pct[1] is 90"),
        ("deltas.0.verdict", "regressed", "deltas[0].verdict is regressed"),
        ("steps.1.delta_pct", -3.0, "steps[1].delta_pct is -3"),
        ("stage_sums.0.apart_pct", 50.0, "stage_sums[0].apart_pct is 50"),
        ("excluded", [{"case": "256x256", "round": 0, "variant": "baseline", "reason": "slow"}],
         "excluded is 1 in all"),
        ("noise",
         [{"case": "256x256", "stage": "ar", "delta_pct": 0.0, "ci_pct": None, "floor_pct": 0.1, "num_pairs": 6}],
         "noise is 1 in all"),
        ("pairs", 3, "runs[18] is of round 4, and there were 3"),
        ("processes", 3, "processes is 3"),
        ("seed", 7, "outputs is 3 in all); its samples give 0 in all"),
        ("runs.0.variant", "fused", "runs[0] is of no variant (fused); one of baseline"),
        ("runs.0.output.path", "../secret.png", "path of runs[0] leads elsewhere (../secret.png)"),
        ("runs.0.output.path", "x" * 5000, "path of runs[0] leads elsewhere (xxx"),
        ("outputs.0.path", "/etc/passwd", "outputs[0].path leads elsewhere (/etc/passwd)"),
        ("runs.20.measurements.0.latency_ms", 5e-324, "runs[20] has a latency of ar of 4.94066e-324 ms"),
        ("runs.20.measurements.0.latency_ms", 3.0, "its samples give"),
        ("variants.1.name", "sync_free", "variants name one twice"),
        ("order_seed", 10**80, "order_seed cannot be shown"),
    ],
)  # fmt: skip
def test_what_the_samples_contradict_is_refused_with_its_place(place: str, value: Any, named: str) -> None:
    data = as_json(RESULT)
    setting(place, value)(data)
    with pytest.raises(UsageError) as caught:
        checked(data)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_pass_without_timed_runs_is_refused() -> None:
    data = as_json(RESULT)
    data["runs"] = [run for run in data["runs"] if run["purpose"] != "timed"]
    with pytest.raises(UsageError, match=r"processes is 8\); its samples give 0"):
        checked(data)
    data["processes"] = 1
    with pytest.raises(UsageError, match=r"verdict is pass\); its samples give incomplete"):
        checked(data)


def test_a_round_that_is_timed_twice_is_refused() -> None:
    data = as_json(RESULT)
    data["runs"].append(data["runs"][-1])
    with pytest.raises(UsageError, match=r"times ar of sync_free a second time in round 8"):
        checked(data)


def test_what_an_older_file_lacks_is_worked_out() -> None:
    data = as_json(RESULT)
    for name in ("steps", "noise", "excluded"):
        del data[name]
    for delta in data["deltas"]:
        del delta["num_excluded"]
        delta["verdict"] = delta["verdict"].replace("inconclusive", "too few pairs")
    assert checked(data) == RESULT


def test_the_last_bit_of_a_logarithm_is_no_contradiction() -> None:
    data = as_json(RESULT)
    data["deltas"][0]["delta_pct"] *= 1 + 1e-12
    assert checked(data).deltas == RESULT.deltas


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"schema": "bagel-perf.result", "verdict": 1, "verdict": 2}', 'key "verdict" is given twice in an object'),
        ('{"a": NaN}', "NaN is no number of JSON"),
        ('{"a": -Infinity}', "-Infinity is no number of JSON"),
        ('{"a": 1e999}', "number 1e999 is out of range"),
        ('{"a": ' + "9" * 5000 + "}", "5000 digits"),
        ('{"a": "\x1b"}', "control character"),
        ("{} {}", "Extra data"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_json_that_says_two_things_or_none_is_refused(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=named):
        read_result(path)


@pytest.mark.parametrize("command", [("gate", "result", "result.json"), ("report", "result.json", "--out", "page")])
def test_every_command_refuses_it(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = as_json(RESULT)
    data["deltas"][BAGEL_STAGES.index("dit")]["delta_pct"] = -99.0
    Path("result.json").write_text(json.dumps(data))
    assert main(list(command)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: result file is not usable (") and error.count("\n") == 1
    assert "deltas[1].delta_pct is -99" in error
