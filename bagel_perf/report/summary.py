"""Results as Markdown, with the very cells of the text tables, and the sentences below those: verdict, why, next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from bagel_perf.records.results import Delta, Result
from bagel_perf.records.runs import Verification, WarmupRun, runs_of
from bagel_perf.records.store import writing
from bagel_perf.report.ablation_tables import ablation_lines
from bagel_perf.report.inert import markdown, markdown_line, provenance_line
from bagel_perf.report.table import Table, counted, listed, stage_text, tolerant_variants
from bagel_perf.report.tables import result_tables, tolerance_lines
from bagel_perf.verdicts.identity import proves_nothing
from bagel_perf.verdicts.statistics import MIN_PROCESSES

PROVES_NOTHING = "output proves nothing"
"""In place of the verdict of a result whose outputs are refused and do not differ."""
UNWATCHED = "- host syncs are unknown: nobody watched the servers' processes"


def verdict_lines(result: Result) -> tuple[str, ...]:
    """The verdict with its exit code, then each finding, warning and the error, a line each."""
    number = len({image.variant for image in result.outputs} - set(tolerant_variants(result)))
    word = PROVES_NOTHING if proves_nothing(result) else result.verdict
    head = f"verdict: {word} (exit code {result.exit_code})"
    if result.verdict == "pass" and number > 1:
        head += f", the {result.outline.noun}s of {number} variants are identical in every run"
    lines = [head, *(f"- {finding}" for finding in result.findings)]
    lines += [UNWATCHED] * result.outline.is_server
    lines += [*hidden_lines(result), *stage_sum_lines(result), *excluded_lines(result)]
    lines += [*tolerance_lines(result), *ablation_lines(result), *capture_lines(result)]
    lines += [f"- warning: {warning}" for warning in result.warnings]
    if result.error is not None:
        lines.append(f"- ended early: {result.error}")
    return tuple(lines)


def hidden_lines(result: Result) -> Iterator[str]:
    """Stages that regressed though the whole did not."""
    by_cell: defaultdict[tuple[str, str], list[Delta]] = defaultdict(list)
    for delta in result.deltas:
        by_cell[delta.case, delta.candidate].append(delta)
    for (case, candidate), deltas in by_cell.items():
        whole = next((delta.verdict for delta in deltas if delta.stage == "e2e"), None)
        for delta in deltas:
            if delta.verdict == "regressed" and whole != "regressed":
                place = f"{candidate} at {case}"
                change = f"paired change {delta.delta_pct:+.1f}%"
                yield f"- {place}: {stage_text(delta.stage)} regressed ({change}), which e2e hides"


def stage_sum_lines(result: Result) -> Iterator[str]:
    """Where whole and stages of a variant disagree on a CPU; elsewhere that is a finding."""
    if result.environment.device_kind != "cpu":
        return
    stages = listed([stage_text(stage) for stage in result.stages])
    for each in result.stage_sums:
        if each.state == "disagree" and each.ci_pct is not None:
            interval = f"{each.ci_pct[0]:+.1f} to {each.ci_pct[1]:+.1f}"
            what = f"e2e takes {each.apart_pct:+.1f}% ({interval}) against {stages} together, as it may on a CPU"
            yield f"- {each.variant} at {each.case}: {what}"


def excluded_lines(result: Result) -> Iterator[str]:
    """Each timed run whose pairs do not count, and the rule."""
    for each in result.excluded:
        place = f"{each.variant} at {each.case}, round {each.round + 1}"
        yield f"- excluded: {place}: {each.reason}"


def capture_lines(result: Result) -> Iterator[str]:
    """How long each variant took to record its graphs, which is in no latency."""
    told = set()
    for run in runs_of(WarmupRun, result.runs):
        place = run.variant, run.case
        if run.captures_ms and run.variant in result.named and place not in told:
            told.add(place)  # each process records anew
            graphs = counted(len(run.captures_ms), "graph")
            were = "were" if len(run.captures_ms) > 1 else "was"
            took = f"{graphs} {were} recorded in {sum(run.captures_ms):.0f} ms, once a shape, which no latency holds"
            yield f"- {run.variant} at {run.case}: {took}"


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
    if proves_nothing(result):
        return "choose another input, seed or case, whose output shows something"
    if result.verdict == "outputs differ":
        return f"look at the {result.outline.noun}s in {path.parent}"
    if result.verdict == "incomplete":
        return "mend the cause and run it again; what was measured is kept"
    if result.outline.is_server:
        enough = f"open the pictures in {path.parent}"
        return enough if result.pairs >= MIN_PROCESSES else f"--pairs {2 * MIN_PROCESSES} for intervals and verdicts"
    if result.processes < MIN_PROCESSES:
        return f"--processes {MIN_PROCESSES} --pairs {2 * MIN_PROCESSES} for intervals and verdicts"
    return f"open the {result.outline.noun}s in {path.parent}"


SUMMARY_FILE = "summary.md"


def result_markdown(result: Result) -> str:
    """The tables of a comparison."""
    return "\n\n".join(table_markdown(table) for table in result_tables(result))


def write_summary(result: Result, folder: Path) -> None:
    """Writes ``summary.md``, ready for the comment of a pull request."""
    path = folder / SUMMARY_FILE
    with writing(path):
        path.write_text(summary_markdown(result), encoding="utf-8")


def summary_markdown(result: Result) -> str:
    """The tables, the verdict with what else there is to say, and where all of it comes from."""
    parts = (result_markdown(result), verdict_markdown(result), provenance_line(result))
    return "\n\n".join(parts) + "\n"


def verdict_markdown(result: Result) -> str:
    """The verdict, and below it the list of what else there is to say."""
    head, *rest = verdict_lines(result)
    items = [f"- {markdown_line(line.removeprefix('- '))}" for line in rest]
    return "\n".join([markdown_line(head), "", *items] if items else [markdown_line(head)])


def table_markdown(table: Table) -> str:
    """A table with its title above and its caption below."""
    rule = ["---:" if column.numeric else "---" for column in table.columns]
    cells = [[column.header for column in table.columns], *table.rows]
    head, *rows = ("| " + " | ".join(map(markdown, row)) + " |" for row in cells)
    lines = [f"**{markdown(table.title)}**", "", head, "| " + " | ".join(rule) + " |", *rows]
    return "\n".join([*lines, *(["", f"_{markdown(table.caption)}_"] if table.caption else [])])
