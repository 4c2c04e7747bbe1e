"""Reads reports of ``syncs`` for a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bagel_perf.report.html.plausible_lanes import check_profile
from bagel_perf.report.html.source import cleaned
from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.results import is_result
from bagel_perf.schema.syncs import SCHEMA, SyncReport
from bagel_perf.schema.unpacked_json import unpacked_json

MAX_NAME = 4000
"""Characters of a string in a profile: names of kernels have more than those of a result."""


def report_in(path: Path) -> SyncReport | None:
    """The report of ``syncs`` in a file, gzipped or not; None where it is something else.

    Raises ``UsageError`` with the file where it is damaged, or has a profile that cannot be drawn.
    """
    try:
        data = _json(path)
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            return None
        report = SyncReport.from_json(cleaned(data, MAX_NAME))
        if report.profile is not None:
            check_profile(report)
    except RecursionError as problem:
        raise UsageError("file is nested too deeply", value=path, remedy="give a file of compare or syncs") from problem
    except (UsageError, OverflowError) as problem:
        raise UsageError("profile is not usable", value=path, allowed=str(problem)) from problem
    return report


def _json(path: Path) -> Any:
    """None where there is no file or no JSON; ``UsageError`` where something gzipped cannot be unpacked."""
    try:
        if is_result(path):  # its own reader parses it
            return None
        return unpacked_json(path)
    except UsageError:
        raise
    except (OSError, ValueError):
        return None
