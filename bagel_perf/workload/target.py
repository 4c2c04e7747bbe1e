"""A target that is watched: loaded and set up before the watch begins, one run of its stages inside."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from msgspec.structs import replace

from bagel_perf.harness.measure import Subject, run_stages
from bagel_perf.harness.syncs import count_host_syncs
from bagel_perf.schema.errors import INTERRUPTED, BagelPerfError
from bagel_perf.schema.plain_text import one_line
from bagel_perf.schema.scripts import TargetRun
from bagel_perf.schema.syncs import SyncReport
from bagel_perf.subjects.files import UserFile

DEVICE = "cuda"
"""Of a GPU, and of the simulated one."""


@dataclass(slots=True, kw_only=True)
class Prepared:
    """Stages that are ready to run, and what is to be said of them; ``error`` is what they ended in."""

    subject: Subject
    notes: tuple[str, ...]
    error: BagelPerfError | None = field(default=None, init=False)

    def run(self) -> int:
        """Runs the stages in their regions; gives an exit code as a program's."""
        try:
            run_stages(self.subject)
        except KeyboardInterrupt:
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
    notes = [f"case {case}; the others with --case: {one_line(', '.join(file.cases[1:]))}"]
    is_chosen = run.case is not None or len(file.cases) == 1
    number = collector.total()
    before = f"before the stages, as in setup, the host waited {number} time{'s' * (number != 1)}, not counted here"
    return Prepared(subject=subject, notes=(*([] if is_chosen else notes), *([before] if collector.total() else [])))
