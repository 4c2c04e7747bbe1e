"""Sets a target up and watches one run of its stages, in the process that is started for it.

What its ``setup`` waited for is told and not counted. The device is open, and the order known, since torch was
imported (see ``followed``).
"""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from msgspec.structs import replace

from bagel_perf.followed import flush, followed
from bagel_perf.measure.stages import Subject, run_stages
from bagel_perf.records.errors import INTERRUPTED, BagelPerfError, error_to_json
from bagel_perf.records.syncs import SyncReport
from bagel_perf.records.targets import TargetRun, others_note
from bagel_perf.subjects.files import UserFile
from bagel_perf.syncs import count_host_syncs

DEVICE = "cuda"
"""Of a GPU, and of the simulated one."""


@dataclass(slots=True, kw_only=True)
class Prepared:
    """Stages that are ready to run, and what is to be said of them; ``error`` is what they ended in."""

    subject: Subject
    notes: tuple[str, ...]
    cases: tuple[str, ...]
    error: BagelPerfError | None = field(default=None, init=False)

    def run(self) -> int:
        """Runs the stages in their regions; gives an exit code as a program's."""
        try:
            run_stages(self.subject)
        except KeyboardInterrupt:
            _hear_no_more()
            return INTERRUPTED
        except BagelPerfError as problem:
            self.error = problem
            return problem.exit_code
        return 0

    def told(self, report: SyncReport) -> SyncReport:
        """The report with what was not watched."""
        return replace(report, notes=(*report.notes, *self.notes))


def prepare(run: TargetRun) -> Prepared:
    """Loads the file, sets it up, and asks for its stages, on the device that is open.

    Raises ``UsageError`` and ``RunFailed`` with the file's line.
    """
    target = run.target
    sys.argv = [str(Path(target.file).absolute())]
    with count_host_syncs(DEVICE) as collector:
        file = UserFile.load(target.file)
        file.check(target.function)
        case = file.cases[0] if run.case is None else run.case
        state = file.set_up(torch.device(DEVICE))
        subject = file.subject(target.function, state, case, run.seed)
    notes = [others_note(file.cases)]
    is_chosen = run.case is not None or len(file.cases) == 1
    number = collector.total()
    before = f"before the stages, as in setup, the host waited {number} time{'s' * (number != 1)}, not counted here"
    return Prepared(
        subject=subject,
        notes=(*([] if is_chosen else notes), *([before] if collector.total() else [])),
        cases=file.cases,
    )


def _hear_no_more() -> None:
    """Has Ctrl-C pass: the run is over, and a second one would take its report."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def main() -> int:
    """Runs the target that the order names; gives an exit code as a program's, whatever the watch found."""
    own = followed()
    assert own.order.run is not None
    try:
        prepared = prepare(own.order.run)
    except BagelPerfError as problem:
        own.write(None, error=error_to_json(problem))
        return problem.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    code = own.watch_stages(prepared.run)
    _hear_no_more()
    error = prepared.error
    own.write(
        replace(prepared.told(own.report()), exit_code=code),
        cases=prepared.cases,
        **({} if error is None else {"error": error_to_json(error)}),
    )
    return code


def start() -> None:
    """Runs the target, and ends the process."""
    code = main()
    flush()
    sys.exit(code)
