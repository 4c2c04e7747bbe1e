"""What a result cannot tell, and all that its verdict says beyond the first screen."""

from __future__ import annotations

from collections.abc import Iterator

from bagel_perf.records.results import Result
from bagel_perf.records.runs import CountedRun, TimedRun, runs_of
from bagel_perf.report.html.content import Bullets, Heading, Section, Text
from bagel_perf.report.html.words import sentence, stopped
from bagel_perf.report.summary import verdict_lines
from bagel_perf.report.table import counted, unit_text
from bagel_perf.verdicts.statistics import MIN_PROCESSES


def limits_section(result: Result, *, has_timelines: bool = False) -> Section:
    """The verdict with each finding, warning and note, then what is not known."""
    head, *rest = verdict_lines(result)
    notes = (Bullets(items=tuple(stopped(line.removeprefix("- ")) for line in rest)),) if rest else ()
    unknown = tuple(unknown_lines(result, has_timelines=has_timelines))
    return Section(
        anchor="limits",
        title="Notes and limits",
        folded=f"{counted(len(rest), 'note')} on this run, and what it cannot tell",
        blocks=(
            Text(text=sentence(head)),
            *notes,
            Heading(text="What is not known"),
            Bullets(items=unknown) if unknown else Text(text="Nothing that a reader might expect is missing."),
        ),
    )


OF_SERVERS = (
    "Luck of the processes: each server is one, so a change is of these processes alone.",
    "Host syncs and the work of a GPU: nobody watched the servers' processes.",
    "Code and machine: what the servers run, and on what, they do not tell.",
)


def unknown_lines(result: Result, *, has_timelines: bool = False) -> Iterator[str]:
    """What a reader might expect and this result cannot tell."""
    environment, deltas = result.environment, result.deltas
    is_server = result.outline.is_server
    if is_server:
        yield from OF_SERVERS
    if environment.device_kind == "cpu":
        yield "Latency on a GPU: these are CPU latencies, which predict nothing about one."
    if any(cell.sync_device == "simulated" for cell in result.cells):
        yield "Host syncs were counted on a simulated device, not on a GPU."
    if not result.noise:
        yield f"Noise floor: {result.named[0]} was not timed against itself, as in files from before 2026-11-27."
    if any(delta.ci_pct is None for delta in deltas):
        yield f"Intervals: some changes have fewer than {counted(MIN_PROCESSES, unit_text(result))}."
    readings = [run.conditions for run in runs_of(TimedRun, result.runs)]
    if not any(each is not None and each.num_samples for each in readings):
        yield "Clocks, temperature and power of a GPU were not recorded, so a slowdown by heat cannot be ruled out."
    if not any(run.sites for run in runs_of(CountedRun, result.runs)) and any(cell.host_syncs for cell in result.cells):
        yield "Source lines of the host syncs are not in the result."
    if result.ceilings is None and not is_server:
        yield "Floors: the rates that the device can reach were not measured."
    if not has_timelines and not is_server:
        yield "Timelines: none was given beside the result."
    if "random" in str(result.subject.details.get("weights", "")):
        yield f"Quality: weights are random; the {result.outline.noun}s show identity and nothing else."
    if not is_server and (environment.commit is None or environment.dirty is not False):
        yield "Code: the commit may not name all that was measured."
    if not result.complete:
        yield "The rest: the run ended early or lacks something; see the findings above."
