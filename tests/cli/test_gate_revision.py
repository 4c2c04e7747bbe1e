"""A tree is measured in turns with a revision: what is slower fails, and nothing is left behind, whatever ends it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bagel_perf.cli import main
from bagel_perf.commands.gate_trees import Repository, orders
from bagel_perf.records.results import Result, load
from bagel_perf.records.runs import TimedRun, runs_of
from bagel_perf.verdicts.reading import load_checked
from scripted import DETAILS

Capture = pytest.CaptureFixture[str]

ROOT = Path(__file__).resolve().parents[2]
WORKER = """
import json, os, signal, subprocess, sys, time
from msgspec.structs import replace
from pathlib import Path
from bagel_perf.records.events import DoneEvent, EnvironmentEvent, ErrorEvent, RunEvent, to_line
from bagel_perf.records.errors import UsageError
from bagel_perf.records.plans import Plan, bagel_outline
from bagel_perf.records.runs import TimedRun
from scripted import CPU, DETAILS, make_runs

TREE = Path(__file__).resolve().parents[1]
SAYS = {"scale": {}, "torch": "2.11.0", "sha": "", "interrupt": None, "refuse": "", "proves": False, "commit": None}
SAYS |= {"version": 2, "details": {}, "asked": {}}
SAYS |= json.loads((TREE / "says.json").read_text())


def send(event):
    line = to_line(event)
    print(line if SAYS["version"] == 2 else as_version_1(json.loads(line)), flush=True)


def as_version_1(data):
    # As a worker sent it that knew pictures of BAGEL alone.
    if data["event"] == "environment":
        data["environment"].update(data.pop("outline")["subject"]["details"])
    if data["event"] == "run":
        run = data["run"]
        width, height = map(int, run.pop("case").split("x"))
        output = run.pop("output")
        run["picture"] = {"width": width, "height": height, "md5": output["md5"], "spread": output["spread"]}
        run["picture"].update(pixels_sha256=output["sha256"], path=None)
        run.update(width=width, height=height, mse=run.pop("distance"), differing_pixels=run.pop("num_differing"))
    return json.dumps(data)


def run_of(run):
    run = replace(run, output=replace(run.output, sha256=SAYS["sha"] + run.output.sha256))
    if not isinstance(run, TimedRun):
        return run
    scales = [(1 + 0.001 * (plan.process % 3)) * SAYS["scale"].get(each.stage, 1.0) for each in run.measurements]
    measured = [replace(each, latency_ms=each.latency_ms * scale) for each, scale in zip(run.measurements, scales)]
    return replace(run, measurements=tuple(measured))


plan = Plan.from_json(json.loads(sys.stdin.readline()))
if SAYS["refuse"]:
    send(ErrorEvent(error=UsageError("unknown variant", value=SAYS["refuse"])))
    sys.exit()
if SAYS["interrupt"] == plan.process:
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(60)
hash = subprocess.run(["git", "-C", TREE, "rev-parse", "--short=7", "HEAD"], capture_output=True, text=True).stdout
environment = replace(CPU, commit=SAYS["commit"] or hash.strip(), torch=SAYS["torch"])
outline = bagel_outline(plan, {**DETAILS, "preset": "tiny", **SAYS["details"]})
asked = {case: {**each, **SAYS["asked"]} for case, each in outline.subject.asked.items()}
outline = replace(outline, subject=replace(outline.subject, asked=asked))
send(EnvironmentEvent(environment=environment, outline=outline, pairs=1, warmup=plan.warmup))
for run in make_runs(plan, 1):
    if plan.process == 0 or SAYS["proves"] or run.purpose == "timed":
        send(RunEvent(run=run_of(run)))
send(DoneEvent())
"""
ARGUMENTS = ["--res", "64", "--variants", "baseline,sync_free"]


class Checkout:
    """A repository with a package that stands in for ours; all but its worker is the real one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        package = folder / "bagel_perf"
        package.mkdir(parents=True)
        (folder / "bagel_perf" / "__init__.py").write_text(f"__path__.append({str(ROOT / 'bagel_perf')!r})\n")
        (package / "worker.py").write_text(WORKER)
        (folder / ".gitignore").write_text("__pycache__\nreports\n")
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit()

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=self.folder, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def says(self, **settings: Any) -> None:
        (self.folder / "says.json").write_text(json.dumps(settings))

    def commit(self, **settings: Any) -> None:
        self.says(**settings)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=m")

    def is_clean(self) -> bool:
        """Whether no other worktree is left, and no folder of one."""
        left = [name for name in os.listdir(os.environ["TMPDIR"]) if name.startswith("bagel-perf-")]
        return self.git("worktree", "list").count("\n") == 0 and not left


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """The folder that the gate is called in; it passes."""
    for name in ("tree", "tmp"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "support"))
    monkeypatch.chdir(tmp_path / "tree")
    return Checkout(tmp_path / "tree")


def gate(*arguments: str) -> int:
    return main(["gate", "revision", "main", *ARGUMENTS, *arguments])


def results(folder: str) -> list[Result]:
    return [load(Path(folder, part, "result.json")) for part in ("reference", "candidate")]


def test_a_stage_that_is_slower_fails_though_the_whole_is_not(checkout: Checkout, capsys: Capture) -> None:
    checkout.says(scale={"ar": 0.5, "dit": 1.05})
    files = ["--out", "kept", "--json", "gate.json", "--junit", "junit.xml", "--summary", "summary.md"]
    limits = ["--limit", "ar:3%", "--limit", "dit:3%", "--limit", "e2e:3%"]
    assert gate(*limits, *files) == 1
    out, err = capsys.readouterr()
    assert out.startswith("CPU latency, tiny preset: baseline, sync_free in the working tree (")
    assert "regressed: sync_free at 64x64: dit +5.00% (+5.00 to +5.00), limit 3%, which e2e hides" in out
    assert "pair 6 of 6, the working tree" not in err, "a worker says nothing of its progress here"
    assert err.splitlines()[-1].startswith("error: regressed (baseline at 64x64: dit +5.00%")
    assert json.loads(Path("gate.json").read_text())["exit_code"] == 1
    suite = ElementTree.parse("junit.xml").getroot()
    assert [suite.get(name) for name in ("tests", "failures", "skipped")] == ["9", "2", "0"]
    assert "| 64x64 | DiT | sync\\_free |" in Path("summary.md").read_text()
    assert all(result.complete and result.processes == 6 for result in results("kept"))
    assert checkout.is_clean()


def test_both_results_stay_and_are_judged_again_as_pairs(checkout: Checkout, capsys: Capture) -> None:
    checkout.says(scale={"dit": 1.05})
    assert gate("--limit", "dit:10%", "--out", "kept") == 0
    before, now = results("kept")
    assert {run.round for run in runs_of(TimedRun, now.runs)} == set(range(6))
    assert {run.seed for run in now.runs if run.purpose == "timed"} == set(range(42, 48))
    assert before.order_seed == now.order_seed
    capsys.readouterr()
    assert main(["gate", "result", "kept/candidate", "--reference", "kept/reference", "--limit", "dit:3%"]) == 1
    assert "Paired change is the median over processes" in capsys.readouterr().out


def test_a_revision_whose_worker_knew_bagel_alone_is_measured_too(checkout: Checkout, capsys: Capture) -> None:
    checkout.commit(version=1)
    checkout.says(version=2)
    assert gate("--limit", "e2e:5%", "--variant", "sync_free") == 0
    (folder,) = Path("reports").iterdir()
    results = [load_checked(folder / part) for part in ("reference", "candidate")]
    assert results[0].subject == results[1].subject and results[0].cases == ("64x64",)
    assert "64x64" in capsys.readouterr().out


def test_an_unchanged_tree_passes_and_is_kept_under_both_commits(checkout: Checkout, capsys: Capture) -> None:
    assert gate("--limit", "e2e:5%", "--variant", "sync_free") == 0
    commit = checkout.git("rev-parse", "--short=7", "HEAD")
    (folder,) = Path("reports").iterdir()
    assert folder.name.endswith(f"_cpu_{commit}-against-{commit}")
    again = ["gate", "result", f"{folder}/candidate", "--reference", f"{folder}/reference"]
    assert f"note: kept, and to be judged again as {' '.join(again)}" in capsys.readouterr().out
    assert main([*again, "--limit", "e2e:5%", "--variant", "sync_free"]) == 0
    assert sorted(os.listdir(folder)) == ["candidate", "reference"]


def test_another_picture_ends_it_after_the_first_pair(checkout: Checkout, capsys: Capture) -> None:
    checkout.says(sha="f", scale={"dit": 2.0})
    assert gate("--out", "kept") == 3
    out = capsys.readouterr().out
    assert "outputs differ: baseline at 64x64 gives another picture than in main" in out and "%" not in out
    assert [len({run.round for run in runs_of(TimedRun, each.runs)}) for each in results("kept")] == [1, 1]


def test_unlike_environments_end_it_and_each_field_is_named(checkout: Checkout, capsys: Capture) -> None:
    checkout.says(torch="2.12.0")
    assert gate("--out", "kept") == 5
    assert "main and the working tree differ: torch 2.11.0 and 2.12.0" in capsys.readouterr().err
    assert checkout.is_clean()


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ({"details": {"preset": "7b"}}, "preset tiny and 7b"),
        ({"details": {"weights": "random, seed 1"}}, "weights {} and random, seed 1"),
        ({"asked": {"steps": 3}}, "at 64x64 steps 15 and 3"),
    ],
)
def test_a_tree_that_measures_something_else_ends_it_after_the_first_pair(
    checkout: Checkout, says: dict[str, Any], message: str, capsys: Capture
) -> None:
    checkout.says(**says)
    assert gate("--out", "kept") == 5
    error = f"main and the working tree differ: {message.format(DETAILS['weights'])}"
    assert error in capsys.readouterr().err
    assert [len({run.round for run in runs_of(TimedRun, each.runs)}) for each in results("kept")] == [1, 1]


def test_an_interrupted_measurement_is_kept_and_judged_with_what_it_has(checkout: Checkout, capsys: Capture) -> None:
    checkout.says(interrupt=2)
    assert gate("--out", "kept") == 6
    out, err = capsys.readouterr()
    assert "incomplete: the working tree ended early: interrupted" in out
    assert err.splitlines()[-1].startswith("error: incomplete (main ended early: interrupted)")
    assert [result.complete for result in results("kept")] == [False, False]
    assert main(["gate", "result", "kept/candidate"]) == 6
    assert checkout.is_clean()


def test_ctrl_c_between_two_processes_is_an_end_like_others(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bagel_perf.commands.gate_revision._check", interrupt)
    assert gate("--out", "kept") == 6
    assert "incomplete: the working tree ended early: interrupted" in capsys.readouterr().out
    assert [result.error for result in results("kept")] == ["interrupted", "interrupted"]
    assert checkout.is_clean()


def test_a_worktree_that_git_cannot_remove_is_gone_too(checkout: Checkout) -> None:
    with Repository.around(checkout.folder).worktree(checkout.git("rev-parse", "HEAD")) as tree:
        assert (tree / "bagel_perf").is_dir() and not checkout.is_clean()
        (tree / ".git").unlink()
    assert checkout.is_clean()


def test_a_measurement_that_is_interrupted_at_once_leaves_nothing(checkout: Checkout, capsys: Capture) -> None:
    checkout.commit(interrupt=0)
    assert gate() == 6
    assert capsys.readouterr().err.splitlines()[-1] == "error: interrupted"
    assert checkout.is_clean() and os.listdir("reports") == []


def test_a_tree_that_cannot_run_it_is_named(checkout: Checkout, capsys: Capture) -> None:
    checkout.commit(refuse="sync_free")
    checkout.says()
    assert gate() == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: main: unknown variant (sync_free)")
    (checkout.folder / "bagel_perf" / "worker.py").write_text("import missing")
    checkout.says()
    checkout.git("commit", "--quiet", "--all", "--message=m")
    assert gate("--quiet") == 6
    problem = capsys.readouterr().err.splitlines()[-1]
    assert "the worker ended early (exit code 1); ModuleNotFoundError: No module named 'missing'" in problem
    checkout.git("rm", "--quiet", "-r", "--cached", "bagel_perf")
    checkout.git("commit", "--quiet", "--message=m")
    assert gate() == 2
    assert (
        "tree cannot be measured (main); it is no tree of bagel-perf; name a file of yours" in capsys.readouterr().err
    )
    assert checkout.is_clean()


def test_a_worker_of_another_tree_shows_no_difference_and_is_refused(checkout: Checkout, capsys: Capture) -> None:
    checkout.says(commit="fffffff")
    assert gate("--quiet") == 6
    assert "the working tree: worker runs another tree than it was started in (fffffff)" in capsys.readouterr().err


def test_a_worker_that_knows_no_processes_is_said_to_do_unlike_work(checkout: Checkout, capsys: Capture) -> None:
    checkout.commit(proves=True)
    checkout.says()
    assert gate("--limit", "e2e:5%", "--variant", "sync_free") == 0
    note = "note: processes did unlike work before they were timed: 12 and 2 proofs of an output"
    assert note in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "unknown revision (nowhere); what git rev-parse knows"),
        (["--", "--help-me"], "unknown revision (--help-me)"),
        (["main", "--limit", "512/dit:3%"], "limit is of a case that was not measured"),
        (["main", "--variant", "fused"], "--variant is not measured (fused); measured: baseline"),
        (["main", "--out", "."], "--out is not an empty folder (.)"),
        (["main", "--update", "x"], "No such option: --update"),
        (["--junit", "missing/x.xml", "main"], "--junit cannot be written there (missing/x.xml)"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(
    checkout: Checkout, arguments: list[str], message: str, capsys: Capture
) -> None:
    assert main(["gate", "revision", *ARGUMENTS, *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not Path("reports").exists() or not os.listdir("reports")
    assert checkout.is_clean()


def test_outside_of_a_repository_there_is_no_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert gate() == 2
    assert capsys.readouterr().err.startswith(
        f"error: no git repository here ({tmp_path}); a revision is measured from"
    )


def test_which_tree_is_first_is_a_coin_of_each_pair() -> None:
    drawn = [order for seed in range(100) for order in orders(6, seed)]
    assert 250 < drawn.count((0, 1)) < 350 and drawn.count((0, 1)) + drawn.count((1, 0)) == 600
    assert len({tuple(orders(6, seed)) for seed in range(100)}) > 40


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a copy of the tree without its history")
def test_the_real_worker_of_a_revision_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Of the last commit, on either side; the second process of each proves nothing more."""
    subprocess.run(["git", "clone", "--quiet", "--local", ROOT, tmp_path / "tree"], check=True)
    monkeypatch.chdir(tmp_path / "tree")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    small = ["--task", "t2i", "--res", "16", "--steps", "2", "--variants", "sync_free,fused", "--device", "cpu"]
    assert main(["gate", "revision", "HEAD", *small, "--pairs", "2", "--out", str(tmp_path / "kept")]) == 4
    out = capsys.readouterr().out
    assert "pictures     pass" in out and "complete     pass" in out
    assert [result.environment.dirty for result in results(str(tmp_path / "kept"))] == [False, False]
