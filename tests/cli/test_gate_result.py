"""A result file is judged again without running anything, and the exit code says what came out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bagel_perf import launch
from bagel_perf.cli import main
from bagel_perf.records.errors import RunFailed
from bagel_perf.records.results import Result
from bagel_perf.records.store import write_json_atomic
from bagel_perf.verdicts.reading import rebuilt
from gated_results import make_result, with_names, with_picture
from scripted import ENVIRONMENT

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current one; no worker can be started in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "WORKER_COMMAND", ("no worker is to be started",))
    return tmp_path


def keep(name: str, result: Result, **environment: Any) -> str:
    data = result.to_json()
    data["environment"] |= environment
    write_json_atomic(Path(name), data)
    return name


SLOWER = make_result({"sync_free": {"dit": 5.0}}, load=(1.0,) * 10)
SAME = make_result({"sync_free": {}}, load=(1.0,) * 10)
WRONG = make_result({"sync_free": {"dit": 5.0}}, edit=lambda run: with_picture(run, "sync_free"))


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (SAME, 0),
        (SLOWER, 1),
        (WRONG, 3),
        (make_result({"sync_free": {}}, num_pairs=5), 4),
        (make_result({"sync_free": {}}, error=RunFailed("out of memory")), 6),
    ],
)
def test_a_verdict_is_an_exit_code(result: Result, code: int, capsys: Capture) -> None:
    keep("result.json", result)
    assert main(["gate", "result", "result.json", "--limit", "dit:3%"]) == code
    assert main(["gate", "result", ".", "--limit", "dit:3%", "--quiet", "--json", "gate.json"]) == code
    assert json.loads(Path("gate.json").read_text())["exit_code"] == code
    assert capsys.readouterr().out.count("\ngate: ") == 1


def test_data_is_alone_on_stdout(capsys: Capture) -> None:
    keep("result.json", SLOWER)
    assert (
        main(["gate", "result", "result.json", "--json", "-", "--limit", "dit:3%", "--limit", "e2e:+5ms", "--github"])
        == 1
    )
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert (data["schema"], data["verdict"], [cell["verdict"] for cell in data["cells"]]) == (
        "bagel-perf.gate",
        "regressed",
        ["fail", "fail"],
    )
    assert "::error title=bagel-perf%3A regressed::sync_free at 256x256: dit +5.0" in err


def test_a_reference_file_of_the_same_machine_is_a_reference(capsys: Capture) -> None:
    keep("before.json", SAME, commit="aaa0000")
    keep("now.json", SLOWER)
    assert main(["gate", "result", "now.json", "--reference", "before.json", "--limit", "dit:3%"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("Latency on NVIDIA H200, 7b preset: baseline, sync_free in now.json (abc1234)")
    assert "note: the two were not measured in turns" in out
    assert main(["gate", "result", "before.json", "--reference", "now.json", "--limit", "dit:3%"]) == 0


def test_another_machine_is_none(capsys: Capture) -> None:
    keep("before.json", SAME, driver="590.1", torch="2.12.0")
    keep("now.json", SLOWER)
    assert main(["gate", "result", "now.json", "--reference", "before.json", "--limit", "dit:3%"]) == 5
    assert capsys.readouterr().err == (
        "error: unlike environments (before.json and now.json differ: "
        "torch 2.12.0 and 2.11.0; driver 590.1 and 580.1)\n"
    )


def test_a_field_that_an_older_version_did_not_write_is_skipped_and_said(capsys: Capture) -> None:
    """Which of the fields will be optional one day does not matter here."""
    keep("before.json", SAME)
    keep("now.json", SAME, gpu_uuid="GPU-1")
    assert main(["gate", "result", "now.json", "--reference", "before.json", "--limit", "dit:3%"]) == 0
    assert "note: not compared, as one of the files does not record it: gpu_uuid" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.json"], "result file cannot be read (none.json)"),
        (["text.json"], "result file is no JSON, or cut off (text.json)"),
        (["result.json", "--limit", "dit"], "limit is not understood ('dit'); [CASE/]STAGE:N%"),
        (["result.json", "--limit", "dit:3%", "--limit", "dit:4%"], "limit is given twice"),
        (["result.json", "--reference", "HEAD"], "reference is no result file (HEAD); bagel-perf gate revision REV"),
        (["result.json", "--pairs", "6"], "No such option: --pairs"),
        (["result.json", "--json", "missing/x.json"], "JSON cannot be written there (missing/x.json)"),
        (["result.json", "--html", "result.json"], "output would replace what is read (--html result.json)"),
        (["result.json", "--json", "link.json"], "a file is in the way of the JSON (link.json)"),
        (["result.json", "--junit", "./result.json"], "output would replace what is read (--junit result.json)"),
        (["result.json", "--html", "a", "--junit", "./a"], "two outputs go to one file (--junit and --html a)"),
        (["result.json", "--json", "a", "--summary", "b/../a"], "two outputs go to one file (--summary and --json a)"),
        (["result.json", "--html", "-"], "--html needs a file (-); only --json goes to stdout"),
        (["result.json", "--junit", "-"], "--junit needs a file (-); only --json goes to stdout"),
        (["result.json", "--summary", "-"], "--summary needs a file (-); only --json goes to stdout"),
        (
            ["result.json", "--html", "x" * 300],
            "--html cannot be written there (" + "x" * 300 + "); File name too long",
        ),
        (["result.json", "--json", "x" * 300], "JSON cannot be written there (" + "x" * 300 + "); File name too long"),
    ],
)
def test_what_cannot_be_judged_is_one_line(arguments: list[str], message: str, capsys: Capture) -> None:
    keep("result.json", SAME)
    Path("text.json").write_text("x")
    Path("link.json").symlink_to("result.json")
    Path("b").mkdir()
    before = Path("result.json").read_bytes()
    assert main(["gate", "result", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and err.startswith(f"error: {message}")
    assert Path("result.json").read_bytes() == before


def test_a_name_of_a_variant_that_is_not_known_any_more_is_judged_too(capsys: Capture) -> None:
    renamed = [replace(run, variant="turbo") if run.variant == "sync_free" else run for run in SLOWER.runs]
    keep("result.json", rebuilt(replace(SLOWER, variants=with_names("baseline", "turbo"), runs=tuple(renamed))))
    assert main(["gate", "result", "result.json", "--limit", "dit:3%"]) == 1
    assert "regressed: turbo at 256x256: dit" in capsys.readouterr().out


def test_a_hostile_name_stays_text(capsys: Capture) -> None:
    name = "a|b<script>\n::error::x"
    renamed = [replace(run, variant=name) if run.variant == "sync_free" else run for run in SLOWER.runs]
    odd = rebuilt(replace(SLOWER, variants=with_names("baseline", name), runs=tuple(renamed)))
    keep("result.json", replace(odd, environment=replace(ENVIRONMENT, device_name="[x](y)")))
    assert main(["gate", "result", "result.json", "--limit", "dit:3%", "--summary", "s.md", "--github"]) == 1
    markdown = Path("s.md").read_text()
    assert "\\[x\\](y)" in markdown and "| a\\|b\\<script\\> ::error::x |" in markdown
    commands = [line for line in capsys.readouterr().out.splitlines() if line.startswith("::error")]
    assert len(commands) == 1 and "%0A::error::x" in commands[0]


def test_a_device_takes_any_number_of_outputs_and_an_earlier_report_is_replaced() -> None:
    keep("result.json", SAME)
    Path("gate.json").write_text('{"schema": "bagel-perf.gate"}')
    arguments = [
        "gate",
        "result",
        "result.json",
        "--junit",
        "/dev/null",
        "--summary",
        "/dev/null",
        "--json",
        "gate.json",
    ]
    assert main([*arguments, "--limit", "dit:3%", "--quiet"]) == 0
    assert json.loads(Path("gate.json").read_text())["verdict"] == "pass"
