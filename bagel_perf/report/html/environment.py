"""Where a result was made and how to make it again; of several results, how their environments differ."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from bagel_perf.analysis.alike import unlike_environments
from bagel_perf.report.html.content import Block, Code, Heading, Section, TableBlock, Text
from bagel_perf.report.html.source import Source
from bagel_perf.report.provenance import commit_text
from bagel_perf.report.table import NONE, Column, Table
from bagel_perf.schema.results import Result

UNITS = {"params": "parameters", "num_threads": "threads", "device_name": "device", "device_kind": "kind of device"}


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
            Text(text="At the commit below, on the device above:"),
            Code(text=_recipe(subject.result)),
            *others,
        ),
    )


def _environment_table(result: Result) -> Table:
    environment = result.environment
    fields = [field.name for field in dataclasses.fields(environment) if field.name not in ("commit", "dirty")]
    rows = [(UNITS.get(name, name.replace("_", " ")), _text(getattr(environment, name))) for name in fields]
    request = result.requests[0]
    rows += [
        ("code", commit_text(environment)),
        ("made", result.created),
        ("task", request.task),
        ("prompt", request.prompt),
        ("input picture", request.image or ("none" if request.task == "t2i" else "drawn by the package")),
        ("steps", str(request.steps)),
        ("rounds, and rounds before them", f"{result.pairs}, {result.warmup}"),
        ("processes", str(result.processes)),
    ]
    columns = Column(header="field"), Column(header="value")
    return Table(title="Environment and request", columns=columns, rows=tuple(rows))


def _text(value: object) -> str:
    return NONE if value is None else str(value)


def _recipe(result: Result) -> str:
    """What a repetition needs; the order of the runs is drawn anew, its seed is told."""
    commit = result.environment.commit or ""
    lines = [
        f"git checkout {commit}" if re.fullmatch("[0-9a-f]{7,40}", commit) else "# no commit was recorded",
        result.command,
        f"# torch {result.environment.torch}, python {result.environment.python}",
        f"# seed of the request {result.requests[0].seed}; of the order of the runs {result.order_seed}, drawn anew",
    ]
    return "\n".join(lines)


def _differences(sources: Sequence[Source]) -> TableBlock:
    subject = sources[-1]
    rows = []
    for source in sources[:-1]:
        fields = unlike_environments(source.result.environment, subject.result.environment, ())
        rows.append((source.name, "; ".join(fields) or "nothing"))
    return TableBlock(
        table=Table(
            title="Each result against the last",
            columns=(Column(header="result"), Column(header="differs in (its value and the last one's)")),
            rows=tuple(rows),
        )
    )
