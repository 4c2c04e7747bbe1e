"""Mutations fit the tree, the gate catches them, and one that it missed would be told."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec.structs
import pytest

import mutations
from bagel_perf.records.errors import CountersDrifted, RunFailed, UsageError
from bagel_perf.records.expectations import load_expected
from bagel_perf.records.gates import EXPECTED_FILE, Finding
from bagel_perf.report.gates import expected_toml
from gate_copy import Ended, copied
from hidden_mutations import HIDDEN, OF_ALL_VARIANTS
from hidden_regression import LATENCIES_MS, scripted_result
from mutation_records import Mutation
from mutations import ROOT, main, scripted_trial, trial, try_mutations
from plain_mutations import MUTATIONS, OF_COUNTERS

MUTATION = Mutation(
    name="a test",
    file="a/b.py",
    before="two\n",
    after="two\n    three(here)\n",
    line="three",
    kind="counter",
    words=("new host syncs", "scalar read"),
)
SOURCE = "one\ntwo\nfour\n"
FINDING = Finding(kind="counter", message="new host syncs at a/b.py:3: scalar read", file="a/b.py", line=3)
PASSED = Ended(exit_code=0, findings=(), worst=None, error="", seconds=1.0)

others: list[bool] = []
"""Which gates ran on another kind of CPU, in order."""

UseGate = Callable[[Callable[[int, tuple[str, ...]], Ended]], None]


@pytest.fixture
def use_gate(monkeypatch: pytest.MonkeyPatch) -> UseGate:
    """Ends each gate as a function of its number, from 0, and of its arguments says."""

    def use(ended: Callable[[int, tuple[str, ...]], Ended]) -> None:
        done: list[Path] = []
        others.clear()

        def run(copy: Path, *arguments: str, on_other_cpu: bool = False) -> Ended:
            done.append(copy)
            others.append(on_other_cpu)
            return ended(len(done) - 1, arguments)

        monkeypatch.setattr(mutations, "run_gate", run)
        monkeypatch.setattr(mutations, "copied", copied_sources)

    return use


@contextmanager
def copied_sources(root: Path) -> Iterator[Path]:
    """A folder with the files that mutations are put into, for gates that look at nothing."""
    with TemporaryDirectory() as name:
        for file in {mutation.file for mutation in MUTATIONS}:
            (Path(name) / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / file, Path(name) / file)
        yield Path(name)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_every_mutation_fits_the_tree(mutation: Mutation) -> None:
    patched = mutation.applied((ROOT / mutation.file).read_text(encoding="utf-8"))
    compile(patched, mutation.file, "exec")
    place = mutation.place(patched)
    assert (place is not None) is bool(mutation.line)
    if place is not None:
        assert patched.splitlines()[place[1] - 1].count(mutation.line) == 1


def test_there_are_a_dozen_hidden_ones_besides() -> None:
    assert len(HIDDEN) >= 12 and set(HIDDEN) < set(MUTATIONS)


def test_names_of_mutations_are_their_own() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)


def test_a_mutation_that_does_not_fit_is_refused_by_its_name() -> None:
    for source in ("one\nfour\n", SOURCE + SOURCE):
        with pytest.raises(RunFailed, match=r"does not fit the source any more \(a test\); its text occurs [02] times"):
            MUTATION.applied(source)


@pytest.mark.parametrize(
    "other",
    [
        msgspec.structs.replace(FINDING, message="new host syncs at a/b.py:3: tensor as size"),
        msgspec.structs.replace(FINDING, line=2),
        msgspec.structs.replace(FINDING, file="a/c.py"),
        msgspec.structs.replace(FINDING, message="new host syncs at a/b.py:2: scalar read"),
    ],
)
def test_a_finding_has_to_name_the_cause_and_the_line(other: Finding) -> None:
    patched = MUTATION.applied(SOURCE)
    assert MUTATION.place(patched) == ("a/b.py", 3)
    assert MUTATION.finding((other, FINDING), patched) is FINDING
    assert MUTATION.finding((other,), patched) is None


FEW = ("baseline", "sync_free")


@contextmanager
def copied_for_a_small_gate(root: Path) -> Iterator[Path]:
    """A copy whose gate counts two variants in one request: ``make gate`` counts all of both on the tree itself."""
    with copied(root) as copy:
        gates, expected = copy / "bagel_perf/records/gates.py", copy / EXPECTED_FILE
        lines = gates.read_text(encoding="utf-8").splitlines()
        (number,) = (number for number, line in enumerate(lines) if line.startswith("VARIANTS = "))
        lines[number] = f"VARIANTS, REQUESTS = {FEW}, REQUESTS[1:2]"
        gates.write_text("\n".join(lines), encoding="utf-8")
        all_of_them = load_expected(expected)
        pictures = all_of_them.pictures[1:2]
        runs = tuple(run for run in all_of_them.runs if run.variant in FEW and run.request == pictures[0].request)
        fewer = msgspec.structs.replace(all_of_them, pictures=pictures, runs=runs)
        expected.write_text(expected_toml(fewer), encoding="utf-8")
        yield copy


@pytest.mark.parametrize("mutation", [OF_COUNTERS[3], OF_ALL_VARIANTS[2]], ids=lambda mutation: mutation.name)
def test_the_gate_catches_a_mutation_in_a_copy_and_the_tree_stays_as_it_is(
    mutation: Mutation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutations, "copied", copied_for_a_small_gate)
    before = (ROOT / mutation.file).read_bytes()
    outcome = trial(ROOT, mutation)
    assert outcome.is_caught, outcome
    assert (ROOT / mutation.file).read_bytes() == before


def test_the_gate_catches_a_regression_that_the_whole_hides() -> None:
    outcome = scripted_trial(ROOT)
    assert outcome.is_caught, outcome
    assert (outcome.exit_code, outcome.expected) == (1, 1)
    reference, candidate = LATENCIES_MS.values()
    assert candidate["dit"] == pytest.approx(1.05 * reference["dit"])
    assert candidate["e2e"] == reference["e2e"] == candidate["ar"] + candidate["dit"]
    assert scripted_result() == scripted_result()


def test_what_the_gate_misses_is_an_error_with_its_name(
    use_gate: UseGate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use_gate(lambda number, arguments: PASSED)
    path = tmp_path / "mutations.json"
    assert main(["--json", str(path)]) == 6
    shown = capsys.readouterr()
    number = len(MUTATIONS) + 1
    assert f"mutations: failed (0 of {number} mutations caught, 20 of 20 untouched copies pass)" in shown.out
    assert sum(others) == 10 + sum(mutation.on_other_cpu for mutation in MUTATIONS)
    error = shown.err.splitlines()[-1]
    assert error.startswith("error: the gate misses what it has to catch (")
    assert all(mutation.name in error for mutation in MUTATIONS)
    data = json.loads(path.read_text())
    assert data["exit_code"] == 6
    assert [each["name"] for each in data["trials"][1:]] == [mutation.name for mutation in MUTATIONS]


def test_a_tree_that_does_not_pass_ends_it_with_its_own_error(use_gate: UseGate) -> None:
    drifted = dataclasses.replace(PASSED, exit_code=7, findings=(FINDING,), worst="counter", error="counters drifted")
    use_gate(lambda number, arguments: drifted)
    with pytest.raises(CountersDrifted, match="the tree does not pass as it is"):
        try_mutations(None)


def test_a_false_alarm_is_an_error_that_says_how_often(use_gate: UseGate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutations, "MUTATIONS", ())
    caught = dataclasses.replace(
        PASSED,
        exit_code=1,
        findings=(Finding(kind="regression", message="sync_free at 1024x1024: dit +5%, limit 3%, which e2e hides"),),
    )
    alarm = dataclasses.replace(PASSED, exit_code=7, worst="counter", error="counters drifted (uploads)")
    use_gate(lambda number, arguments: caught if arguments else alarm if number == 5 else PASSED)
    with pytest.raises(RunFailed, match=r"untouched copies do not pass: 1 of 20 \(counters drifted"):
        try_mutations(None)


def test_what_cannot_be_done_is_refused_before_anything_runs(tmp_path: Path) -> None:
    assert main(["--json", str(tmp_path / "missing" / "x.json")]) == 2
    with pytest.raises(UsageError, match="no tree to copy"):
        mutations.check_tree(tmp_path)
