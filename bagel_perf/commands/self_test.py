"""``gate --self-test``: puts each mistake that the gate has to catch into a copy of the tree, and runs the gate there.

One is scripted instead, latencies: the clock of whatever machine this runs on is too noisy to be 5% slower on demand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bagel_perf.commands import hidden_regression
from bagel_perf.commands.common import stream_for_people, write_json
from bagel_perf.commands.gate_copy import COPIED, copied, run_gate
from bagel_perf.commands.gate_output import GateOutput
from bagel_perf.commands.sabotages import SABOTAGES
from bagel_perf.report.progress import ProgressView
from bagel_perf.report.self_test_text import self_test_lines, self_test_table
from bagel_perf.report.text import print_document
from bagel_perf.schema.errors import RunFailed, UsageError
from bagel_perf.schema.events import ProgressEvent
from bagel_perf.schema.gates import ERRORS
from bagel_perf.schema.results import RESULT_FILE
from bagel_perf.schema.sabotages import Sabotage, SelfTest, Trial, Untouched

NUM_UNTOUCHED = 20
"""Copies as they are, every second one on another kind of CPU; one that does not pass is a false alarm."""
ROOT = Path(__file__).resolve().parents[2]


def run_self_test(output: GateOutput) -> None:
    """Tries every sabotage and copies without one.

    Raises ``RunFailed`` where the gate missed one or did not pass a copy, and the gate's own error where the tree does
    not pass as it is, before anything else is tried.
    """
    check_output(output)
    check_tree(ROOT)
    with ProgressView(sys.stderr, quiet=output.quiet) as view:
        result = SelfTest(trials=(), untouched=())
        for result in results(ROOT, SABOTAGES, NUM_UNTOUCHED):
            view.on_event(_progress(result))
    if not output.quiet:
        print_document(stream_for_people(output.json_path), (self_test_table(result),), self_test_lines(result))
    write_json(output.json_path, result.to_json())
    check_result(result)


def check_output(output: GateOutput) -> None:
    """``UsageError`` before anything runs if there is something to write that a self-test does not have."""
    output.check()
    given = {"--junit": output.junit, "--summary": output.summary, "--html": output.html, "--github": output.github}
    if any(given.values()):
        names = ", ".join(name for name, value in given.items() if value)
        raise UsageError("--self-test writes a table and --json alone", value=names, remedy=f"leave {names} out")


def check_tree(root: Path) -> None:
    """``UsageError`` where there is no tree to copy, ``RunFailed`` where a sabotage does not fit it any more."""
    for name in COPIED:
        if not (root / name).exists():
            raise UsageError("no tree to copy", value=root / name, remedy="run the self-test in a checkout")
    for sabotage in SABOTAGES:
        sabotage.applied((root / sabotage.file).read_text(encoding="utf-8"))


def results(root: Path, sabotages: Sequence[Sabotage], num_untouched: int) -> Iterator[SelfTest]:
    """What is known after each gate: of one untouched copy, then of the sabotages, then of the other copies."""
    result = SelfTest(trials=(), untouched=(untouched(root, is_first=True),))
    yield result
    trials = [scripted_trial(root)]
    for sabotage in sabotages:
        trials.append(trial(root, sabotage))
        yield SelfTest(trials=tuple(trials), untouched=result.untouched)
    passed = list(result.untouched)
    for number in range(1, num_untouched):
        passed.append(untouched(root, on_other_cpu=number % 2 == 1))
        yield SelfTest(trials=tuple(trials), untouched=tuple(passed))


def trial(root: Path, sabotage: Sabotage) -> Trial:
    """The gate on a copy with a mistake in it."""
    with copied(root) as copy:
        path = copy / sabotage.file
        patched = sabotage.applied(path.read_text(encoding="utf-8"))
        path.write_text(patched, encoding="utf-8")
        ended = run_gate(copy, on_other_cpu=sabotage.on_other_cpu)
    finding = sabotage.finding(ended.findings, patched)
    return Trial(
        name=sabotage.name,
        kind=sabotage.kind,
        exit_code=ended.exit_code,
        message=ended.error if finding is None else finding.message,
        is_named=finding is not None,
        seconds=ended.seconds,
    )


def scripted_trial(root: Path) -> Trial:
    """The gate on a result whose latencies are written, and not measured."""
    with copied(root) as copy:
        path = copy / RESULT_FILE
        path.write_text(json.dumps(hidden_regression.scripted_result().to_json()), encoding="utf-8")
        ended = run_gate(copy, path.name, *hidden_regression.LIMIT_OPTIONS)
    named = [each for each in ended.findings if all(word in each.message for word in hidden_regression.WORDS)]
    return Trial(
        name=hidden_regression.NAME,
        kind="regression",
        exit_code=ended.exit_code,
        message=named[0].message if named else ended.error,
        is_named=bool(named),
        seconds=ended.seconds,
    )


def untouched(root: Path, *, is_first: bool = False, on_other_cpu: bool = False) -> Untouched:
    """The gate on a copy as it is; the first says whether the tree passes at all, and raises its error if not."""
    with copied(root) as copy:
        ended = run_gate(copy, on_other_cpu=on_other_cpu)
    if is_first and ended.exit_code != 0:
        kind = RunFailed if ended.worst is None else ERRORS[ended.worst]
        raise kind("the tree does not pass as it is", value=ended.error, remedy="bagel-perf gate shows why")
    return Untouched(exit_code=ended.exit_code, message=ended.error, seconds=ended.seconds)


def check_result(result: SelfTest) -> None:
    """``RunFailed`` that names what was missed, or how often a copy without a mistake did not pass."""
    if result.missed:
        names = ", ".join(each.name for each in result.missed)
        raise RunFailed("the gate misses what it has to catch", value=names, remedy="--json has what it said instead")
    if result.false_alarms:
        first, number = result.false_alarms[0], f"{len(result.false_alarms)} of {len(result.untouched)}"
        raise RunFailed(f"untouched copies do not pass: {number}", value=first.message)


def _progress(result: SelfTest) -> ProgressEvent:
    done = len(result.trials) + len(result.untouched)
    total = len(SABOTAGES) + 1 + NUM_UNTOUCHED
    number = len(result.untouched)
    last = result.trials[-1].name if result.trials and number == 1 else f"untouched copy {number}"
    return ProgressEvent(text=f"tried {last}", done=done - 1, total=total)
