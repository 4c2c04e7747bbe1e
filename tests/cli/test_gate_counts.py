"""``gate counts`` holds host syncs to a file in the user's repository, both ways, and writes it with a reason."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bagel_perf.cli import main
from bagel_perf.commands import gate_counts
from bagel_perf.commands.sync_targets import Job
from bagel_perf.commands.syncs import Ended
from bagel_perf.records.errors import INTERRUPTED, BagelPerfError, RunFailed, UsageError
from bagel_perf.records.expectations import load_counts
from bagel_perf.records.sites import SyncSite
from bagel_perf.records.syncs import SyncReport, Witnesses
from bagel_perf.records.targets import Target

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).resolve().parents[2]
FILE = Path("bagel-perf.toml")
LIBRARY = "diffusers/schedulers/ddim.py"


def site(count: int, line: int = 3, function: str = "run", file: str = "src/loop.py", **rest: Any) -> SyncSite:
    return SyncSite(kind="scalar_read", file=file, line=line, function=function, region="run", count=count, **rest)


class Scripted:
    """What watching gives: sites by the name of a target or command."""

    def __init__(self) -> None:
        self.sites: dict[str, tuple[SyncSite, ...]] = {}
        self.rest: dict[str, Any] = {}
        self.error: RunFailed | None = None
        self.watched: list[str] = []
        self.cases: tuple[str, ...] = ()
        self.refused: dict[str, BagelPerfError] = {}

    def target(self, target: Target, job: Job) -> Ended:
        name = os.path.normpath(target.place) if job.case is None else f"{target.place} {job.case}"
        return self._ended(name)

    def program(self, command: Sequence[str], *_: object) -> Ended:
        return self._ended(" ".join(command))

    def _ended(self, name: str) -> Ended:
        self.watched.append(name)
        if name in self.refused:
            raise self.refused[name]
        sites = self.sites.get(name, ())
        total = sum(each.count for each in sites)
        witnesses = Witnesses(simulated=total)
        report = SyncReport(
            device="simulated", host_syncs=total, unexplained=0, sites=sites, witnesses=witnesses, **self.rest
        )
        return Ended(report=report, exit_code=report.exit_code, error=self.error, cases=self.cases)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """A repository with a target that waits three times in its own file and once in a library's."""
    monkeypatch.chdir(tmp_path)
    Path("src").mkdir()
    Path("src/loop.py").write_text("def run(state, case, seed): ...\n")
    scripted = Scripted()
    scripted.sites["src/loop.py"] = (site(2), site(1, line=9), site(1, function="step", file=LIBRARY))
    monkeypatch.setattr(gate_counts, "watch_target", scripted.target)
    monkeypatch.setattr(gate_counts, "watch_program", scripted.program)
    return scripted


def gate(*arguments: str) -> int:
    return main(["gate", "counts", *arguments])


def recorded(*arguments: str) -> str:
    assert gate("src/loop.py", "--quiet", "--update", "first", *arguments) == 0
    return FILE.read_text()


def last_error(capfd: Capture) -> str:
    return capfd.readouterr().err.splitlines()[-1]


def test_counts_are_recorded_and_held(world: Scripted, capfd: Capture) -> None:
    text = recorded()
    assert text.endswith(
        'target = "src/loop.py"\n\n[[subjects.syncs]]\nfile = "diffusers/schedulers/ddim.py"\nfunction = "step"\n'
        'kind = "scalar_read"\ncount = 1\nreason = "first"\n\n[[subjects.syncs]]\nfile = "src/loop.py"\n'
        'function = "run"\nkind = "scalar_read"\ncount = 3\nreason = "first"\n'
    )
    assert gate("src/loop.py") == 0 and gate() == 0
    out = capfd.readouterr().out
    assert "host syncs of src/loop.py  pass" in out and "gate: pass" in out


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        ((site(4), site(1, function="step", file=LIBRARY)), "src/loop.py:3 run: scalar read: 4, expected 3 (first)"),
        ((site(2), site(1, function="step", file=LIBRARY)), "src/loop.py:3 run: scalar read: 2, expected 3 (first)"),
        ((site(1, function="step", file=LIBRARY),), "src/loop.py run: scalar read: none any more, expected 3 (first)"),
        ((site(3), site(1, function="step", file=LIBRARY), site(5, 7, "new")), "src/loop.py:7 new: scalar read: 5 new"),
        ((site(3),), f"{LIBRARY} step: scalar read: none any more, expected 1 (first)"),
    ],
)
def test_a_drift_in_either_direction_fails_with_its_line(
    world: Scripted, capfd: Capture, sites: tuple[SyncSite, ...], message: str
) -> None:
    recorded()
    world.sites["src/loop.py"] = sites
    assert gate() == 7
    assert last_error(capfd) == f"error: counters drifted (src/loop.py: {message})"


def test_an_update_keeps_what_did_not_change_and_what_others_expect(world: Scripted) -> None:
    text = recorded().replace("count = 1\nreason", 'count = 1\ntag = "ISSUE-7"\nreason')
    text = text.replace('function = "run"', 'function = "run"\ntag = "mine"')
    FILE.write_text("# Ours.\n# Two lines.\n\n" + text.partition("\n\n")[2])
    world.sites["src/other.py"] = (site(1, file="src/other.py"),)
    Path("src/other.py").write_text("def run(state, case, seed): ...\n")
    assert gate("src/other.py", "--quiet", "--update", "of the other") == 0
    world.sites["src/loop.py"] = (site(7), site(1, function="step", file=LIBRARY))
    assert gate("src/loop.py", "--quiet", "--update", "now\nseven") == 0
    new = FILE.read_text()
    assert new.startswith("# Ours.\n# Two lines.\n\nschema = ")
    found = load_counts(FILE, "")
    assert [str(each.name) for each in found.subjects] == ["src/loop.py", "src/other.py"]
    first, second = found.subjects[0].syncs
    assert (first.count, first.reason, first.tag) == (1, "first", "ISSUE-7")
    assert (second.count, second.reason, second.tag) == (7, "now seven", "mine")
    assert found.subjects[1].syncs[0].reason == "of the other"
    assert gate("--quiet") == 0
    assert gate("--update", "again") == 0 and FILE.read_text() == new, "nothing to record"


def test_commands_and_cases_are_subjects_of_their_own(world: Scripted, capfd: Capture) -> None:
    Path("train.py").write_text("")
    world.sites["python train.py --steps 2"] = (site(5, file="train.py", function="<module>"),)
    world.sites["src/loop.py small"] = (site(2),)
    assert gate("--quiet", "--update", "first", "--", "python", "train.py", "--steps", "2") == 0
    assert gate("--quiet", "--update", "first", "--case", "small", "src/loop.py") == 0
    assert 'command = ["python", "train.py", "--steps", "2"]' in FILE.read_text()
    world.watched.clear()
    assert gate("--quiet") == 0
    assert world.watched == ["src/loop.py small", "python train.py --steps 2"]
    assert gate("--quiet", "src/loop.py") == 7
    assert "src/loop.py: no counts are recorded (4 now); --update REASON records them" in last_error(capfd)


def test_a_target_by_its_absolute_path_is_watched_as_the_recorded_one(world: Scripted, tmp_path: Path) -> None:
    Path("elsewhere").mkdir()
    os.chdir("elsewhere")  # world's monkeypatch goes back
    assert gate(str(tmp_path / "src" / "loop.py"), "--update", "begin") == 0
    assert gate() == 0
    assert set(world.watched) == {"../src/loop.py"}


def test_paths_are_relative_to_the_file_wherever_the_gate_stands(
    world: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded()
    monkeypatch.chdir("src")
    world.sites["loop.py"] = (site(3, file="loop.py"), site(1, function="step", file=LIBRARY))
    assert gate("--quiet", "--expect", "../bagel-perf.toml", "loop.py") == 0
    assert gate("--quiet", "--expect", "../bagel-perf.toml") == 0


def test_what_could_not_be_judged_is_no_pass_and_is_not_recorded(world: Scripted, capfd: Capture) -> None:
    text = recorded()
    world.rest = {"unjudged": {"mine.op": 1}}
    assert gate() == 4
    assert "the simulated device cannot judge mine.op" in last_error(capfd)
    world.sites["src/loop.py"] = (site(2),)
    assert gate() == 4, "fewer prove nothing where some may be missing"
    world.sites["src/loop.py"] = (site(9),)
    assert gate() == 7
    assert gate("src/loop.py", "--update", "no") == 4
    assert FILE.read_text() == text


def test_a_subject_that_fails_is_incomplete(world: Scripted, capfd: Capture) -> None:
    recorded()
    world.rest, world.error = {"exit_code": 6}, RunFailed("run fails", value="src/loop.py:7")
    assert gate() == 6
    assert last_error(capfd).startswith("error: incomplete (src/loop.py: run fails (src/loop.py:7))")
    world.error = None
    assert gate() == 6
    assert "it ended with exit code 6" in last_error(capfd)


def test_a_dead_subject_fails_until_it_is_recorded(world: Scripted, capfd: Capture) -> None:
    Path("src/old.py").write_text("x = 1\n")
    recorded()
    assert gate("src/old.py", "--quiet", "--update", "first") == 0
    Path("src/old.py").unlink()
    assert gate() == 7
    assert "src/old.py: its file is not there any more" in last_error(capfd)
    assert gate("--quiet", "--update", "it is gone") == 0
    assert gate("--quiet") == 0 and "old.py" not in FILE.read_text()


def test_the_report_goes_where_those_of_other_gates_go(world: Scripted, capfd: Capture) -> None:
    recorded()
    world.sites["src/loop.py"] = (site(4, line=5),)
    outputs = ["--github", "--junit", "x.xml", "--summary", "x.md", "--json", "-"]
    assert gate(*outputs) == 7
    out, err = capfd.readouterr()
    data = json.loads(out)
    assert (data["schema"], data["verdict"], data["exit_code"]) == ("bagel-perf.gate", "counters drifted", 7)
    assert {"file": "src/loop.py", "line": 5}.items() <= data["findings"][1].items()
    assert "::error file=src/loop.py,line=5,title=bagel-perf%3A counters drifted::src/loop.py" in err
    assert 'failures="1"' in Path("x.xml").read_text() and "counters drifted" in Path("x.md").read_text()


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [],
            'no expected counts (bagel-perf.toml); No such file or directory; bagel-perf gate counts --update "REASON"',
        ),
        (["src/loop.py", "--update", " "], "--update without a reason"),
        (["src/none.py", "--update", "x"], "file does not exist (src/none.py)"),
        (["--update", "x"], "nothing to gate (bagel-perf.toml); no target or command in it"),
        (["--update", "x", "--", "no-such-program"], "command does not exist (no-such-program)"),
        (["--case", "a", "--", "python", "src/loop.py"], "--case is about files, not about a program"),
        (["a=src/loop.py", "b=src/loop.py", "--update", "x"], "target is named twice (src/loop.py)"),
        (
            ["src/loop.py", "--update", "x", "--json", "bagel-perf.toml"],
            "a file is in the way of the JSON (bagel-perf.toml)",
        ),
    ],
)
def test_what_cannot_be_gated_is_one_line(capfd: Capture, arguments: list[str], message: str) -> None:
    if "--json" in arguments:
        FILE.write_text('schema = "bagel-perf.counts"\nversion = 1\n')
    assert gate(*arguments) == 2
    assert last_error(capfd).startswith(f"error: {message}")


SYNC = "[[subjects.syncs]]\nfile='a'\nfunction='f'\nkind='scalar_read'\ncount=1\nreason='r'\n"


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = ", "expected counts are no TOML (bagel-perf.toml)"),
        ("x = 1", "expected counts cannot be used (bagel-perf.toml); this is no bagel-perf.counts"),
        ("version = 2", "expected counts cannot be used (bagel-perf.toml); bagel-perf.counts of a version that cannot"),
        (
            "[[subjects]]",
            "expected counts cannot be used (bagel-perf.toml); subject is one of target, command and test",
        ),
        ("[[subjects]]\ntarget='a.py'\n" * 2, "subject is expected twice (bagel-perf.toml: a.py)"),
        (
            f"[[subjects]]\ntarget='a.py'\n{SYNC}{SYNC}",
            "expected counts cannot be used (bagel-perf.toml); place is exp",
        ),
        (
            f"[[subjects]]\ntarget='a.py'\n{SYNC.replace('=1', '=0')}",
            "expected counts cannot be used (bagel-perf.toml); count of expected syncs (0); 1 or more",
        ),
        (
            f"[[subjects]]\ntarget='a.py'\n{SYNC.replace('count', 'cuont')}",
            "expected counts cannot be used (bagel-perf.toml); key is missing (subjects[0].syncs[0].count)",
        ),
    ],
)
def test_a_file_that_is_none_is_one_line(capfd: Capture, text: str, message: str) -> None:
    head = "" if text.startswith(("x", "version")) else "version = 1\n"
    schema = "" if text.startswith("x") else 'schema = "bagel-perf.counts"\n'
    FILE.write_text(f"{schema}{head}{text}")
    assert gate("src/loop.py") == 2
    assert last_error(capfd).startswith(f"error: {message}")


def test_it_has_a_page_of_help_of_its_own(capfd: Capture) -> None:
    assert main(["gate", "counts", "--help"]) == 0
    assert capfd.readouterr().out.startswith("Usage: bagel-perf gate counts [OPTIONS]")


def test_a_target_is_counted_without_a_gpu_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    Path("loop.py").write_text(
        "import torch\ndef run(state, case, seed):\n    return torch.ones(2, device='cuda').sum().item()\n"
    )
    FILE.write_text(
        'schema = "bagel-perf.counts"\nversion = 1\n[[subjects]]\ntarget = "loop.py"\n'
        + SYNC.replace("'a'", "'loop.py'").replace("'f'", "'run'")
    )
    assert gate() == 0
    assert "host syncs of loop.py  pass" in capfd.readouterr().out


def two_cases(world: Scripted) -> None:
    """The file has two cases, and waits once more in the second."""
    world.cases = ("b4", "b8")
    world.sites["src/loop.py b8"] = (site(4),)


def test_every_case_of_a_file_is_recorded_and_held(world: Scripted, capfd: Capture) -> None:
    two_cases(world)
    recorded()
    assert [str(each.name) for each in load_counts(FILE, "").subjects] == [
        "src/loop.py, case b4",
        "src/loop.py, case b8",
    ]
    world.sites["src/loop.py b4"] = world.sites["src/loop.py"]
    assert gate() == 0 and gate("src/loop.py") == 0
    world.sites["src/loop.py b8"] = (site(5),)
    assert gate() == 7 and gate("src/loop.py") == 7
    assert "src/loop.py, case b8: src/loop.py:3 run: scalar read: 5, expected 4 (first)" in capfd.readouterr().out


def test_a_file_of_which_the_first_case_was_recorded_says_what_is_not_held(world: Scripted, capfd: Capture) -> None:
    recorded()
    two_cases(world)
    for words in ([], ["src/loop.py"]):
        world.watched.clear()
        assert gate(*words) == 0 and world.watched == ["src/loop.py"]
        out = capfd.readouterr().out
        assert "host syncs of src/loop.py, case b4 alone (b8 is not held)  pass" in out
        assert 'not held: b8; bagel-perf gate counts --update "REASON" src/loop.py holds all cases' in out
    assert gate("src/loop.py", "--quiet", "--update", "both") == 0
    found = {str(each.name): each for each in load_counts(FILE, "").subjects}
    assert list(found) == ["src/loop.py, case b4", "src/loop.py, case b8"]
    assert {each.reason for each in found["src/loop.py, case b4"].syncs} == {"first"}


def test_a_case_that_was_renamed_is_named_and_keeps_no_other_from_being_judged(world: Scripted, capfd: Capture) -> None:
    two_cases(world)
    Path("src/other.py").write_text("")
    assert gate("src/loop.py", "src/other.py", "--quiet", "--update", "first") == 0
    world.cases = ("b4", "b16")
    unknown = UsageError("unknown case", value="b8", allowed="there are b4, b16", remedy="name one")
    world.refused = {"src/loop.py b8": unknown}
    world.sites["src/loop.py b4"] = world.sites["src/loop.py"]
    assert gate() == 7
    out = capfd.readouterr().out
    assert "host syncs of src/other.py, case b4  pass" in out and "host syncs of src/loop.py, case b4   pass" in out
    assert (
        "counters drifted: src/loop.py, case b8: unknown case (b8); there are b4, b16; "
        "mend bagel-perf.toml, or --update REASON without a target drops it"
    ) in out
    assert "src/loop.py: not held: b16" in out
    assert gate("src/loop.py", "--quiet", "--update", "renamed") == 0
    names = [str(each.name) for each in load_counts(FILE, "").subjects if each.target == "src/loop.py"]
    assert names == ["src/loop.py, case b16", "src/loop.py, case b4"]


def test_a_subject_that_cannot_be_watched_keeps_no_other_from_being_judged(world: Scripted, capfd: Capture) -> None:
    Path("src/other.py").write_text("")
    assert gate("src/loop.py", "src/other.py", "--quiet", "--update", "first") == 0
    world.refused = {"src/loop.py": RunFailed("setup fails", value="src/loop.py:3")}
    assert gate() == 6
    out = capfd.readouterr().out
    assert "src/loop.py: setup fails (src/loop.py:3)" in out and "host syncs of src/other.py  pass" in out
    assert gate("src/loop.py") == 6
    assert last_error(capfd) == "error: src/loop.py: setup fails (src/loop.py:3)"


@pytest.mark.parametrize("ended", [6, INTERRUPTED])
def test_of_what_ended_early_nobody_says_that_it_used_no_device(world: Scripted, capfd: Capture, ended: int) -> None:
    world.rest = {"used_device": False, "exit_code": ended}
    world.error = RunFailed("interrupted", value="src/loop.py")
    assert gate("src/loop.py", "--update", "first") == 6
    out, err = capfd.readouterr()
    assert "nothing ran on the device" not in out + err
    assert err.splitlines()[-1] == "error: incomplete (src/loop.py: interrupted (src/loop.py))" and not FILE.exists()


def test_ctrl_c_ends_the_gate_and_names_what_was_not_watched(world: Scripted, capfd: Capture) -> None:
    two_cases(world)
    Path("src/other.py").write_text("")
    world.rest = {"exit_code": INTERRUPTED}
    assert gate("src/loop.py", "src/other.py", "--update", "first") == 6
    assert world.watched == ["src/loop.py"]
    assert "note: not watched: src/loop.py, case b8, src/other.py" in capfd.readouterr().out


def test_a_file_of_expectations_is_no_target(world: Scripted, capfd: Capture) -> None:
    recorded()
    assert gate("bagel-perf.toml") == 2
    assert last_error(capfd).endswith("bagel-perf gate counts --expect bagel-perf.toml")
