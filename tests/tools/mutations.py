"""Puts each mistake that the gate has to catch into a copy of the tree, and runs the gate there, in 35 minutes.

``python tests/tools/mutations.py``, from the root of a checkout. One is scripted instead, latencies: the clock of
whatever machine this runs on is too noisy to be 5% slower on demand.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import hidden_regression
from bagel_perf.commands.common import check_json_path, print_error, stream_for_people, write_json
from bagel_perf.records.errors import BagelPerfError, RunFailed, UsageError
from bagel_perf.records.events import ProgressEvent
from bagel_perf.records.gates import ERRORS
from bagel_perf.records.results import RESULT_FILE
from bagel_perf.report.progress import ProgressView
from bagel_perf.report.text import print_document
from gate_copy import COPIED, copied, run_gate
from mutation_records import Mutation, Outcome, Trial, Untouched
from mutation_text import mutation_lines, mutation_table
from plain_mutations import MUTATIONS

NUM_UNTOUCHED = 20
"""Copies as they are, every second one on another kind of CPU; one that does not pass is a false alarm."""
ROOT = Path(__file__).resolve().parents[2]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 where the gate caught every mutation and passed every copy without one, else that of the error."""
    parser = argparse.ArgumentParser(prog="python tests/tools/mutations.py", description=__doc__)
    parser.add_argument("--json", metavar="PATH", help="also write JSON there; - is stdout")
    options = parser.parse_args(argv)
    try:
        try_mutations(options.json)
    except BagelPerfError as error:
        print_error(error)
        return error.exit_code
    return 0


def try_mutations(json_path: str | None) -> None:
    """Tries every mutation and copies without one.

    Raises ``RunFailed`` where the gate missed one or did not pass a copy, and the gate's own error where the tree does
    not pass as it is, before anything else is tried.
    """
    check_json_path(json_path)
    check_tree(ROOT)
    with ProgressView(sys.stderr) as view:
        result = Outcome(trials=(), untouched=())
        for result in results(ROOT, MUTATIONS, NUM_UNTOUCHED):
            view.on_event(_progress(result))
    print_document(stream_for_people(json_path), (mutation_table(result),), mutation_lines(result))
    write_json(json_path, result.to_json())
    check_result(result)


def check_tree(root: Path) -> None:
    """``UsageError`` where there is no tree to copy, ``RunFailed`` where a mutation does not fit it any more."""
    for name in COPIED:
        if not (root / name).exists():
            raise UsageError("no tree to copy", value=root / name, remedy="run it in a checkout")
    for mutation in MUTATIONS:
        mutation.applied((root / mutation.file).read_text(encoding="utf-8"))


def results(root: Path, mutations: Sequence[Mutation], num_untouched: int) -> Iterator[Outcome]:
    """What is known after each gate: of one untouched copy, then of the mutations, then of the other copies."""
    result = Outcome(trials=(), untouched=(untouched(root, is_first=True),))
    yield result
    trials = [scripted_trial(root)]
    for mutation in mutations:
        trials.append(trial(root, mutation))
        yield Outcome(trials=tuple(trials), untouched=result.untouched)
    passed = list(result.untouched)
    for number in range(1, num_untouched):
        passed.append(untouched(root, on_other_cpu=number % 2 == 1))
        yield Outcome(trials=tuple(trials), untouched=tuple(passed))


def trial(root: Path, mutation: Mutation) -> Trial:
    """The gate on a copy with a mistake in it."""
    with copied(root) as copy:
        path = copy / mutation.file
        patched = mutation.applied(path.read_text(encoding="utf-8"))
        path.write_text(patched, encoding="utf-8")
        ended = run_gate(copy, on_other_cpu=mutation.on_other_cpu)
    finding = mutation.finding(ended.findings, patched)
    return Trial(
        name=mutation.name,
        kind=mutation.kind,
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
        ended = run_gate(copy, "result", path.name, *hidden_regression.LIMIT_OPTIONS)
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


def check_result(result: Outcome) -> None:
    """``RunFailed`` that names what was missed, or how often a copy without a mistake did not pass."""
    if result.missed:
        names = ", ".join(each.name for each in result.missed)
        raise RunFailed("the gate misses what it has to catch", value=names, remedy="--json has what it said instead")
    if result.false_alarms:
        first, number = result.false_alarms[0], f"{len(result.false_alarms)} of {len(result.untouched)}"
        raise RunFailed(f"untouched copies do not pass: {number}", value=first.message)


def _progress(result: Outcome) -> ProgressEvent:
    done = len(result.trials) + len(result.untouched)
    total = len(MUTATIONS) + 1 + NUM_UNTOUCHED
    number = len(result.untouched)
    last = result.trials[-1].name if result.trials and number == 1 else f"untouched copy {number}"
    return ProgressEvent(text=f"tried {last}", done=done - 1, total=total)


if __name__ == "__main__":
    sys.exit(main())
