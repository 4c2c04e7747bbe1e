"""Where the timelines of a step will stand; a result holds none yet."""

from __future__ import annotations

from bagel_perf.report.html.content import Code, Section, Text
from bagel_perf.schema.results import Result

MISSING = (
    "A timeline shows what CPU and GPU do side by side. Results of compare hold none, as a profiled pass is never a "
    "timed one. A trace of one variant, and what it says:"
)


def timeline_section(result: Result) -> Section:
    """What is missing, and the commands that give it."""
    name = result.variants[0]
    commands = f"bagel-perf syncs --variant {name} --keep-trace FILE\nbagel-perf trace FILE"
    return Section(anchor="timeline", title="Timeline", blocks=(Text(text=MISSING), Code(text=commands)))
