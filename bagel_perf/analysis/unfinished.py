"""From the lines of a run that was killed to a result that says so."""

from __future__ import annotations

from pathlib import Path

from bagel_perf.analysis.compare import Session, build_result
from bagel_perf.analysis.planning import looks_of
from bagel_perf.schema.errors import RunFailed, UsageError
from bagel_perf.schema.events import EnvironmentEvent, FloorsEvent, InputEvent, RunEvent, WarningEvent
from bagel_perf.schema.lines import read_lines
from bagel_perf.schema.results import Result
from bagel_perf.schema.runs import TimedRun, runs_of

KILLED = "it was killed, or runs still; what was measured until then is shown"


def unfinished_result(path: Path) -> Result:
    """The result of a file of lines. Raises ``UsageError`` where it holds none."""
    head, events = read_lines(path)
    started = next((event for event in events if isinstance(event, EnvironmentEvent)), None)
    runs = tuple(event.run for event in events if isinstance(event, RunEvent))
    if started is None or started.outline is None or not runs:
        raise UsageError("unfinished result has no runs", value=path, remedy="run it again")
    rounds = [run.round + 1 for run in runs_of(TimedRun, runs)]
    session = Session(
        command=head.command,
        created=head.created,
        pairs=max(started.pairs, *rounds, 0),
        warmup=started.warmup,
        order_seed=head.plan.order_seed,
        processes=max(started.processes, *(run.process + 1 for run in runs)),
        looks=looks_of(head.plan),
    )
    return build_result(
        started.outline,
        started.environment,
        runs,
        session,
        error=RunFailed("the run did not end", allowed=KILLED),
        warnings=[event.text for event in events if isinstance(event, WarningEvent)],
        inputs=[event.input for event in events if isinstance(event, InputEvent)],
        floors=next((event for event in reversed(events) if isinstance(event, FloorsEvent)), None),
    )
