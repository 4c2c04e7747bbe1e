"""``gate counts``: holds the host syncs of targets and commands to a file of expectations; needs no GPU."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from bagel_perf.commands.common import stream_for_people
from bagel_perf.commands.gate_result import GateOutput
from bagel_perf.commands.sync_options import Watching, checked_command, script_of
from bagel_perf.commands.sync_targets import Job, parse_syncs_targets, watch_target
from bagel_perf.commands.syncs import Ended, Output, watch_program
from bagel_perf.records.errors import (
    INTERRUPTED,
    BagelPerfError,
    EnvironmentUnfit,
    RunFailed,
    UsageError,
    one_line,
    reworded,
)
from bagel_perf.records.expectations import ExpectedCounts, ExpectedSubject, SubjectName, load_counts
from bagel_perf.records.gates import Finding, GateReport
from bagel_perf.records.store import write_text
from bagel_perf.records.targets import UNKNOWN_CASE, Target, others_note, parse_targets
from bagel_perf.report.gates import counts_toml
from bagel_perf.report.inert import print_line
from bagel_perf.verdicts.counts import Found, Paths, drift, found_in, recorded

GONE = "its file is not there any more"
MANY = 2
"""As many cases have names of their own in a file of expectations."""
UPDATE = 'bagel-perf gate counts --update "REASON"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A target or command, and the name that the expectations have for it."""

    name: SubjectName
    target: Target | None = None
    folder: Path
    """Where its own file is."""
    is_dead: bool = False
    """Whether that file is no longer there."""
    is_whole: bool = False
    """Whether all cases of the file are meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is gated: targets, or a command, or all that the file has; ``update`` is the reason to write it anew."""

    words: tuple[str, ...] = ()
    is_command: bool = False
    case: str | None = None
    seed: int
    expect: Path
    update: str | None = None
    watching: Watching = field(default_factory=Watching)


def gate_counts(asked: Asked, output: GateOutput) -> None:
    """Watches each subject once, and delivers what drifted; raises the error of the worst finding."""
    output.check(asked.expect)
    if asked.update is not None and not asked.update.strip():
        raise UsageError("--update without a reason", remedy='say why the counts change: --update "REASON"')
    is_new = asked.update is not None and not asked.expect.exists()
    expected = ExpectedCounts() if is_new else load_counts(asked.expect, _update_command(asked))
    root = Path(os.path.abspath(asked.expect)).parent
    gating = Gating(asked=asked, output=output, expected=expected, root=root)
    gating.watch_all(_subjects(asked, expected, root))
    if asked.update is not None and not gating.findings:
        kept = [recorded(found, gating.before(found.name), one_line(asked.update)) for found, _ in gating.judged]
        _update(asked.expect, expected.with_subjects(kept, gating.dropped), output)
        gating.dead.clear()
    output.write(gating.report())


@dataclass(slots=True, kw_only=True)
class Gating:
    """What was watched: counts and findings by subject, ``dead`` subjects with why, and others that ``failed``.

    ``cases`` are those of each file that was watched, by its target.
    """

    asked: Asked
    output: GateOutput
    expected: ExpectedCounts
    root: Path
    judged: list[tuple[Found, tuple[Finding, ...]]] = field(default_factory=list)
    dead: dict[SubjectName, str] = field(default_factory=dict)
    failed: dict[SubjectName, Finding] = field(default_factory=dict)
    cases: dict[str, tuple[str, ...]] = field(default_factory=dict)
    outgrown: set[SubjectName] = field(default_factory=set)
    left: list[SubjectName] = field(default_factory=list)
    is_interrupted: bool = False

    def watch_all(self, subjects: Sequence[Subject]) -> None:
        """Watches one after the other until Ctrl-C; one that cannot be watched keeps no other from it."""
        for place, subject in enumerate(subjects):
            if subject.is_dead:
                self.dead[subject.name] = GONE
                continue
            try:
                self._watch(subject)
            except EnvironmentUnfit:
                raise
            except BagelPerfError as problem:
                self._failed(subject, problem, is_alone=len(subjects) == 1)
            if self.is_interrupted:
                self.left += [each.name for each in subjects[place + 1 :]]
                return

    def _watch(self, subject: Subject) -> None:
        """Watches a subject; of a whole file each case under its own name, unless the first alone is expected."""
        first = _watch(subject, self.asked, self.output)
        target = subject.name.target
        if target is not None:
            self.cases[target] = first.cases
        is_first_alone = self.asked.update is None and self.expected.of(subject.name) is not None
        if not subject.is_whole or is_first_alone or len(first.cases) < MANY:
            self._judge(subject, first)
            return
        self.outgrown.add(subject.name)
        for each in self.expected.subjects:
            if each.target == target and each.case is not None and each.case not in first.cases:
                self.dead[each.name] = _no_such_case(first.cases)
        for case in first.cases:
            own = dataclasses.replace(subject, name=replace(subject.name, case=case))
            if self.is_interrupted:
                self.left.append(own.name)
                continue
            self._judge(own, first if case == first.cases[0] else _watch(own, self.asked, self.output))

    def _judge(self, subject: Subject, ended: Ended) -> None:
        paths = Paths(root=self.root, folders=(Path.cwd(), subject.folder))
        found = found_in(subject.name, ended.report, paths)
        expected = None if self.asked.update else self.expected
        self.judged.append((found, tuple(_findings(found, ended, expected, paths))))
        self.is_interrupted = ended.exit_code == INTERRUPTED and subject.target is not None

    def _failed(self, subject: Subject, problem: BagelPerfError, *, is_alone: bool) -> None:
        """Keeps why a subject could not be watched; raises it where there is no other one."""
        is_recorded = self.expected.of(subject.name) is not None
        if problem.what == UNKNOWN_CASE and is_recorded:
            self.dead[subject.name] = f"{problem.what} ({problem.value}); {problem.allowed}"
        elif is_alone:
            raise reworded(problem, what=f"{subject.name}: {problem.what}") from problem
        else:
            self.failed[subject.name] = Finding(kind="incomplete", message=f"{subject.name}: {problem}")

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong with the subjects that are there."""
        return (*(finding for _, own in self.judged for finding in own), *self.failed.values())

    @property
    def dropped(self) -> tuple[SubjectName, ...]:
        """What the file has and an update leaves out."""
        return (*self.dead, *self.outgrown)

    def before(self, name: SubjectName) -> ExpectedSubject | None:
        """What was expected of a subject; of a first case what was expected of the file, where that was recorded."""
        whole = replace(name, case=None)
        is_first = whole in self.outgrown and name.case == self.cases[name.target or ""][0]
        return self.expected.of(name) or (self.expected.of(whole) if is_first else None)

    def report(self) -> GateReport:
        """All that was found."""
        outcomes = {found.name: _outcome(own) for found, own in self.judged} | dict.fromkeys(self.dead, "failed")
        outcomes |= dict.fromkeys(self.failed, "incomplete")
        return GateReport(
            findings=(*self.findings, *(_of_dead(name, why, self.asked.expect) for name, why in self.dead.items())),
            checks=tuple((self._check(name), outcome) for name, outcome in outcomes.items()),
            notes=tuple(self._notes()),
            subject=f"host syncs against {self.asked.expect}",
        )

    def _check(self, name: SubjectName) -> str:
        """What was held, and which cases were not where the first stands for the file."""
        others = self._not_held(name.target) if name.case is None else ()
        if not others:
            return f"host syncs of {name}"
        verb = "is" if len(others) == 1 else "are"
        return (
            f"host syncs of {name}, case {self.cases[name.target or ''][0]} alone ({', '.join(others)} {verb} not held)"
        )

    def _not_held(self, target: str | None) -> tuple[str, ...]:
        cases = self.cases.get(target or "", ())
        names = {name for name in (*(found.name for found, _ in self.judged), *self.failed) if name.target == target}
        held = {name.case or next(iter(cases), None) for name in names}
        return tuple(one_line(case) for case in cases if case not in held)

    def _notes(self) -> Iterator[str]:
        for found, _ in self.judged:
            cases = self.cases.get(found.name.target or "", ())
            known = others_note(cases) if cases else None
            yield from (f"{found.name}: {note}" for note in found.report.notes if note != known)
        for target in self.cases if self.asked.case is None else ():
            if others := self._not_held(target):
                yield f"{target}: not held: {', '.join(others)}; {UPDATE} {target} holds all cases"
        if self.left:
            yield f"not watched: {', '.join(map(str, self.left))}"


def _no_such_case(cases: Sequence[str]) -> str:
    return f"its case is not there any more; there are {one_line(', '.join(cases))}"


def _of_dead(name: SubjectName, why: str, expect: Path) -> Finding:
    remedy = f"mend {expect}, or --update REASON without a target drops it"
    return Finding(kind="counter", message=f"{name}: {why}; {remedy}")


def _outcome(findings: Sequence[Finding]) -> str:
    """The word of a check, as tables and JUnit have it."""
    kinds = {finding.kind for finding in findings}
    words = {"counter": "failed", "incomplete": "incomplete", "inconclusive": "inconclusive"}
    return next((word for kind, word in words.items() if kind in kinds), "pass")


def _update_command(asked: Asked) -> str:
    words = f" -- {' '.join(asked.words)}" if asked.is_command else "".join(f" {word}" for word in asked.words)
    return UPDATE + (words or " TARGET")


def _subjects(asked: Asked, expected: ExpectedCounts, root: Path) -> list[Subject]:
    """What the command line names, else all targets and commands of the file; ``UsageError``."""
    if asked.is_command:
        return [_of_command(asked.words)]
    if asked.words:
        _refuse_files_of_counts(asked.words)
        subjects = [_of_target(target, asked.case, root) for target in parse_syncs_targets(asked.words)]
        double = next((name for name, times in Counter(str(each.name) for each in subjects).items() if times > 1), None)
        if double is not None:
            raise UsageError("target is named twice", value=double, remedy="gate it under one environment at a time")
        return subjects
    if asked.case is not None:
        raise UsageError("--case without a target", value=asked.case, remedy="name the target, or drop it")
    names = [each.name for each in expected.subjects if each.test is None]
    if not names:
        remedy = f"{UPDATE} TARGET, or -- python SCRIPT"
        raise UsageError("nothing to gate", value=asked.expect, allowed="no target or command in it", remedy=remedy)
    return [_recorded_subject(name, root) for name in names]


def _refuse_files_of_counts(words: Sequence[str]) -> None:
    for word in words:
        if word.endswith(".toml"):
            remedy = f"bagel-perf gate counts --expect {word}"
            raise UsageError("expected counts are no target", value=word, allowed="FILE.py", remedy=remedy)


def _recorded_subject(name: SubjectName, root: Path) -> Subject:
    """A subject of the file, whose targets are relative to it."""
    if name.command is not None:
        with suppress(UsageError):
            return _of_command(name.command)
        return Subject(name=name, folder=root, is_dead=True)
    (target,) = parse_targets([os.path.relpath(root / (name.target or ""))])
    path = Path(target.file).absolute()
    return Subject(name=name, target=target, folder=path.parent, is_dead=not path.is_file())


def _of_command(command: tuple[str, ...]) -> Subject:
    checked_command(command)
    script = script_of(command)
    folder = Path.cwd() if script is None else Path(script).absolute().parent
    return Subject(name=SubjectName(command=command), folder=folder)


def _of_target(target: Target, case: str | None, root: Path) -> Subject:
    path = Path(os.path.abspath(target.file))
    file = Path(os.path.relpath(path, root)).as_posix()
    name = SubjectName(target=replace(target, file=file).place, case=case)
    watched = replace(target, file=os.path.relpath(path))  # as a recorded one: its sites are named alike
    return Subject(name=name, target=watched, folder=path.parent, is_whole=case is None)


def _watch(subject: Subject, asked: Asked, output: GateOutput) -> Ended:
    """Watches a subject once; its own output goes where text for people does."""
    syncs_output = Output(top=1, json_path=output.json_path, quiet=True)
    if subject.name.command is not None:
        return watch_program(subject.name.command, asked.watching, syncs_output)
    assert subject.target is not None
    job = Job(watching=asked.watching, output=syncs_output, case=subject.name.case, seed=asked.seed)
    return watch_target(subject.target, job)


def _findings(found: Found, ended: Ended, expected: ExpectedCounts | None, paths: Paths) -> Iterator[Finding]:
    """What keeps a subject from passing; without expectations, from being recorded."""
    own = recorded(found, None, "now") if expected is None else expected.of(found.name)
    for finding in drift(found, own, paths):
        is_error = finding.kind == "incomplete" and ended.error is not None
        yield replace(finding, message=f"{found.name}: {ended.error}") if is_error else finding


def _update(path: Path, new: ExpectedCounts, output: GateOutput) -> None:
    """Writes the file anew, unless it is so already."""
    text = counts_toml(new)
    is_same = path.exists() and path.read_text(encoding="utf-8") == text
    if not is_same:
        write_text(path, text)
        if load_counts(path, UPDATE).subjects != new.subjects:
            raise RunFailed("expected counts do not come back as they were written", value=path)
    if not output.quiet:
        told = f"nothing to record: {path} holds these numbers" if is_same else f"written: {path}"
        print_line(told, stream_for_people(output.json_path))
