"""``gate revision REV [TARGET]``: measures this tree, or a file in it, in turns with a revision, and judges it."""

from __future__ import annotations

import contextlib
import datetime
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from bagel_perf.commands.compare import refuse_options_of_bagel
from bagel_perf.commands.gate_result import GateOutput, Policy, bitwise
from bagel_perf.commands.gate_trees import Arm, Listener, Repository, check_has_worker, measure_trees
from bagel_perf.commands.measuring import measured
from bagel_perf.pythons import require_torch
from bagel_perf.recorder import REPORTS, Recorder, make_image_dir
from bagel_perf.records.errors import BagelPerfError, EnvironmentUnfit, OutputsDiffer, RunFailed, UsageError, reworded
from bagel_perf.records.events import WarningEvent
from bagel_perf.records.gates import Finding, GateReport
from bagel_perf.records.outlines import WHOLE
from bagel_perf.records.plans import DEVICES, Plan, one_of
from bagel_perf.records.results import Result
from bagel_perf.records.runs import CountedRun, Environment, runs_of
from bagel_perf.records.sites import SyncSite
from bagel_perf.records.store import device_slug, make_out_dir, writing
from bagel_perf.records.targets import Target, parse_target
from bagel_perf.report.progress import ProgressView
from bagel_perf.report.summary import write_summary
from bagel_perf.verdicts import identity
from bagel_perf.verdicts.comparability import unlike_environments, unlike_subjects
from bagel_perf.verdicts.gate import Source, judge_against, judge_result
from bagel_perf.verdicts.identity import are_different
from bagel_perf.verdicts.statistics import MIN_PROCESSES

DEFAULT_WARMUP = 1
WORKING_TREE = "the working tree"


@dataclass(slots=True, kw_only=True)
class Folder:
    """Where both results go: a folder that was asked for, or one that is made when the device is known."""

    out: Path | None
    commits: str

    def of(self, part: str, environment: Environment) -> Path:
        if self.out is None:
            device = "cpu" if environment.device_kind == "cpu" else device_slug(environment.device_name)
            date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
            self.out = make_out_dir(REPORTS, device, self.commits, date)
        with writing(self.out / part):
            (self.out / part).mkdir(parents=True)
        return self.out / part


def gate_revision(
    plan: Plan, revision: str, policy: Policy, out: Path | None, output: GateOutput, *, command: str
) -> None:
    """Measures, keeps both results, judges; whatever ends it, the revision's folder is gone afterwards."""
    output.check()
    require_torch()
    repository = Repository.around(Path.cwd())
    commits = repository.commit(revision), repository.commit("HEAD")
    policy.check(plan)
    plan = replace(
        plan,
        pairs=MIN_PROCESSES if plan.pairs is None else plan.pairs,
        warmup=DEFAULT_WARMUP if plan.warmup is None else plan.warmup,
        image_dir=make_image_dir(out),
    )
    folder = Folder(out=out, commits=f"{commits[1][:7]}-against-{commits[0][:7]}")
    arms = _arms(plan, folder, repository, commits, revision, command)
    error: BagelPerfError | None = None
    try:
        with ProgressView(sys.stderr, quiet=output.quiet) as view:
            _warn_of_few(plan, view.on_event)
            _measure(arms, plan, repository, view.on_event)
    except BagelPerfError as problem:
        error = problem
    except KeyboardInterrupt:
        error = RunFailed("interrupted")
    finally:
        for arm in arms:
            arm.recorder.finish(error)
    report = _judge(arms, folder, policy, error)
    output.write(report, [_kept(arm) for arm in arms])


def _arms(
    plan: Plan, folder: Folder, repository: Repository, commits: tuple[str, str], revision: str, command: str
) -> tuple[Arm, Arm]:
    def arm(name: str, part: str, commit: str) -> Arm:
        return Arm(
            name=name,
            tree=repository.root,
            commit=commit,
            recorder=Recorder(plan=plan, command=command, out=None),
            make_folder=lambda environment: folder.of(part, environment),
        )

    return arm(revision, "reference", commits[0]), arm(WORKING_TREE, "candidate", commits[1])


def _warn_of_few(plan: Plan, view: Listener) -> None:
    assert plan.pairs is not None
    if plan.pairs < MIN_PROCESSES:
        what = f"{plan.pairs} processes of either tree decide nothing"
        view(WarningEvent(text=f"{what}; --pairs {MIN_PROCESSES} or more"))


def _measure(arms: tuple[Arm, Arm], plan: Plan, repository: Repository, view: Listener) -> None:
    reference, candidate = arms
    check_has_worker(candidate.tree, WORKING_TREE)
    with repository.worktree(reference.commit) as tree:
        check_has_worker(tree, reference.name)
        reference.tree = tree
        measure_trees(arms, plan, view, lambda: _check(reference, candidate, plan))


def _check(reference: Arm, candidate: Arm, plan: Plan) -> None:
    """After each pair: what no further pair could mend ends the measurement."""
    assert reference.environment is not None and candidate.environment is not None
    differences = [
        *unlike_environments(reference.environment, candidate.environment),
        *unlike_subjects(reference.subject, candidate.subject),
    ]
    if differences:
        raise EnvironmentUnfit(f"{reference.name} and {candidate.name} differ: {'; '.join(differences)}")
    others = [*_other_pictures(reference, candidate, plan)]
    if others:
        raise OutputsDiffer("; ".join(others))


def _other_pictures(reference: Arm, candidate: Arm, plan: Plan) -> Iterator[str]:
    for case in (request.case for request in plan.requests):
        for name in bitwise(plan):
            if are_different(*(identity.at(arm.recorder.runs, case, name) for arm in (reference, candidate))):
                yield f"{name} at {case} gives another picture than in {reference.name}"


def _judge(arms: Sequence[Arm], folder: Folder, policy: Policy, error: BagelPerfError | None) -> GateReport:
    sources = []
    for arm in arms:
        result, path = arm.recorder.result, arm.recorder.result_path
        if result is None or path is None:
            raise _failure(folder, error)
        write_summary(result, path.parent)
        sources.append(Source(result=result, name=arm.name))
    report = judge_against(sources[0], sources[1], policy.limits, policy.variant)
    both = f"{folder.out}/candidate --reference {folder.out}/reference"
    return replace(report, notes=(*report.notes, f"kept, and to be judged again as gate result {both}"))


def _kept(arm: Arm) -> tuple[Result, Path]:
    """Of an arm that was judged."""
    result, path = arm.recorder.result, arm.recorder.result_path
    assert result is not None and path is not None
    return result, path.parent


def _failure(folder: Folder, error: BagelPerfError | None) -> BagelPerfError:
    """Of a measurement in which one tree, or both, gave nothing."""
    error = error or RunFailed("the worker measured nothing")
    if folder.out is None:
        return error
    for path in (folder.out / "reference", folder.out / "candidate", folder.out):
        with contextlib.suppress(OSError):  # a folder that holds something stays
            path.rmdir()
    kept = f"what was measured is in {folder.out}" if folder.out.exists() else ""
    remedy = "; ".join(part for part in (error.remedy, kept) if part)
    return reworded(error, remedy=remedy)


WORKING_FILE = "working tree"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileGate:
    """What to hold to which revision, and how to measure it; ``pairs`` are processes of either."""

    target: str
    revision: str
    cases: tuple[str, ...]
    seed: int
    device: str
    pairs: int | None
    warmup: int | None
    out: Path | None


def gate_file(asked: FileGate, policy: Policy, output: GateOutput, *, command: str, given: frozenset[str]) -> None:
    """Measures, keeps the result, judges; the revision's folder is gone afterwards, whatever ends it."""
    output.check()
    refuse_options_of_bagel(given)
    target = parse_target(asked.target)
    if not Path(target.file).is_file():
        raise UsageError("file does not exist", value=target.file)
    with _in_both_trees(target, asked.revision) as targets:
        plan = _plan(asked, targets)
        recorder = Recorder(plan=plan, command=command, out=asked.out)
        error = measured(plan, recorder, quiet=output.quiet)
        if error is not None:
            error = _in_words_of_the_revision(error, targets[0].file, f"{asked.revision}:{target.file}")
    result, path = recorder.result, recorder.result_path
    if result is None or path is None:
        raise error or RunFailed("the worker measured nothing")
    write_summary(result, path.parent)
    report = judge_result(Source(result=result, name=str(path.parent)), policy.limits, policy.variant)
    output.write(_with_counts(report, result), [(result, path.parent)])


@contextmanager
def _in_both_trees(target: Target, revision: str) -> Iterator[tuple[Target, Target]]:
    """The target in a checkout of the revision, and as it stands."""
    repository = Repository.around(Path(target.file).resolve().parent)
    commit = repository.commit(revision)
    place = os.path.relpath(os.path.realpath(target.file), os.path.realpath(repository.root))
    with repository.worktree(commit) as tree:
        if not (tree / place).is_file():
            raise UsageError("revision does not have this file", value=f"{revision}:{place}")
        before = replace(target, label=revision, file=str(tree / place))
        yield before, replace(target, label=WORKING_FILE)


def _plan(asked: FileGate, targets: tuple[Target, Target]) -> Plan:
    processes = MIN_PROCESSES if asked.pairs is None else asked.pairs
    return Plan(
        kind="compare",
        variants=tuple(target.label for target in targets),
        targets=targets,
        cases=asked.cases,
        seed=asked.seed,
        device=one_of("device", asked.device, DEVICES),
        pairs=processes,
        processes=processes,
        warmup=asked.warmup,
        order_seed=random.SystemRandom().randrange(2**31),
        image_dir=make_image_dir(asked.out),
    )


def _in_words_of_the_revision(error: BagelPerfError, path: str, name: str) -> BagelPerfError:
    """The error with the name of the revision in place of a folder that is gone when it is read."""
    what, allowed, remedy = (text.replace(path, name) for text in (error.what, error.allowed, error.remedy))
    value = None if error.value is None else error.value.replace(path, name)
    return reworded(error, what=what, value=value, allowed=allowed, remedy=remedy)


def _new_wait(result: Result, case: str, stage: str) -> SyncSite | None:
    """A line of the last variant that waits more often there than any of its function and kind did in the first."""
    before, after = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    found: dict[tuple[str, str], SyncSite] = {}
    for run in runs_of(CountedRun, result.runs):
        for site in run.sites if run.case == case else ():
            if stage in (WHOLE, site.region.split("/")[0]):
                key = site.function, site.kind
                (before if run.variant == result.named[0] else after)[key] += site.count
                if run.variant != result.named[0]:
                    found[key] = site
    return next((found[key] for key, number in after.items() if number > before[key]), None)


def _with_counts(report: GateReport, result: Result) -> GateReport:
    """The report, which also fails where the file waits more often than in the revision."""
    before, after = result.named
    counts = {(cell.case, cell.stage, cell.variant): cell.host_syncs for cell in result.cells}
    more = []
    notes = []
    for case in result.cases:
        for stage in result.stages if len(result.stages) > 1 else result.timed_stages:
            was, now = counts.get((case, stage, before)), counts.get((case, stage, after))
            place = f"{stage} at {case}"
            if was is None or now is None:
                notes.append(f"host syncs of {place} are not known")
            elif now > was:
                site = _new_wait(result, case, stage)
                where = "" if site is None else f": {site.file}:{site.line} {'; '.join(site.expressions)}".rstrip()
                message = f"{place} waits {now} times, and {was} in {before}{where}"
                file, line = (None, None) if site is None else (site.file, site.line)
                more.append(Finding(kind="counter", message=message, file=file, line=line))
            elif now < was:
                notes.append(f"{place} waits {now} times, and {was} in {before}")
    state = "drifted" if more else "pass"
    return replace(
        report,
        findings=(*report.findings, *more),
        notes=(*report.notes, *notes),
        checks=(*report.checks, ("host syncs", state)),
    )
