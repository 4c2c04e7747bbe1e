"""``gate`` without a result: tier 1, which needs no GPU."""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from bagel_perf import launch
from bagel_perf.commands.common import (
    stream_for_people,
)
from bagel_perf.commands.gate_result import GateOutput
from bagel_perf.records.errors import BagelPerfError, RunFailed, UsageError
from bagel_perf.records.events import EnvironmentEvent, Event, FailedEvent, RunEvent
from bagel_perf.records.expectations import Expected, ExpectedRun, load_expected
from bagel_perf.records.gates import ERRORS, REQUESTS, VARIANTS, Finding, FindingKind, GateReport
from bagel_perf.records.plans import Plan
from bagel_perf.records.runs import Environment, Run
from bagel_perf.records.store import write_text, writing
from bagel_perf.report.gates import expected_toml
from bagel_perf.report.inert import commit_text
from bagel_perf.report.progress import ProgressView
from bagel_perf.report.table import counted
from bagel_perf.verdicts import drift
from bagel_perf.verdicts.gate_pictures import hash_findings, picture_findings, print_findings


def gate_tree(expected_path: Path, update: str | None, output: GateOutput) -> None:
    """Counts every variant and holds it to the expected file, or writes that with ``update`` as the reason."""
    output.check(expected_path)
    if update is not None and not update.strip():
        raise UsageError("--update without a reason", remedy='say why the numbers change: --update "REASON"')
    is_new = not expected_path.exists()
    expected = None if update is not None else load_expected(expected_path)
    plan = Plan(kind="gate", requests=REQUESTS, variants=VARIANTS, preset="tiny", device="cpu")
    events: list[Event] = []
    with ProgressView(sys.stderr, quiet=output.quiet) as view:
        launch.run_plan(plan, (events.append, view.on_event))
    errors = {each.variant: each.error for each in events if isinstance(each, FailedEvent)}
    begun = next((each for each in events if isinstance(each, EnvironmentEvent)), None)
    if begun is None:
        output.write(_begun_by_none(errors))
        return
    environment, runs = begun.environment, _runs(events)
    report = judge_tree(expected, environment, runs, errors)
    notes = (*begun.notes, *report.notes)
    report = replace(report, notes=notes, provenance=_provenance(environment, len(runs)))
    if update is not None and not report.findings:
        written = drift.measured(environment, REQUESTS, runs, update, VARIANTS[0])
        _update(expected_path, written, output, is_new=is_new)
    output.write(report)


def judge_tree(
    expected: Expected | None, environment: Environment, runs: list[Run], errors: Mapping[str, BagelPerfError]
) -> GateReport:
    """Without expectations the pictures alone are judged, and whether requests of one shape do the same work.

    ``errors`` are those that the worker of a variant ended in; what is expected of it is judged as far as it ran.
    """
    findings = list(picture_findings(REQUESTS, VARIANTS, runs))
    findings += list(dict.fromkeys(map(_of_error, errors.values())))
    notes: list[str] = []
    found = drift.measured(environment, REQUESTS, runs, "", VARIANTS[0])
    rows = found.runs if expected is None else expected.runs
    judged = [row for row in rows if row.variant not in errors or row in _made(rows, found)]
    skipped = () if expected is None else drift.not_judged(expected.made_with, found.made_with)
    notes += skipped
    findings += drift.drift(judged, drift.found_in(REQUESTS, runs), of_release=not skipped)
    if expected is not None:
        findings += print_findings(REQUESTS, expected, found)
    if expected is not None and expected.made_with == found.made_with:
        findings += hash_findings(expected, found)
    elif expected is not None:
        notes.append(f"pictures are held to fingerprints, not to recorded hashes: {_unlike(expected, found)}")
    checks = _checks(findings, has_expected=expected is not None)
    return GateReport(findings=tuple(findings), checks=checks, notes=tuple(notes))


def _begun_by_none(errors: Mapping[str, BagelPerfError]) -> GateReport:
    """Of a tree that cannot so much as be imported, or changes settings as it is; raises what is no finding."""
    first = next(iter(errors.values()), RunFailed("the worker measured nothing"))
    if isinstance(first, RunFailed):
        raise first
    findings = list(dict.fromkeys(map(_of_error, errors.values())))
    return GateReport(findings=tuple(findings), checks=_checks(findings, has_expected=False))


def _made(rows: Sequence[ExpectedRun], found: Expected) -> list[ExpectedRun]:
    """Those of which there are runs."""
    made = {(run.request, run.variant) for run in found.runs}
    return [row for row in rows if (row.request, row.variant) in made]


def _provenance(environment: Environment, num_runs: int) -> str:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    where = f"{environment.device_name}, torch {environment.torch}, Python {environment.python}"
    return f"{commit_text(environment)}; {where}; {now}; {counted(num_runs, 'run')}"


def _unlike(expected: Expected, found: Expected) -> str:
    """What the hashes were made with elsewhere."""
    theirs = expected.made_with
    changed = {name: value for name, value in found.made_with.items() if theirs.get(name) != value}
    return "; ".join(f"{name} is {value}, was {theirs.get(name, 'not told')}" for name, value in changed.items())


def _of_error(error: BagelPerfError) -> Finding:
    """An error of the worker as a finding, at the line that it names."""
    kind: FindingKind = next((kind for kind, each in ERRORS.items() if type(error) is each), "incomplete")
    place = re.search(r" at (\S+\.py):(\d+)", str(error))
    return Finding(
        kind=kind, message=str(error), file=place[1] if place else None, line=int(place[2]) if place else None
    )


def _checks(findings: list[Finding], *, has_expected: bool) -> tuple[tuple[str, str], ...]:
    kinds = {finding.kind for finding in findings}
    counted = "not judged" if not has_expected else "failed" if "counter" in kinds else "pass"
    return (
        ("pictures and latents", "failed" if "picture" in kinds else "pass"),
        ("settings unchanged", "failed" if "environment" in kinds else "pass"),
        ("counters as expected", counted),
    )


def _holds(path: Path, expected: Expected) -> bool:
    """Whether a file has these numbers; one of another version has not."""
    with suppress(UsageError):
        return replace(load_expected(path), reason=expected.reason) == expected
    return False


def _runs(events: list[Event]) -> list[Run]:
    """In the order of the variants, whichever process was the first."""
    runs = [each.run for each in events if isinstance(each, RunEvent)]
    return sorted(runs, key=lambda run: VARIANTS.index(run.variant))


def _update(path: Path, expected: Expected, output: GateOutput, *, is_new: bool) -> None:
    if not is_new and _holds(path, expected):
        if not output.quiet:
            print(f"nothing to record: {path} holds these numbers", file=stream_for_people(output.json_path))
        return
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, expected_toml(expected))
    if not output.quiet:
        print(f"written: {path}", file=stream_for_people(output.json_path))
