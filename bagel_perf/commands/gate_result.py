"""``gate result RESULT``: what was measured before is judged again, and nothing is run."""

from __future__ import annotations

from pathlib import Path

from bagel_perf.analysis.gate_reports import Source
from bagel_perf.analysis.gating import judge_against, judge_result
from bagel_perf.analysis.reading import read_result
from bagel_perf.commands.gate_modes import Policy
from bagel_perf.commands.gate_output import GateOutput
from bagel_perf.schema.results import Result, result_file


def gate_result(path: Path, reference: Path | None, policy: Policy, output: GateOutput) -> None:
    """Judges a result file or folder by its own reference, or by another file's same variants."""
    output.check(path, *([reference] if reference is not None else []))
    after = read_result(path)
    source = Source(result=after.result, name=str(path))
    if reference is None:
        output.write(judge_result(source, policy.limits, policy.variant), [_kept(source, path)])
        return
    before = read_result(reference)
    against = Source(result=before.result, name=str(reference))
    # A version that did not know a field of the environment says nothing about it.
    unknown = after.environment_fields ^ before.environment_fields
    report = judge_against(against, source, policy.limits, policy.variant, unknown=unknown)
    output.write(report, [_kept(against, reference), _kept(source, path)])


def _kept(source: Source, path: Path) -> tuple[Result, Path]:
    return source.result, result_file(path).parent
