"""The sentences below the tables: the verdict, why, where the result is, what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bagel_perf.analysis.gaps import large_gaps
from bagel_perf.analysis.stats import pairs_needed
from bagel_perf.report.ablation_tables import ablation_lines
from bagel_perf.report.cells import tolerant_variants
from bagel_perf.report.table import counted, res_text
from bagel_perf.report.tolerance_tables import tolerance_lines
from bagel_perf.schema.results import Result
from bagel_perf.schema.verification import Verification


def verdict_lines(result: Result) -> tuple[str, ...]:
    """The verdict with its exit code, then each finding, warning and the error, a line each."""
    number = len({image.variant for image in result.images} - set(tolerant_variants(result)))
    head = f"verdict: {result.verdict} (exit code {result.exit_code})"
    if result.verdict == "pass" and number > 1:
        head += f", the pictures of {number} variants are identical in every run"
    lines = [head, *(f"- {finding}" for finding in result.findings)]
    lines += [*gap_lines(result), *tolerance_lines(result), *ablation_lines(result), *capture_lines(result)]
    lines += [f"- warning: {warning}" for warning in result.warnings]
    if result.error is not None:
        lines.append(f"- ended early: {result.error}")
    return tuple(lines)


def gap_lines(result: Result) -> Iterator[str]:
    """Where the whole takes another time than its stages, which are then no account of it."""
    for gap in large_gaps(result):
        both = f"e2e {gap.e2e_ms:.1f} ms, AR and DiT {gap.sum_ms:.1f} ms in all"
        yield f"- {gap.variant} at {res_text(gap.res)}: medians are {abs(gap.share):.0%} of e2e apart ({both})"


def capture_lines(result: Result) -> Iterator[str]:
    """How long each variant took to record its graphs, which is in no latency."""
    for run in result.runs:
        if run.captures_ms and run.variant in result.variants:
            graphs = counted(len(run.captures_ms), "graph")
            took = f"{graphs} recorded in {sum(run.captures_ms):.0f} ms, once a shape; in no latency"
            yield f"- {run.variant} at {run.width}x{run.height}: {took}"


def last_line(result: Result, path: Path) -> str:
    """Where the result is and what to do next."""
    return f"result: {path}; next: {_next_step(result, path)}"


def verification_lines(verification: Verification) -> tuple[str, ...]:
    """Each failing tensor by name, then the verdict."""
    lines = [
        f"FAILED {check.variant}: {check.tensor}, error {check.error:.3g}, limit {check.limit:.3g}"
        for check in verification.checks
        if not check.ok
    ]
    lines += [
        f"FAILED {variant}: nothing was checked" for variant in verification.variants if not verification.of(variant)
    ]
    state = "pass" if verification.ok else "outputs differ"
    return (*lines, f"verdict: {state}, {len(verification.checks)} checks, {len(lines)} failed")


def _next_step(result: Result, path: Path) -> str:
    if result.verdict == "outputs differ":
        return f"look at the pictures in {path.parent}"
    if result.verdict == "incomplete":
        return "mend the cause and run it again; what was measured is kept"
    if result.pairs < pairs_needed():
        return f"--pairs {pairs_needed()} for an interval"
    return f"open the pictures in {path.parent}"
