"""Writes the page of the documentation that lists what waits, from the rules and from what was measured.

``python tests/tools/waits_page.py MEASURED... PAGE``: MEASURED are files of expressions with their waits
(``tests/data/sync_catalogue.json``, ``sync_expressions.json``), PAGE is the Markdown file.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bagel_perf.records.sites import HINTS
from bagel_perf.report.table import counted
from bagel_perf.rules.table import RULES, quiet_operators

WIDTH = 120

_HEAD = """# What makes the host wait for the GPU

PyTorch has no list of the expressions that block the CPU until the GPU is done; this is one. `bagel-perf
syncs`, the gate and the pytest mark count by these rules where there is no GPU, and name waits by them where
there is one. The page is made by `make docs-waits`; a test holds it to the rules.

Measured on NVIDIA H100 and H200 with torch 2.11.0+cu130, by CUDA's callbacks, the warnings of the sync debug
mode and CUPTI; under autograd, `torch.no_grad` and `torch.inference_mode` alike. Releases of torch under which
the same counts hold without a GPU: [reports/torch-versions](../reports/torch-versions/README.md).
"""

_OPERANDS = """In the tables below `x` is a matrix on the device (8 x 8 or 32 x 8), `f`, `t`, `v`, `p`, `big` are
vectors there (floats `f` and `t`), `b`, `b2` and `img` batches, `m` is a bool mask, `s`, `s1`, `sf` are
0-d tensors, `ids`, `ig`, `order`, `lens`, `q1`, `q3`, `k` vectors of ints, all of them on the device;
`host`, `c` are tensors in pageable host memory, `hi`, `ic` index vectors and `hm` a mask in host
memory, `st`, `ts` storages on the device, `hst`, `hts` on the host, and `d` is the device. A number
that follows from a length, as of `repr(x)`, is of these shapes.
"""

_COPIES = """## Copies

A blocking copy between host and device waits once: `x.cpu()`, `host.to(d)`, `x.copy_(host)`. An asynchronous one makes
no synchronizing call, but one whose host side is pageable, or pinned and not dense, goes through memory of the
driver's: into such memory (`host.copy_(x, non_blocking=True)`) it holds the host until the queue is empty, from there
it does at 16 MiB and does not up to 1 MiB ([reports/staged-copies](../reports/staged-copies/README.md)).
`x.to("cpu", non_blocking=True)` allocates pinned memory for itself and is queued. A staged copy is listed as
`staged_copy` where a clock showed that it held the host; elsewhere it is a hazard, and one into pageable memory leaves
budgets open.

An event waits where it was recorded: `event.synchronize()` once after `event.record()`, not before it; `event.query()`
and `stream.wait_event(event)` do not.
"""


def page(measured: Sequence[dict[str, Any]]) -> str:
    """The whole page, of rows with "expression", "waits", and "library" or "cupti" where CUPTI saw more."""
    told = [row for row in measured if not _is_conditional(row["expression"])]
    library = [row for row in told if "library" in row or "cupti" in row]
    known = [row for row in told if row not in library]
    never = sorted(set(quiet_operators()) - {name.partition(".")[0] for name in RULES})
    waiting = [row for row in known if row["waits"]]
    parts = [
        _HEAD,
        "## Operators that wait",
        "By name, or by name and overload; what writes in place or into `out=` waits as the operator itself.",
        _table(("operator", "host waits", "for"), _operator_rows()),
        _COPIES,
        f"## {counted(len(waiting), 'expression')} that wait",
        _OPERANDS,
        _table(("expression", "host waits"), ((_code(row), str(row["waits"])) for row in waiting)),
        f"## {counted(len(library), 'expression')} inside which a library waits",
        "The callbacks saw the number in the table, and CUPTI more; how many more differs from size to size. These are"
        " named as unjudged.",
        _table(("expression", "callbacks saw"), ((_code(row), str(row["waits"])) for row in library)),
        f"## {counted(len(known) - len(waiting), 'expression')} that do not wait",
        "\n".join(f"- {_code(row)}" for row in known if not row["waits"]),
        f"## {counted(len(never), 'operator')} that never waited",
        "In any sample of torch's own tests of operators, modules and optimizers, forwards and backwards"
        " ([reports/operator-waits](../reports/operator-waits/README.md)). Of an operator that is neither here nor"
        " above nothing is known, and a count says so by name.",
        "\n".join(_wrapped(f"`{name}`" for name in never)),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


_CONDITIONAL = re.compile(
    r"non_blocking|empty_cache|Event|error_if_nonfinite|recorded\(|timed\(|event_sync"  # the state decides
    r"|\b(write|if_else|while_loop|if_|for_|while_|and_|or_|_saved|_saved_old)\("  # statements, under a test's own name
)


def _is_conditional(expression: str) -> bool:
    """Whether an expression says nothing by itself."""
    return _CONDITIONAL.search(expression) is not None


def _operator_rows() -> Iterator[tuple[str, str, str]]:
    for name, rule in sorted(RULES.items(), key=lambda item: (item[1].kind, item[0])):
        if rule.waits == 0:  # copies have a section of their own
            continue
        number = "" if rule.waits is None else str(rule.waits)
        text = "; ".join(part for part in (number, rule.when) if part)
        yield f"`{name}`", text, HINTS[rule.kind].label


def _code(row: dict[str, Any]) -> str:
    text = re.sub(r"\bo\.", "", row["expression"]).replace("|", "\\|")
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _wrapped(words: Iterable[str]) -> Iterator[str]:
    line = ""
    for word in words:
        if line and len(line) + 1 + len(word) > WIDTH:
            yield line
            line = ""
        line = f"{line} {word}".strip()
    yield line


def main(paths: Sequence[str]) -> None:
    """Reads the files of measurements and writes the page."""
    *measured, target = map(Path, paths)
    rows: dict[str, dict[str, Any]] = {}
    for path in measured:
        for row in json.loads(path.read_text(encoding="utf-8"))["expressions"]:
            rows.setdefault(_code(row), row)
    target.write_text(page([rows[code] for code in sorted(rows)]), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
