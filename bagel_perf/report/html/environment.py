"""Where a result was made and how to make it again; what a gate found; how environments of several results differ."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from bagel_perf.records.gates import VERDICTS, Finding, FindingKind, GateReport
from bagel_perf.records.results import Result
from bagel_perf.report.gates import gate_tables
from bagel_perf.report.html.content import (
    Badge,
    Badges,
    Block,
    Bullets,
    Code,
    Culprit,
    Heading,
    Section,
    Span,
    TableBlock,
    Text,
    Tone,
    tables,
)
from bagel_perf.report.html.source import Source, cleaned
from bagel_perf.report.html.words import stopped
from bagel_perf.report.inert import commit_text
from bagel_perf.report.table import NONE, Column, Table, counted
from bagel_perf.verdicts.comparability import unlike_makings

UNITS = {"params": "parameters", "num_threads": "threads", "device_name": "device", "device_kind": "kind of device"}


WITH_SERVERS = "With the same servers up; what they run, they do not tell:"


def environment_section(sources: Sequence[Source]) -> Section:
    """Of the last result; the others are held against it."""
    subject = sources[-1]
    others: tuple[Block, ...] = ()
    if len(sources) > 1:
        others = (Heading(text="Where the environments differ"), _differences(sources))
    return Section(
        anchor="environment",
        title="Environment",
        blocks=(
            TableBlock(table=_environment_table(subject.result)),
            Heading(text="Do it again"),
            Text(
                text=WITH_SERVERS if subject.result.outline.is_server else "At the commit below, on the device above:"
            ),
            Code(text=_recipe(subject.result)),
            *others,
        ),
    )


def _environment_table(result: Result) -> Table:
    environment = result.environment
    fields = [name for name in environment.__struct_fields__ if name not in ("commit", "dirty")]
    rows = [(UNITS.get(name, name.replace("_", " ")), _text(getattr(environment, name))) for name in fields]
    rows += [(UNITS.get(name, name), _text(value)) for name, value in result.subject.details.items()]
    rows += [
        ("code", commit_text(environment)),
        ("made", result.created),
        *_asked(result),
        ("rounds, and rounds before them", f"{result.pairs}, {result.warmup}"),
        ("processes", str(result.processes)),
    ]
    columns = Column(header="field"), Column(header="value")
    return Table(title="Environment and cases", columns=columns, rows=tuple(rows))


def _asked(result: Result) -> Iterator[tuple[str, str]]:
    """What the cases ask for: once, where it is the same in all."""
    asked: Mapping[str, Mapping[str, object]] = result.subject.asked
    if result.outline.is_bagel:
        asked = {case: _with_input(each) for case, each in asked.items()}
    for key in dict.fromkeys(key for each in asked.values() for key in each):
        by_case = {case: _text(each.get(key)) for case, each in asked.items()}
        if len(set(by_case.values())) == 1:
            yield key, next(iter(by_case.values()))
        else:
            yield from ((f"{key} of {case}", text) for case, text in by_case.items())


def _with_input(asked: Mapping[str, object]) -> dict[str, object]:
    """What a request of BAGEL's asks for, with its picture in words where it names none."""
    drawn = "none" if asked.get("task") == "t2i" else "drawn by the package"
    return {
        ("input picture" if key == "image" else key): (value or drawn if key == "image" else value)
        for key, value in asked.items()
    }


def _text(value: object) -> str:
    return NONE if value is None else str(value)


def _recipe(result: Result) -> str:
    """What a repetition needs; the order of the runs is drawn anew, its seed is told."""
    commit = result.environment.commit or ""
    seeds = f"# seed of the cases {result.seed}; of the order of the runs {result.order_seed}, drawn anew"
    if result.outline.is_server:
        return f"{result.command}\n{seeds}"
    lines = [
        f"git checkout {commit}" if re.fullmatch("[0-9a-f]{7,40}", commit) else "# no commit was recorded",
        result.command,
        f"# torch {result.environment.torch}, python {result.environment.python}",
        seeds,
    ]
    return "\n".join(lines)


def _differences(sources: Sequence[Source]) -> TableBlock:
    subject = sources[-1]
    rows = []
    for source in sources[:-1]:
        fields = unlike_makings(source.result, subject.result, ())
        rows.append((source.name, "; ".join(fields) or "nothing"))
    return TableBlock(
        table=Table(
            title="Each result against the last",
            columns=(Column(header="result"), Column(header="differs in (its value and the last one's)")),
            rows=tuple(rows),
        )
    )


PASSED = "The gate passes."
NOT_JUDGED = "not judged"
JUDGED_NOTHING = "The gate judged nothing, and so found nothing."
ADVICE: dict[FindingKind, str] = {
    "picture": "A variant gives another output than it has to: look at what it does otherwise.",
    "environment": "Machines, versions or settings differ, so figures cannot be compared: make them the same.",
    "counter": "If the new numbers are meant, record them with bagel-perf gate --update REASON; if not, see the lines.",
    "incomplete": "Part of what should be judged is missing: run it again.",
    "regression": "A latency is over its limit: see the lines that wait, and the floors.",
    "inconclusive": "The noise is larger than the limit, or pairs are too few: measure more, or on a quieter machine.",
}
"""What to do next, by the kind of the worst finding."""
OF_BAGEL = "A variant shows another picture: bagel-perf verify DIR finds the first tensor that differs."


def gate_section(report: GateReport, *, is_bagel: bool = True, is_alone: bool = False) -> Section:
    """A sentence, what to do next, and then in tables what was judged and what was found.

    Where it ``is_alone`` on its page, the line above the sentence says what was judged.
    """
    report = GateReport.from_json(cleaned(report.to_json()))
    worst = report.worst
    number = counted(len(report.findings), "finding")
    is_empty = not report.cells and all(outcome == NOT_JUDGED for _, outcome in report.checks)
    passed = JUDGED_NOTHING if is_empty else PASSED
    lead = passed if worst is None else f"The gate does not pass: {report.verdict} ({number})."
    badges = tuple(Badge(text=f"{name}: {outcome}", tone=_tone(outcome)) for name, outcome in report.checks)
    blocks: list[Block] = [Badges(badges=badges)] if badges else []
    blocks += [Text(text=report.subject)] if report.subject and not report.cells and not is_alone else []
    blocks += [each for each in (_culprit(report),) if each is not None]
    if worst is not None:
        blocks.append(Text(text=OF_BAGEL if worst == "picture" and is_bagel else ADVICE[worst]))
    blocks += [TableBlock(table=_finding_table(report), code_columns=("source line",))] if report.findings else []
    blocks += tables(*gate_tables(report))
    blocks += [Bullets(items=report.notes)] if report.notes else []
    return Section(anchor="gate", title="Gate", headline=(Span(text=lead),), blocks=tuple(blocks))


def _tone(outcome: str) -> Tone:
    tones: dict[str, Tone] = {"pass": "good", "fail": "bad", "failed": "bad", "invalid": "bad", NOT_JUDGED: "doubt"}
    return tones.get(outcome, "plain")


def _culprit(report: GateReport) -> Culprit | None:
    """The first finding, gravest first, that names a line."""
    ranked = sorted(report.findings, key=lambda each: list(VERDICTS).index(each.kind))
    finding = next((each for each in ranked if each.file), None)
    if finding is None:
        return None
    return Culprit(title="The line to look at first", place=_line(finding), text=stopped(finding.message))


def _finding_table(report: GateReport) -> Table:
    headers = "verdict", "finding", "source line"
    ranked = sorted(report.findings, key=lambda each: list(VERDICTS).index(each.kind))
    rows = tuple((VERDICTS[each.kind], each.message, _line(each)) for each in ranked)
    return Table(title="Findings", columns=tuple(Column(header=header) for header in headers), rows=rows)


def _line(finding: Finding) -> str:
    if not finding.file:
        return NONE
    return finding.file if finding.line is None else f"{finding.file}:{finding.line}"
