"""``syncs`` refuses what would mean nothing, and what this machine cannot do, in one line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from bagel_perf import launch
from bagel_perf.cli import main
from bagel_perf.commands import syncs
from bagel_perf.records.errors import EnvironmentUnfit, UsageError
from forked_programs import fork_programs

Capture = pytest.CaptureFixture[str]

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ("--", "python", "script.py")
VARIANT = ("--preset", "tiny", "--res", "64x48", "--steps", "2")
OF_VARIANTS = {
    "--variant": "baseline",
    "--res": "256",
    "--task": "t2i",
    "--image": "x.png",
    "--prompt": "x",
    "--steps": "3",
    "--seed": "1",
    "--preset": "tiny",
    "--weights": "folder",
    "--attention": "math",
    "--check-saving": None,
    "--pairs": "6",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script in an otherwise empty current folder, on a machine without a GPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    Path("script.py").write_text("print('ran')\n")
    fork_programs(monkeypatch)


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a worker nor a program."""

    def start(*_: object, **named: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(launch, "run_plan", start)
    monkeypatch.setattr(syncs, "subprocess", SimpleNamespace(Popen=start))


def refused(capfd: Capture, *arguments: str) -> tuple[int, str]:
    """Exit code and the one line on stderr of a command that printed nothing else."""
    code = main(["syncs", "--quiet", *arguments])
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and err.endswith("\n")
    return code, err.removeprefix("error: ").rstrip()


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize("option", OF_VARIANTS)
def test_an_option_of_variants_is_refused_beside_a_program(capfd: Capture, option: str) -> None:
    value = OF_VARIANTS[option]
    code, error = refused(capfd, option, *([] if value is None else [value]), *PROGRAM)
    assert code == UsageError.exit_code == 2
    what = f"{option} is about BAGEL's variants, not about a program"
    assert error == f"{what}; drop it, or put it after -- if it is the program's own"


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--pairs", "6"), "--pairs means nothing here; add --check-saving, or drop it"),
        (
            ("--check-saving", "--no-profile"),
            "--check-saving means nothing here; leave --no-profile out, or drop it",
        ),
        (
            ("--keep-trace", "t.json.gz", "--no-profile"),
            "--keep-trace means nothing here; leave --no-profile out, or drop it",
        ),
        (
            ("--no-profile", "--keep-trace", "t.json.gz", *PROGRAM),
            "--keep-trace means nothing here; leave --no-profile out, or drop it",
        ),
        (("--check-saving", "--pairs", "0"), "too few pairs (0); at least 1"),
        (
            ("--res", "256", "--res", "512"),
            "syncs watches one resolution (256, 512); run it once for each --res",
        ),
        (("--top", "3", "--"), "no program after --; python script.py ..., python -m module ..."),
    ],
)
def test_an_option_that_means_nothing_beside_the_others_is_refused(
    capfd: Capture, arguments: tuple[str, ...], error: str
) -> None:
    assert refused(capfd, *arguments) == (2, error)
    assert [each.name for each in Path().iterdir()] == ["script.py"]


def test_an_option_after_the_dashes_is_the_programs_own(capfd: Capture) -> None:
    Path("script.py").write_text("import sys\nprint(sys.argv[1:])\n")
    assert main(["syncs", "--quiet", "--device", "cpu", *PROGRAM, "--variant", "--pairs", "3"]) == 0
    assert capfd.readouterr() == ("['--variant', '--pairs', '3']\n", "")


@pytest.mark.parametrize("arguments", [PROGRAM, VARIANT], ids=["program", "variant"])
def test_cuda_without_a_gpu_is_one_line_and_5_and_nothing_runs(capfd: Capture, arguments: tuple[str, ...]) -> None:
    code, error = refused(capfd, "--device", "cuda", *arguments)
    assert code == EnvironmentUnfit.exit_code == 5
    assert "CUDA" in error and "--device cpu" in error


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--keep-trace", "trace.json.gz", *PROGRAM), "--keep-trace"),
        (("--check-saving", *VARIANT), "--check-saving"),
    ],
    ids=["trace of a program", "predicted saving of a variant"],
)
def test_the_simulated_device_keeps_no_trace_and_checks_no_predicted_saving(
    capfd: Capture, arguments: tuple[str, ...], named: str
) -> None:
    code, error = refused(capfd, "--device", "cpu", *arguments)
    assert code == 5
    assert named in error and "the simulated device" in error and "GPU" in error
    assert not Path("trace.json.gz").exists()
