"""``gate revision REV``: the tree that we stand in, measured in turns with a revision and judged against it."""

from __future__ import annotations

import contextlib
import datetime
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from bagel_perf.analysis import pictures
from bagel_perf.analysis.alike import unlike_environments, unlike_subjects
from bagel_perf.analysis.gate_reports import Source
from bagel_perf.analysis.gating import judge_against
from bagel_perf.analysis.result_pictures import are_different
from bagel_perf.analysis.stats import MIN_PROCESSES
from bagel_perf.commands.gate_modes import Policy, bitwise
from bagel_perf.commands.gate_output import GateOutput
from bagel_perf.commands.gate_trees import Arm, Listener, measure_trees
from bagel_perf.commands.gate_worktree import Repository, check_has_worker
from bagel_perf.pythons import require_torch
from bagel_perf.recorder import REPORTS, Recorder, make_image_dir
from bagel_perf.report.markdown import write_summary
from bagel_perf.report.progress import ProgressView
from bagel_perf.schema.errors import BagelPerfError, EnvironmentUnfit, OutputsDiffer, RunFailed, reworded
from bagel_perf.schema.events import WarningEvent
from bagel_perf.schema.gates import GateReport
from bagel_perf.schema.plans import Plan
from bagel_perf.schema.results import Result
from bagel_perf.schema.runs import Environment
from bagel_perf.schema.store import device_slug, make_out_dir, writing

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
            if are_different(*(pictures.at(arm.recorder.runs, case, name) for arm in (reference, candidate))):
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
