"""What vLLM, vLLM-Omni and SGLang wrote: read in ms, shown, and judged only where several runs show a spread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bagel_perf.cli import main
from bagel_perf.records.bench_files import BenchStage, bench_files
from bagel_perf.records.errors import UsageError

Capture = pytest.CaptureFixture[str]

OMNI = {
    "duration": 12.5,
    "completed_requests": 10,
    "failed_requests": 0,
    "throughput_qps": 0.8,
    "latency_mean": 1.25,
    "latency_median": 1.2,
    "latency_p99": 1.5,
    "latency_p50": 1.2,
    "peak_memory_mb_max": 2048.0,
    "stage_durations_mean": {"stage_0_gen_ms": 300.0, "BagelPipeline.vae.decode": 0.1, "denoise": 3.0},
    "stage_durations_p50": {"stage_0_gen_ms": 290.0, "BagelPipeline.vae.decode": 0.09, "denoise": 3.0},
    "stage_durations_p99": {"stage_0_gen_ms": 400.0, "BagelPipeline.vae.decode": 0.2, "denoise": 3.0},
    "backend": "v1/images/edits",
    "model": "BAGEL-7B-MoT",
    "dataset": "random",
    "task": "i2i",
}
VLLM = {
    "model_id": "BAGEL-7B-MoT",
    "backend": "openai-chat-omni",
    "num_prompts": 8,
    "request_rate": "inf",
    "max_concurrency": 1,
    "duration": 10.0,
    "completed": 8,
    "failed": 0,
    "request_throughput": 0.8,
    "mean_e2el_ms": 1250.0,
    "median_e2el_ms": 1240.0,
    "p99_e2el_ms": 1300.0,
    "stage_durations_mean": {"stage_1_gen_ms": 900.0},
}
SGLANG = {
    "timestamp": "2026-11-30T10:00:00+00:00",
    "request_id": "a",
    "commit_hash": "abc",
    "tag": "benchmark_dump",
    "total_duration_ms": 2000.0,
    "steps": [
        {"name": "TextEncodingStage", "duration_ms": 100.0},
        {"name": "DenoisingStage", "duration_ms": 1000.0},
        {"name": "DenoisingStage", "duration_ms": 500.0},
    ],
    "denoise_steps_ms": [{"step": 0, "duration_ms": 750.0}],
    "memory_checkpoints": {"after_forward": {"peak_allocated_mb": 1024.0}},
    "meta": {"model": "BAGEL"},
}


def written(path: Path, *contents: Any) -> Path:
    """A file, or with several contents a folder of them."""
    if len(contents) == 1:
        path.write_text(json.dumps(contents[0]))
        return path
    path.mkdir()
    for number, content in enumerate(contents):
        (path / f"run{number}.json").write_text(json.dumps(content))
    return path


def scaled(factor: float, number: int) -> dict[str, Any]:
    """A dump of SGLang whose denoising takes longer by a factor, with noise of its own."""
    noise = 1 + 0.001 * number
    steps = [
        {"name": "TextEncodingStage", "duration_ms": 100.0 * noise},
        {"name": "DenoisingStage", "duration_ms": 1500.0 * factor * noise},
    ]
    return {**SGLANG, "steps": steps, "total_duration_ms": sum(float(str(each["duration_ms"])) for each in steps)}


def test_each_form_is_read_in_ms(tmp_path: Path) -> None:
    (omni,) = bench_files(written(tmp_path / "omni.json", OMNI))
    assert (omni.form, omni.model, omni.num_requests, omni.num_failed) == ("vLLM-Omni", "BAGEL-7B-MoT", 10, 0)
    assert omni.stages == (
        BenchStage(stage="stage_0_gen_ms", mean_ms=300.0, p50_ms=290.0, p99_ms=400.0),
        BenchStage(stage="BagelPipeline.vae.decode", mean_ms=100.0, p50_ms=90.0, p99_ms=200.0),
        BenchStage(stage="e2e", mean_ms=1250.0, p50_ms=1200.0, p99_ms=1500.0),
    )
    assert omni.unknown == ("denoise",) and omni.peak_bytes == 2 * 2**30
    (vllm,) = bench_files(written(tmp_path / "vllm.json", VLLM))
    assert vllm.form == "vLLM" and vllm.asked["request_rate"] == "inf" and vllm.peak_bytes is None
    assert [(each.stage, each.typical_ms) for each in vllm.stages] == [("stage_1_gen_ms", 900.0), ("e2e", 1240.0)]
    (sglang,) = bench_files(written(tmp_path / "sglang.json", SGLANG))
    assert [(each.stage, each.typical_ms) for each in sglang.stages] == [
        ("TextEncodingStage", 100.0),
        ("DenoisingStage", 1500.0),
        ("e2e", 2000.0),
    ]
    assert (sglang.model, sglang.num_requests, sglang.num_failed, sglang.peak_bytes) == ("BAGEL", 1, None, 2**30)


def test_a_0_that_stands_for_nothing_is_unknown(tmp_path: Path) -> None:
    nothing = {**OMNI, "latency_mean": 0, "latency_median": 0, "latency_p50": 0, "latency_p99": 0}
    (found,) = bench_files(written(tmp_path / "a.json", {**nothing, "peak_memory_mb_max": 0}))
    assert "e2e" not in {each.stage for each in found.stages} and found.peak_bytes is None


def test_show_prints_what_is_told_and_names_what_is_not(tmp_path: Path, capsys: Capture) -> None:
    path = written(tmp_path / "omni.json", OMNI)
    assert main(["show", str(path), "--json", str(tmp_path / "out.json")]) == 0
    out = capsys.readouterr().out
    assert "What vLLM-Omni wrote: " in out and "290.0" in out and "The whole (e2e) is at the client" in out
    assert "not shown, as their unit is not known: denoise" in out
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["schema"] == "bagel-perf.bench" and found["files"][0]["num_requests"] == 10
    folder = written(tmp_path / "dumps", *(scaled(1.0, number) for number in range(3)))
    assert main(["show", str(folder)]) == 0
    assert "3 files" in capsys.readouterr().out


def test_two_files_have_no_spread_and_so_no_verdict(tmp_path: Path, capsys: Capture) -> None:
    before, after = written(tmp_path / "a.json", OMNI), written(tmp_path / "b.json", {**OMNI, "latency_p50": 9.0})
    assert main(["gate", "result", str(after), "--reference", str(before)]) == 4
    out, err = capsys.readouterr()
    assert "not paired: what else changed between the two" in out and "6 of each are needed" in out
    assert err.startswith("error: inconclusive")


def test_six_files_of_each_side_are_judged_stage_by_stage(tmp_path: Path, capsys: Capture) -> None:
    before = written(tmp_path / "before", *(scaled(1.0, number) for number in range(6)))
    slow = written(tmp_path / "slow", *(scaled(1.2, number) for number in range(6)))
    same = written(tmp_path / "same", *(scaled(1.0, number) for number in reversed(range(6))))
    assert main(["gate", "result", str(same), "--reference", str(before), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "pass"
    assert main(["gate", "result", str(slow), "--reference", str(before), "--json", "-"]) == 1
    cells = json.loads(capsys.readouterr().out)["cells"]
    states = {cell["stage"]: cell["verdict"] for cell in cells}
    assert states == {"TextEncodingStage": "pass", "DenoisingStage": "fail", "e2e": "fail"}
    assert not any(cell["is_paired"] for cell in cells)
    assert main(["gate", "result", str(slow), "--reference", str(before), "--limit", "DenoisingStage:30%"]) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [({"model": "other"}, "model is other, against BAGEL-7B-MoT"), ({"task": "t2i"}, "task is t2i, against i2i")],
)
def test_unlike_runs_are_not_judged(change: dict[str, str], words: str, tmp_path: Path, capsys: Capture) -> None:
    before, after = written(tmp_path / "a.json", OMNI), written(tmp_path / "b.json", {**OMNI, **change})
    assert main(["gate", "result", str(after), "--reference", str(before)]) == 5
    assert words in capsys.readouterr().err


def test_requests_that_failed_end_in_code_6(tmp_path: Path, capsys: Capture) -> None:
    before, after = written(tmp_path / "a.json", OMNI), written(tmp_path / "b.json", {**OMNI, "failed_requests": 2})
    assert main(["gate", "result", str(after), "--reference", str(before)]) == 6
    assert "2 requests failed in b.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({**SGLANG, "total_duration_ms": "2000"}, "total_duration_ms is no duration (2000)"),
        ({**SGLANG, "total_duration_ms": -1}, "total_duration_ms is no duration (-1)"),
        ({**SGLANG, "steps": [{"duration_ms": 1}]}, "steps[0] has no name"),
        (
            {**SGLANG, "steps": [{"name": "a", "duration_ms": None}]},
            "steps[0].duration_ms is no duration; ms, 0 or more",
        ),
        ({**OMNI, "completed_requests": 1.5}, "completed_requests is no number of requests (1.5)"),
        ({**VLLM, "failed": "some"}, "failed is no number of requests (some)"),
        ({"request_throughput": 1.0, "completed": 3}, "no duration in it; latencies or stage_durations_mean"),
    ],
)
def test_a_file_that_cannot_be_is_refused_in_one_line(
    content: dict[str, Any], words: str, tmp_path: Path, capsys: Capture
) -> None:
    path = written(tmp_path / "a.json", content)
    with pytest.raises(UsageError):
        bench_files(path)
    assert main(["show", str(path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: benchmark file is not usable") and words in err and err.count("\n") == 1


def test_what_is_none_of_these_is_left_to_others(tmp_path: Path, capsys: Capture) -> None:
    path = written(tmp_path / "a.json", {"latency": 3})
    assert bench_files(path) == bench_files(tmp_path / "nothing.json") == bench_files(tmp_path) == ()
    assert main(["show", str(path)]) == 2 and "result file is not usable" in capsys.readouterr().err


@pytest.mark.parametrize("other", [OMNI, {"a": 1}])
def test_a_folder_of_unlike_files_is_refused(other: dict[str, Any], tmp_path: Path, capsys: Capture) -> None:
    folder = written(tmp_path / "mixed", SGLANG, other)
    assert main(["show", str(folder)]) == 2
    assert "folder holds something else (" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["omni.json"], "a file of another benchmark has no reference in it"),
        (["omni.json", "--reference", "sglang.json"], "two forms of benchmark measure other things"),
        (["omni.json", "--reference", "nothing.json"], "reference is no result file"),
        (["omni.json", "--reference", "omni.json", "--variant", "a"], "--variant is for results of compare"),
        (["omni.json", "--reference", "omni.json", "--limit", "dit:3%"], "unknown stage of a limit"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    written(Path("omni.json"), OMNI)
    written(Path("sglang.json"), SGLANG)
    assert main(["gate", "result", *arguments]) == 2
    assert words in capsys.readouterr().err
