"""``gate result RESULT``: judges what was measured before, by limits, and writes the report wherever CI wants it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bagel_perf.commands.common import (
    check_json_path,
    check_outputs,
    json_file,
    stream_for_people,
    writable,
    write_json,
)
from bagel_perf.commands.report import is_foreign, write_gate_page
from bagel_perf.records.bagel import parse_variant
from bagel_perf.records.bench_files import ALLOWED, BenchFile, bench_files
from bagel_perf.records.errors import UsageError
from bagel_perf.records.gates import DEFAULT_LIMITS, ERRORS, GateReport, Limit, limits_for, parse_limits
from bagel_perf.records.plans import Plan
from bagel_perf.records.results import Result, is_result, result_file
from bagel_perf.records.store import write_text, writing
from bagel_perf.report.gates import gate_lines, gate_markdown, gate_tables, junit_xml, workflow_commands
from bagel_perf.report.text import print_document
from bagel_perf.verdicts.bench_files import judge_bench
from bagel_perf.verdicts.gate import Source, judge_against, judge_result
from bagel_perf.verdicts.reading import read_result


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOutput:
    """Where the report goes besides the terminal."""

    json_path: str | None = None
    junit: Path | None = None
    summary: Path | None = None
    html: Path | None = None
    github: bool = False
    quiet: bool = False

    def check(self, *inputs: Path) -> None:
        """``UsageError`` before anything runs if a file could not be written in the end, or would replace ``inputs``.

        A result is not replaced either, whether or not it is among them.
        """
        check_json_path(self.json_path)
        outputs = {"--junit": self.junit, "--summary": self.summary, "--html": self.html}
        for option, path in outputs.items():
            if path == Path("-"):
                remedy = f"choose another {option}"
                raise UsageError(
                    f"{option} needs a file", value=path, allowed="only --json goes to stdout", remedy=remedy
                )
            if path is not None:
                writable(path, option)
        outputs["--json"] = json_file(self.json_path)
        check_outputs(outputs, inputs)
        for option, path in outputs.items():
            if path is not None and _is_result(path):
                remedy = "choose another path"
                raise UsageError("output would replace a result", value=f"{option} {path}", remedy=remedy)
        if self.html is not None and self.html.is_file() and is_foreign(self.html):
            remedy = "remove it, or choose another --html"
            raise UsageError("a file that is not ours is in the way", value=self.html, remedy=remedy)

    def write(self, report: GateReport, kept: Sequence[tuple[Result, Path]] = ()) -> None:
        """All that was asked for; raises the error of the worst finding.

        ``kept`` are the results that were judged, the candidate last, and the folders of their pictures.
        """
        if not self.quiet:
            print_document(stream_for_people(self.json_path), gate_tables(report), gate_lines(report))
        if self.github:
            print(*workflow_commands(report), sep="\n", file=stream_for_people(self.json_path))
        for path, text in ((self.junit, junit_xml(report)), (self.summary, gate_markdown(report))):
            if path is not None:
                write_text(path, text)
        if self.github and os.environ.get("GITHUB_STEP_SUMMARY"):
            path = Path(os.environ["GITHUB_STEP_SUMMARY"])
            with writing(path), path.open("a", encoding="utf-8") as file:
                file.write(gate_markdown(report))
        write_json(self.json_path, report.to_json())
        if self.html is not None:
            write_gate_page(report, kept, self.html)
        if report.worst is not None:
            first = next(finding for finding in report.findings if finding.kind == report.worst)
            more = len(report.findings) - 1
            raise ERRORS[report.worst](report.verdict, value=first.message, remedy=f"and {more} more" if more else "")


def _is_result(path: Path) -> bool:
    """Whether a file is one of compare's, whose schema stands at its begin."""
    if not path.is_file():
        return False
    with writing(path):
        return is_result(path)


BAGEL_STAGES = ("ar", "dit", "e2e")


def checked_reference(reference: Path | None) -> Path | None:
    """The result that another is held to; ``UsageError`` where it is none."""
    if reference is not None and not result_file(reference).is_file() and not bench_files(reference):
        remedy = "bagel-perf gate revision REV measures against a revision"
        raise UsageError("reference is no result file", value=reference, remedy=remedy)
    return reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is gated: stages with a limit, of all bitwise variants or of the one that is named."""

    limits: tuple[Limit, ...]
    variant: str | None

    def check(self, plan: Plan) -> None:
        """Raises UsageError where a limit or the variant is not in the plan."""
        limits_for(self.limits, [request.case for request in plan.requests], BAGEL_STAGES)
        if self.variant is not None and self.variant not in plan.variants:
            allowed = f"measured: {', '.join(plan.variants)}"
            raise UsageError("--variant is not measured", value=self.variant, allowed=allowed, remedy="see --variants")


def policy_of(limits: Sequence[str] | None, variant: str | None) -> Policy:
    """What was asked for, with the usual limits where there are none; ``UsageError``."""
    return Policy(limits=parse_limits(limits) if limits else DEFAULT_LIMITS, variant=variant)


def bitwise(plan: Plan) -> tuple[str, ...]:
    """Variants whose pictures have to be the same in both trees."""
    return tuple(name for name in plan.variants if parse_variant(name).min_psnr_db is None)


def gate_result(path: Path, reference: Path | None, policy: Policy, output: GateOutput) -> None:
    """Judges a result file or folder by its own reference, or by another file's same variants."""
    output.check(path, *([reference] if reference is not None else []))
    if files := bench_files(path):
        _judge_files(files, path, reference, policy, output)
        return
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


def _judge_files(
    files: Sequence[BenchFile], path: Path, reference: Path | None, policy: Policy, output: GateOutput
) -> None:
    """Judges what another benchmark wrote by what it wrote before."""
    if reference is None:
        remedy = "hold it to another with --reference FILE"
        raise UsageError("a file of another benchmark has no reference in it", value=path, remedy=remedy)
    against = bench_files(reference)
    if not against:
        raise UsageError("reference is of no other benchmark", value=reference, allowed=ALLOWED)
    if policy.variant is not None:
        raise UsageError("--variant is for results of compare", value=policy.variant, remedy="leave it out")
    output.write(judge_bench(against, files, (str(reference), str(path)), policy.limits))


def _kept(source: Source, path: Path) -> tuple[Result, Path]:
    return source.result, result_file(path).parent
