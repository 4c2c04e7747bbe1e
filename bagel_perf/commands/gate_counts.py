"""``gate counts``: holds the host syncs of targets and commands to a file of expectations; needs no GPU."""

from __future__ import annotations

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
from bagel_perf.records.errors import RunFailed, UsageError, one_line
from bagel_perf.records.expectations import ExpectedCounts, SubjectName, load_counts
from bagel_perf.records.gates import Finding, GateReport
from bagel_perf.records.store import write_text
from bagel_perf.records.targets import Target, parse_targets
from bagel_perf.report.gates import counts_toml
from bagel_perf.report.inert import print_line
from bagel_perf.verdicts.counts import Found, Paths, drift, found_in, recorded

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
    judged: list[tuple[Found, tuple[Finding, ...]]] = []
    subjects = _subjects(asked, expected, root)
    dead = [subject.name for subject in subjects if subject.is_dead]
    for subject in (each for each in subjects if not each.is_dead):
        paths = Paths(root=root, folders=(Path.cwd(), subject.folder))
        ended = _watch(subject, asked, output)
        found = found_in(subject.name, ended.report, paths)
        judged.append((found, tuple(_findings(found, ended, None if asked.update else expected, paths))))
    findings = tuple(finding for _, own in judged for finding in own)
    if asked.update is not None and not findings:
        kept = [recorded(found, expected.of(found.name), one_line(asked.update)) for found, _ in judged]
        _update(asked.expect, expected.with_subjects(kept, dead), output)
        dead = []
    outcomes = {found.name: _outcome(own) for found, own in judged} | dict.fromkeys(dead, "failed")
    report = GateReport(
        findings=(*findings, *map(_of_dead, dead)),
        checks=tuple((f"host syncs of {name}", outcome) for name, outcome in outcomes.items()),
        notes=tuple(f"{found.name}: {note}" for found, _ in judged for note in found.report.notes),
        subject=f"host syncs against {asked.expect}",
    )
    output.write(report)


def _of_dead(name: SubjectName) -> Finding:
    message = f"{name}: its file is not there any more; --update REASON without a target drops it"
    return Finding(kind="counter", message=message)


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
    return Subject(name=name, target=watched, folder=path.parent)


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
