"""``syncs`` of targets, and of anything against another: each is watched in a process of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from bagel_perf.commands.common import check_json_path, existing, stream_for_people
from bagel_perf.commands.sync_options import Watching, is_report
from bagel_perf.commands.syncs import (
    TARGET_MODULE,
    Ended,
    Output,
    deliver,
    watch_process,
    watch_program,
    write_finally,
)
from bagel_perf.pythons import module_command, python_of, require_torch
from bagel_perf.records.codec import parse_json
from bagel_perf.records.errors import INTERRUPTED, BagelPerfError, RunFailed, UsageError
from bagel_perf.records.syncs import SyncReport
from bagel_perf.records.targets import DEFAULT_SEED, Target, TargetRun, is_target, parse_targets
from bagel_perf.report.sync_tables import print_changes
from bagel_perf.verdicts.counts import Side, difference


def parse_syncs_targets(texts: Sequence[str]) -> tuple[Target, ...]:
    """Targets whose files and Pythons are there; ``UsageError``."""
    targets = parse_targets(texts)
    for target in targets:
        existing(Path(target.file), "file", folder=False)
    return targets


def subject_of(target: Target, case: str | None) -> str:
    """What a report calls a target: its label where that says more, and its case where one was chosen."""
    names = {Path(target.file).stem, target.function}
    text = target.place if target.label in names else f"{target.label} ({target.place})"
    return text if case is None else f"{text}, case {case}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is asked for besides what is watched: ``case`` and ``seed`` of targets, ``against`` another one."""

    watching: Watching
    output: Output
    case: str | None = None
    seed: int = DEFAULT_SEED
    against: str | None = None


def watch_command(command: Sequence[str], job: Job, *, is_program: bool) -> int:
    """Watches what the command line names and delivers what was seen; gives a program's own exit code, else 0.

    Raises the error that a target ended in, and that of a budget which was not kept.
    """
    check_json_path(job.output.json_path)
    if job.against is not None:
        return _compare(command, job.against, job, is_program=is_program)
    if is_program:
        ended = watch_program(command, job.watching, job.output)
        deliver([ended.report], job.output)
        return ended.exit_code
    reports = [text for text in command if is_report(text)]
    if reports:
        remedy = "compare it: --against OTHER, or look at it: bagel-perf report"
        raise UsageError("a report is nothing to watch", value=reports[0], remedy=remedy)
    targets = parse_syncs_targets(command)
    if job.watching.trace_path is not None and len(targets) > 1:
        raise UsageError("--keep-trace keeps one trace", value=f"{len(targets)} targets", remedy="name one target")
    all_ended = []
    for target in targets:
        all_ended.append(watch_target(target, job))
        if all_ended[-1].exit_code == INTERRUPTED:
            break
    error = next((ended.error for ended in all_ended if ended.error is not None), None)
    try:
        deliver([ended.report for ended in all_ended], job.output)
    except BagelPerfError as problem:
        raise error or problem from None
    if error is not None:
        raise error
    return 0


def watch_target(target: Target, job: Job) -> Ended:
    """Runs a target once and watches its stages."""
    require_torch(python_of(target.environment), with_ours=target.environment is not None)
    run = TargetRun(target=target, case=job.case, seed=job.seed)
    start = module_command(TARGET_MODULE, target.environment)
    subject = subject_of(target, job.case)
    ended = watch_process(start, job.watching, job.output, run=run, subject=subject)
    if ended.error is None and ended.exit_code:
        error = RunFailed("the process of a target ended early", value=f"{subject}, exit code {ended.exit_code}")
        if ended.exit_code == INTERRUPTED:
            error = RunFailed("interrupted", value=subject)
        return dataclasses.replace(ended, error=error)
    return ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """One of two that are compared; ``target`` is what was named, unless that is a program or report."""

    report: SyncReport
    target: Target | None = None


def read_report(path: Path) -> SyncReport:
    """The report in a file; ``UsageError``."""
    try:
        data = parse_json(existing(path, "report", folder=False).read_bytes())
    except OSError as problem:
        raise UsageError("report cannot be read", value=path, allowed=problem.strerror or "") from problem
    except (ValueError, RecursionError) as problem:
        if isinstance(problem, UsageError):
            raise
        raise UsageError("report is no JSON", value=path, allowed=str(problem)) from problem
    if isinstance(data, dict) and "reports" in data and "sites" not in data:
        raise UsageError("file holds several reports", value=path, remedy="write one: syncs ONE_TARGET --json FILE")
    try:
        return SyncReport.from_json(data)
    except UsageError as problem:
        raise UsageError("report cannot be used", value=path, allowed=str(problem)) from problem


def _compare(command: Sequence[str], against: str, job: Job, *, is_program: bool) -> int:
    """Compares a program, target or report with a target or report."""
    own = [] if is_program else list(command)
    targets = _targets_to_compare(own, against, job.watching)
    if is_program:
        ended = watch_program(command, job.watching, job.output)
        after, code = Named(report=ended.report), ended.exit_code
    else:
        after, code = _named(own[0], targets, job), 0
    _deliver_difference(_named(against, targets, job), after, job.output)
    return code


def _targets_to_compare(own: Sequence[str], against: str, watching: Watching) -> dict[str, Target]:
    """The targets among what is compared; ``UsageError`` for what cannot be, before anything runs."""
    if not is_report(against) and not is_target(against):
        raise UsageError("--against is not understood", value=against, allowed="FILE.py, FILE.py:NAME, or REPORT.json")
    if len(own) > 1:
        raise UsageError("--against compares two", value=f"{len(own)} and another", remedy="name one in front of it")
    for option, is_given in (("--budget", watching.budgets), ("--keep-trace", watching.trace_path)):
        if is_given:
            raise UsageError(f"{option} means nothing beside --against", remedy="drop it")
    for text in (*own, against):
        if is_report(text):
            read_report(Path(text))
    texts = list(dict.fromkeys(text for text in (*own, against) if not is_report(text)))
    return dict(zip(texts, parse_syncs_targets(texts), strict=True))


def _named(text: str, targets: Mapping[str, Target], job: Job) -> Named:
    if is_report(text):
        report = read_report(Path(text))
        return Named(report=report if report.subject else replace(report, subject=text))
    ended = watch_target(targets[text], job)
    if ended.error is not None:
        raise ended.error
    return Named(report=ended.report, target=targets[text])


def _deliver_difference(before: Named, after: Named, output: Output) -> None:
    found = difference(*_sides(before, after))
    lost = write_finally(output.json_path, found.to_json())
    if not output.quiet:
        print_changes(found, stream_for_people(output.json_path), top=output.top)
    if lost is not None:
        raise lost


def _sides(before: Named, after: Named) -> tuple[Side, Side]:
    """Both reports; of two targets the files and functions that were named stand for each other."""
    if before.target is None or after.target is None:
        return Side(report=before.report), Side(report=after.report)
    first, second = (_side(each.report, each.target) for each in (before, after) if each.target is not None)
    return first, second


def _side(report: SyncReport, target: Target) -> Side:
    names = {site.file for site in report.sites} | {each.file for each in report.unjudged_sites}
    path = Path(target.file).absolute().as_posix()
    own = [name for name in names if name and f"/{path}".endswith(f"/{name}")]
    functions = {} if target.function is None else {target.function: "FUNCTION"}
    return Side(report=report, files=dict.fromkeys(own, "FILE"), functions=functions)
