"""The commands keep their contract: exit codes, one-line errors, data on stdout, results that survive."""

from __future__ import annotations

import builtins
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bagel_perf import __main__ as program
from bagel_perf.cli import main
from bagel_perf.commands.common import requests_of
from bagel_perf.records.bagel import BUILT_IN, COMPONENTS, HELP_COMMAND
from bagel_perf.records.results import load

UseWorker = Callable[[str], tuple[str, ...]]
Capture = pytest.CaptureFixture[str]

THREE = "baseline,pr3987,sync_free"
COMPARE = ["compare", "--res", "256", "--variants", THREE]


def only_result(folder: Path) -> Path:
    (path,) = (folder / "reports").glob("*/result.json")
    return path


def test_a_comparison_prints_tables_and_keeps_result_and_one_picture_per_md5(
    use_worker: UseWorker, tmp_path: Path, capsys: Capture
) -> None:
    use_worker("good")
    assert main([*COMPARE, "--res", "768x1024"]) == 0
    path = only_result(tmp_path)
    assert path.parent.name.endswith("_cpu_abc1234")
    assert sorted(each.name for each in path.parent.iterdir()) == [
        "256x256_baseline.png",
        "768x1024_baseline.png",
        "result.json",
        "summary.md",
    ]
    result = load(path)
    assert result.complete
    assert {image.path for image in result.outputs} == {"256x256_baseline.png", "768x1024_baseline.png"}
    assert not [name for name in os.listdir("reports") if name.startswith(".")]
    out, err = capsys.readouterr()
    assert "CPU latency" in out
    assert out.splitlines()[-1].startswith("result: reports/")
    assert "making weights" in err
    assert "baseline: timed" in err


def test_the_way_from_variant_to_variant_stands_in_place_of_the_latency_tables(
    use_worker: UseWorker, capsys: Capture
) -> None:
    use_worker("good")
    assert main([*COMPARE, "--successive"]) == 0
    out = capsys.readouterr().out
    assert "from variant to variant at 256x256" in out
    assert "before (ms)" not in out


@pytest.mark.parametrize("variants", ["baseline,approx_norm", THREE])
def test_a_cpu_says_that_it_tests_no_tolerance(use_worker: UseWorker, capsys: Capture, variants: str) -> None:
    use_worker("good")
    assert main(["compare", "--res", "256", "--variants", variants]) == 0
    warning = "- warning: on a CPU approx_norm runs without Triton kernels: the picture is the baseline's to the bit"
    assert (warning in capsys.readouterr().out) == ("approx_norm" in variants)


def test_what_cannot_be_taken_apart_is_refused_before_anything_runs(capsys: Capture) -> None:
    assert main(["compare", "--ablate", "--variants", "pr3987,sync_free"]) == 2
    assert capsys.readouterr().err == (
        "error: these variants cannot be taken apart (pr3987,sync_free); "
        "baseline first and last one of pr3987, sync_free, captured, fused; --variants baseline,fused\n"
    )


def test_the_file_holds_no_path_of_the_machine_that_made_it(use_worker: UseWorker, tmp_path: Path) -> None:
    use_worker("good")
    main(COMPARE)
    assert str(tmp_path) not in only_result(tmp_path).read_text()


def test_a_second_comparison_leaves_the_first_alone(use_worker: UseWorker) -> None:
    use_worker("good")
    assert main(COMPARE) == main(COMPARE) == 0
    assert len(os.listdir("reports")) == 2


def test_json_on_stdout_is_alone_there(use_worker: UseWorker, capsys: Capture) -> None:
    use_worker("good")
    assert main([*COMPARE, "--json", "-"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["schema"] == "bagel-perf.result"
    assert "Host syncs" in err


def test_quiet_prints_nothing(use_worker: UseWorker, capsys: Capture) -> None:
    use_worker("good")
    assert main([*COMPARE, "--quiet", "--json", "copy.json"]) == 0
    assert capsys.readouterr() == ("", "")
    assert load(Path("copy.json")).verdict == "pass"


def test_out_is_the_folder_of_the_result_and_has_to_be_empty(use_worker: UseWorker, capsys: Capture) -> None:
    use_worker("good")
    assert main([*COMPARE, "--out", "a/b"]) == 0
    before = sorted(os.listdir("a/b"))
    assert before == ["256x256_baseline.png", "result.json", "summary.md"]
    assert main([*COMPARE, "--out", "a/b"]) == 2
    assert "not an empty folder (a/b)" in capsys.readouterr().err
    assert sorted(os.listdir("a/b")) == before


def test_a_wrong_picture_exits_with_3_and_is_kept(use_worker: UseWorker, tmp_path: Path, capsys: Capture) -> None:
    use_worker("differ")
    assert main(COMPARE) == 3
    path = only_result(tmp_path)
    assert {"256x256_baseline.png", "256x256_sync_free.png"} <= set(os.listdir(path.parent))
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: outputs differ (sync_free at 256x256 differs from baseline)")


@pytest.mark.parametrize("behaviour", ["kill", "exit", "garbage"])
def test_a_dead_worker_leaves_what_was_measured(
    use_worker: UseWorker, tmp_path: Path, capsys: Capture, behaviour: str
) -> None:
    use_worker(behaviour)
    assert main([*COMPARE, "--res", "512"]) == 6
    path = only_result(tmp_path)
    result = load(path)
    assert (result.verdict, result.complete, len(result.runs)) == ("incomplete", False, 10)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: the worker")
    assert last.endswith(f"what was measured is in {path.relative_to(tmp_path)}")


def test_an_error_before_anything_was_measured_leaves_nothing(use_worker: UseWorker, capsys: Capture) -> None:
    use_worker("error")
    assert main(COMPARE) == 2
    assert capsys.readouterr().err == "error: picture cannot be read (x.png)\n"
    assert os.listdir("reports") == []


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_job_that_is_stopped_keeps_what_was_measured(
    use_worker: UseWorker, tmp_path: Path, signal_number: signal.Signals
) -> None:
    worker = use_worker("hang")
    script = (
        "import sys; from bagel_perf import cli, launch;"
        "launch.WORKER_COMMAND = sys.argv[1:4]; sys.exit(cli.main(sys.argv[4:]))"
    )
    log = tmp_path / "log"
    with log.open("w") as stderr:
        command = [sys.executable, "-c", script, *worker, *COMPARE]
        job = subprocess.Popen(command, stderr=stderr, stdout=subprocess.DEVNULL, start_new_session=True)
        wait_until(lambda: "baseline: timed" in log.read_text() or job.poll() is not None)
        job.send_signal(signal_number)
        assert job.wait(20) == 6
    last = log.read_text().splitlines()[-1]
    assert last.startswith("error: interrupted; what was measured is in reports/")
    assert load(only_result(tmp_path)).error == "interrupted"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["paint"], "paint"),
        (["compare", "--bogus"], "--bogus"),
        (["compare", "--steps", "many"], "--steps"),
        (["compare", "--steps", "1"], "too few steps (1)"),
        (["compare", "--res", "1000"], "1000x1000"),
        (["compare", "--res", "2048"], "2048x2048"),
        (["compare", "--res", "big"], "big"),
        (["compare", "--res", "256", "--res", "256x256"], "twice"),
        (["compare", "--prompt", "  "], "prompt is empty"),
        (["compare", "--variants", "fast"], "unknown variant (fast)"),
        (["compare", "--variants", ""], "a variant has no name ('')"),
        (["compare", "--successive", "--variants", ""], "a variant has no name ('')"),
        (["syncs", "--variant", ""], "a variant has no name ('')"),
        (["verify", ".", "--variants", "baseline,"], "a variant has no name ('baseline,')"),
        (["compare", "--variants", "baseline"], "too few variants"),
        (["compare", "--image", "missing.png"], "missing.png"),
        (["compare", "--image", "."], "picture does not exist"),
        (["compare", "--weights", "missing"], "missing"),
        (["compare", "--task", "video"], "allowed: i2i, t2i"),
        (["compare", "--preset", "13b"], "allowed: auto, 7b, tiny"),
        (["compare", "--device", "tpu"], "allowed: auto, cuda, cpu"),
        (["compare", "--attention", "slow"], "allowed: auto, cudnn, flash, math"),
        (["compare", "--pairs", "0"], "too few pairs (0)"),
        (["compare", "--out", "file"], "not an empty folder (file)"),
        (["compare", "--out", "file/sub"], "cannot be written"),
        (["verify"], "DIR"),
        (["verify", "missing"], "golden folder does not exist (missing)"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    use_worker: UseWorker, capsys: Capture, arguments: list[str], named: str
) -> None:
    use_worker("good")
    Path("file").write_text("")
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert named in err
    assert os.listdir(".") == ["file"]


def test_a_fault_of_ours_is_one_line_too_and_debug_shows_it(
    use_worker: UseWorker, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_worker("good")
    monkeypatch.setattr("bagel_perf.recorder.Recorder.finish", lambda *_: 1 / 0)
    assert main([*COMPARE, "--quiet"]) == 6
    assert capsys.readouterr().err.startswith("error: internal error (ZeroDivisionError: division by zero); --debug")
    assert main([*COMPARE, "--quiet", "--debug"]) == 6
    assert "Traceback" in capsys.readouterr().err


def test_debug_shows_what_the_worker_said(use_worker: UseWorker, capsys: Capture) -> None:
    use_worker("kill")
    assert main([*COMPARE, "--debug"]) == 6
    assert "\nalmost full\n" in capsys.readouterr().err


def test_verify_passes_and_fails_by_name(use_worker: UseWorker, tmp_path: Path, capsys: Capture) -> None:
    use_worker("good")
    assert main(["verify", str(tmp_path), "--variants", THREE, "--json", "-"]) == 0
    data = json.loads(capsys.readouterr().out)
    expected = {"tensor": "i2i.main.k.0", "error": 0.004, "limit": 0.04, "ok": True}
    assert (data["schema"], data["version"], data["ok"]) == ("bagel-perf.verify", 1, True)
    assert list(data["variants"]) == ["baseline", "pr3987", "sync_free"]
    assert data["variants"]["baseline"][0] == expected
    use_worker("differ")
    assert main(["verify", str(tmp_path), "--variants", THREE]) == 3
    out, err = capsys.readouterr()
    assert "FAILED pr3987: i2i_global.latent" in out
    assert err.splitlines()[-1] == "error: golden tensors differ (1 of 9); pr3987 i2i_global.latent"


def test_help_names_every_option_of_the_contract(capsys: Capture) -> None:
    common = ["variants", "device", "attention", "json", "quiet", "debug"]
    own = ["res", "preset", "weights", "image", "prompt", "task", "steps", "seed", "pairs", "warmup", "out"]
    for command, options in {"compare": common + own, "verify": common}.items():
        assert main([command, "--help"]) == 0
        out = capsys.readouterr().out
        assert [option for option in options if f"--{option} " not in out] == []


def test_the_help_that_errors_point_to_lists_every_variant_and_component(capsys: Capture) -> None:
    assert HELP_COMMAND == "bagel-perf compare --help"
    assert main(["compare", "--help"]) == 0
    _, _, listed = capsys.readouterr().out.partition("Variants: ")
    assert [name for name in (*(built_in.name for built_in in BUILT_IN), *COMPONENTS) if name not in listed] == []


def test_variants_with_a_tolerance_are_verified_by_default_and_compared_only_when_named(capsys: Capture) -> None:
    shown = {}
    for command in ("compare", "verify"):
        assert main([command, "--help"]) == 0
        shown[command] = "".join(capsys.readouterr().out.split())
    bitwise = ",".join(built_in.name for built_in in BUILT_IN if built_in.is_bitwise)
    assert f"[default:({bitwise};with--successiveapprox_norm,too;with--ablatebaseline,fused)]" in shown["compare"]
    assert f"[default:{bitwise},approx_norm]" in shown["verify"]


def test_help_takes_less_than_four_tenths_of_a_second_of_a_core() -> None:
    """As long as on an idle machine, however busy this one is."""
    command = [sys.executable, "-m", "bagel_perf", "--help"]
    root = Path(__file__).resolve().parents[2]
    times_s = []
    for _ in range(5):
        before = os.times()
        subprocess.run(command, check=True, capture_output=True, cwd=root)
        after = os.times()
        times_s.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert 0 < min(times_s) < 0.4


def wait_until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_the_result_names_the_whole_command_as_a_shell_takes_it(use_worker: UseWorker) -> None:
    use_worker("good")
    arguments = [*COMPARE, "--prompt", "it's $HOME", "--quiet", "--out", "a b", "--json=copy.json"]
    assert main(arguments) == 0
    command = load(Path("copy.json")).command
    assert command.startswith("bagel-perf compare --res 256")
    assert shlex.split(command) == ["bagel-perf", *arguments]


def test_json_is_written_into_a_device_and_never_replaces_it(use_worker: UseWorker, tmp_path: Path) -> None:
    use_worker("good")
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    target.write_text("")
    link.symlink_to(target)
    assert main([*COMPARE, "--quiet", "--json", str(link)]) == 0
    assert link.is_symlink()
    assert json.loads(target.read_text())["schema"] == "bagel-perf.result"


@pytest.mark.parametrize("path", ["", "missing/folder.json", "."])
def test_an_unwritable_json_is_refused_before_anything_runs(use_worker: UseWorker, path: str, capsys: Capture) -> None:
    use_worker("good")
    assert main([*COMPARE, "--json", path]) == 2
    assert "choose another --json" in capsys.readouterr().err
    assert not Path("reports").exists()


def test_a_size_is_that_of_the_device_where_none_is_named() -> None:
    (by_default,) = requests_of((), "cpu", seed=7)
    assert (by_default.width, by_default.height, by_default.seed) == (256, 256, 7)
    assert [each.width for each in requests_of((), "cuda")] == [1024]
    assert [each.case for each in requests_of(("64", "32x48"), "cuda")] == ["64x64", "32x48"]


def test_a_bare_call_shows_the_help_with_examples(capsys: Capture) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    assert "Commands:" in out and "bagel-perf compare loop.py:plain loop.py:fast" in out
    assert main(["--version"]) == 0 and capsys.readouterr().out.startswith("bagel-perf 0.")
    assert main(["compare", "--nothing"]) == 2 and "see bagel-perf compare --help" in capsys.readouterr().err


def test_who_calls_the_command_line_has_its_own_signal_handlers_again() -> None:
    """One that stayed would be inherited by every pool of processes, and hold up its end."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    assert main(["show", "nowhere"]) == 2
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before
    assert before[0] is not signal.default_int_handler


@pytest.mark.parametrize("name", ["loop.py", "result.json"])
def test_json_never_replaces_a_measured_result_nor_what_is_not_ours(
    name: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "x = 1\n" if name == "loop.py" else '{"schema": "bagel-perf.result", "version": 2}'
    Path(name).write_text(text)
    assert main(["doctor", "--json", name]) == 2
    assert capsys.readouterr().err.startswith(f"error: a file is in the way of the JSON ({name}); ")
    assert Path(name).read_text() == text
    assert [main(["doctor", "--quiet", "--json", "new.json"]) for _ in range(2)] == [0, 0]


def test_ctrl_c_while_the_command_line_is_imported_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    native = builtins.__import__

    def interrupted(name: str, *rest: Any) -> Any:
        if name == "bagel_perf.cli":
            raise KeyboardInterrupt
        return native(name, *rest)

    monkeypatch.setattr(builtins, "__import__", interrupted)
    assert program.main() == 6
    assert capsys.readouterr().err == "error: interrupted\n"
