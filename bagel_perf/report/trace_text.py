"""A trace report for a terminal: warnings first, what to do next last."""

from __future__ import annotations

from typing import TextIO

from rich.text import Text

from bagel_perf.report.inert import terminal
from bagel_perf.report.text import console_for, print_lines, print_tables
from bagel_perf.report.trace_changes import change_lines, change_tables
from bagel_perf.report.trace_summary import headline, next_line, note_lines, source_line, warning_lines
from bagel_perf.report.trace_tables import trace_tables
from bagel_perf.schema.traces import TraceReport


def print_trace(report: TraceReport, top: int, stream: TextIO) -> None:
    """Prints what the trace shows, and what changed if it was compared; at most ``top`` rows a table."""
    console = console_for(stream)
    for text, style in ((source_line(report), "bold"), *((line, "bold red") for line in warning_lines(report))):
        console.print(Text(terminal(text), style=style), soft_wrap=True)
    print_lines(console, (*headline(report), ""))
    print_tables(console, trace_tables(report, top))
    if report.difference is not None:
        print_tables(console, change_tables(report.difference, top))
        print_lines(console, change_lines(report.difference))
    print_lines(console, (*note_lines(report), next_line(report)))
