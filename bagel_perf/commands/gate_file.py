"""``gate revision REV TARGET``: somebody's file as it stands, in turns with the same file of a revision."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from bagel_perf.analysis.gate_reports import Source
from bagel_perf.analysis.gating import judge_result
from bagel_perf.analysis.stats import MIN_PROCESSES
from bagel_perf.commands.compare import refuse_options_of_bagel
from bagel_perf.commands.gate_modes import Policy
from bagel_perf.commands.gate_output import GateOutput
from bagel_perf.commands.gate_worktree import Repository
from bagel_perf.commands.measuring import measured
from bagel_perf.recorder import Recorder, make_image_dir
from bagel_perf.report.markdown import write_summary
from bagel_perf.schema.errors import BagelPerfError, RunFailed, UsageError, reworded
from bagel_perf.schema.gates import Finding, GateReport
from bagel_perf.schema.outlines import WHOLE
from bagel_perf.schema.plans import DEVICES, Plan, one_of
from bagel_perf.schema.results import Result
from bagel_perf.schema.runs import CountedRun, runs_of
from bagel_perf.schema.sites import Site
from bagel_perf.schema.targets import Target, parse_target

WORKING_TREE = "working tree"


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
        yield before, replace(target, label=WORKING_TREE)


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


def _new_wait(result: Result, case: str, stage: str) -> Site | None:
    """A line of the last variant that waits more often there than any of its function and kind did in the first."""
    before, after = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    found: dict[tuple[str, str], Site] = {}
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
