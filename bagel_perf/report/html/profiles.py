"""Tells the profiled runs of ``syncs`` from the results of ``compare`` among the files that a page is made of."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bagel_perf.report.html.plausible_lanes import check_profile
from bagel_perf.report.html.source import cleaned
from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.results import is_result
from bagel_perf.schema.store import GZIP_MAGIC
from bagel_perf.schema.strict_json import parse_json
from bagel_perf.schema.syncs import SCHEMA, SyncReport

MAX_NAME = 4000
"""Characters of a string in a profile: names of kernels have more than those of a result."""
REMEDY = "make it on a GPU: bagel-perf syncs --variant NAME --json FILE"


def split_files(paths: Sequence[Path]) -> tuple[tuple[Path, ...], tuple[SyncReport, ...]]:
    """Paths of results, and the profiled runs, gzipped or not, in the order of their paths.

    What is no JSON counts as a result, whose reader says why. Raises ``UsageError`` where there is no result, and with
    the file where it is damaged, or a report of ``syncs`` without a profile or with one that cannot be drawn.
    """
    found = {path: _report(path) for path in dict.fromkeys(paths)}
    results = tuple(path for path, report in found.items() if report is None)
    if not results:
        raise UsageError("no result to show", value=", ".join(map(str, paths)), remedy="name one of compare's as well")
    return results, tuple(report for report in found.values() if report is not None)


def _report(path: Path) -> SyncReport | None:
    try:
        data = _json(path)
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            return None
        report = SyncReport.from_json(cleaned(data, MAX_NAME))
        check_profile(report)
    except RecursionError as problem:
        raise UsageError("file is nested too deeply", value=path, remedy="give a file of compare or syncs") from problem
    except (UsageError, OverflowError) as problem:
        raise UsageError("profile is not usable", value=path, allowed=str(problem)) from problem
    if report.profile is None:
        raise UsageError("report of syncs has no profile", value=path, remedy=REMEDY)
    return report


def _json(path: Path) -> Any:
    """None where there is no file or no JSON; ``UsageError`` where something gzipped cannot be unpacked."""
    try:
        if is_result(path):  # its own reader parses it
            return None
        content = path.read_bytes()
    except OSError:
        return None
    if content.startswith(GZIP_MAGIC):
        content = _unpacked(content)
    try:
        return parse_json(content)
    except ValueError:
        return None


def _unpacked(content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except EOFError as problem:
        raise UsageError("gzip file is cut off", remedy="copy it again") from problem
    except (OSError, zlib.error) as problem:
        raise UsageError("gzip file is damaged", allowed=str(problem), remedy="copy it again") from problem
