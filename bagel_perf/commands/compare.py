"""``compare``: from a plan to a kept result and an exit code."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from bagel_perf.commands.common import check_json_path, stream_for_people, write_json
from bagel_perf.commands.measuring import measure
from bagel_perf.commands.report import write_page
from bagel_perf.recorder import Recorder, make_image_dir
from bagel_perf.report.inert import print_line
from bagel_perf.report.markdown import write_summary
from bagel_perf.report.progress import ProgressView
from bagel_perf.report.text import print_result
from bagel_perf.schema.errors import BagelPerfError, OutputsDiffer, RunFailed
from bagel_perf.schema.plans import Plan
from bagel_perf.schema.results import Result


def run_compare(plan: Plan, out: Path | None, json_path: str | None, *, command: str, quiet: bool, html: bool) -> None:
    """Runs the plan, keeps and prints what it gives; raises the error that a result without a pass ends in.

    ``command`` is the command line, which the result names.
    """
    check_json_path(json_path)
    plan = dataclasses.replace(plan, image_dir=make_image_dir(out))
    recorder = Recorder(plan=plan, command=command, out=out)
    error: BagelPerfError | None = None
    try:
        with ProgressView(sys.stderr, quiet=quiet) as view:
            measure(plan, recorder, view.on_event)
    except BagelPerfError as problem:
        error = problem
    finally:
        recorder.finish(error)
    result, path = recorder.result, recorder.result_path
    if result is None or path is None:
        raise error or RunFailed("the worker measured nothing")
    write_summary(result, path.parent)
    if not quiet:
        print_result(result, path, stream_for_people(json_path))
    write_json(json_path, result.to_json())
    page = write_page(result, path.parent) if html else None
    if page is not None and not quiet:
        print_line(f"page: {page}", stream_for_people(json_path))
    if result.exit_code:
        raise _failure(result, path, error) from error


def _failure(result: Result, path: Path, error: BagelPerfError | None) -> BagelPerfError:
    """The error that a result without a pass ends in; it says where the result is."""
    place = f"what was measured is in {path}"
    if error is not None and error.exit_code == result.exit_code:
        remedy = "; ".join(part for part in (error.remedy, place) if part)
        return type(error)(error.what, value=error.value, allowed=error.allowed, remedy=remedy)
    kind = OutputsDiffer if result.verdict == "outputs differ" else RunFailed
    return kind(result.verdict, value=", ".join(result.findings[:3]), remedy=place)
