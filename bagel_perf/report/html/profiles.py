"""Tells the profiled runs of ``syncs`` from the results of ``compare`` among the files that a page is made of."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bagel_perf.report.html.source import cleaned
from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.syncs import SCHEMA, SyncReport

REMEDY = "make it on a GPU: bagel-perf syncs --variant NAME --json FILE"


def split_files(paths: Sequence[Path]) -> tuple[tuple[Path, ...], tuple[SyncReport, ...]]:
    """Paths of results, and the profiled runs, gzipped or not, in the order of their paths.

    What cannot be read counts as a result, whose reader says why. Raises ``UsageError`` where there is no result, or
    where a report of ``syncs`` has no profile.
    """
    found = {path: _report(path) for path in dict.fromkeys(paths)}
    results = tuple(path for path, report in found.items() if report is None)
    if not results:
        raise UsageError("no result to show", value=", ".join(map(str, paths)), remedy="name one of compare's as well")
    return results, tuple(report for report in found.values() if report is not None)


def _report(path: Path) -> SyncReport | None:
    data = _json(path)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        return None
    report = SyncReport.from_json(cleaned(data))
    if report.profile is None:
        raise UsageError("report of syncs has no profile", value=path, remedy=REMEDY)
    return report


def _json(path: Path) -> Any:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None
