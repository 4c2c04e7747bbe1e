"""``gate RESULT``: what was measured before is judged again, and nothing is run."""

from __future__ import annotations

import json
from pathlib import Path

from bagel_perf.analysis.gate_reports import Source
from bagel_perf.analysis.gating import judge_against, judge_result
from bagel_perf.commands.gate_modes import Policy
from bagel_perf.commands.gate_output import GateOutput
from bagel_perf.schema.results import Result, load, result_file


def gate_result(path: Path, reference: Path | None, policy: Policy, output: GateOutput) -> None:
    """Judges a result file or folder by its own reference, or by another file's same variants."""
    output.check(path, *([reference] if reference is not None else []))
    source = _source(path)
    if reference is None:
        output.write(judge_result(source, policy.limits, policy.variant), [_kept(source, path)])
        return
    before = _source(reference)
    unknown = _recorded_fields(path) ^ _recorded_fields(reference)
    report = judge_against(before, source, policy.limits, policy.variant, unknown=unknown)
    output.write(report, [_kept(before, reference), _kept(source, path)])


def _source(path: Path) -> Source:
    return Source(result=load(result_file(path)), name=str(path))


def _kept(source: Source, path: Path) -> tuple[Result, Path]:
    return source.result, result_file(path).parent


def _recorded_fields(path: Path) -> frozenset[str]:
    """Names in the environment as the file has them: a version that did not know a field says nothing about it."""
    data = json.loads(result_file(path).read_text(encoding="utf-8"))
    return frozenset(data["environment"])
