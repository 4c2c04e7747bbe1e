"""Whether tier 1 finds a hidden ``.item()`` anywhere in ``kernels_optimized/sync_free``: ``item_anywhere.py README``.

Before each statement of each function, and behind the last of a block that goes on, ``TENSOR.sum().item()`` is put into
a copy of the tree, of a tensor that a local is, holds or could make there, and the gate runs in the copy: one position
at a time, 10 s each. Which tensors exist where, and on which side, is seen in counted runs of the tree as it is. The
table goes between the markers of the README; the exit code is 1 where a wait for the device was not found with its
line.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), *(str(ROOT / "tests" / name) for name in ("support", "tools"))]

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from bagel_perf.records.errors import CountersDrifted  # noqa: E402
from bagel_perf.records.gates import REQUESTS  # noqa: E402
from bagel_perf.records.plans import Plan  # noqa: E402
from bagel_perf.report.summary import table_markdown  # noqa: E402
from bagel_perf.report.table import Column, Table  # noqa: E402
from bagel_perf.simulated import SimulatedTensor, active_device  # noqa: E402
from bagel_perf.subjects.bagel import gate as worker  # noqa: E402
from bagel_perf.subjects.bagel.loading import load  # noqa: E402
from gate_copy import Ended, copied, run_gate  # noqa: E402
from gate_noise import replaced  # noqa: E402

FOLDER = ROOT / "kernels_optimized" / "sync_free"
VARIANTS = ("sync_free", "sync_free-adjust_positions")
"""Between them they run every line of the folder."""
MARKERS = "item"
HEADERS = ("line", "function", "position", "tensor", "exit code", "outcome")
COUNTED, REFUSED = "counted as new at its line", "refused at its line while it is recorded"
NO_WAIT, NOTHING = "passes, as what is on the host does not wait", "left out, as nothing there could wait"
OUTCOMES = {COUNTED, REFUSED, NO_WAIT, NOTHING}

Side = Literal["device", "host"]
Seen = dict[tuple[str, int], dict[str, Side]]
"""File and line of a statement about to run, to the tensors that its function's locals are or hold then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Before the statement at ``line`` (from 1) of ``file``, or behind the one that ends there."""

    file: str
    line: int
    is_behind: bool
    indent: int
    function: str
    statement: str
    looked_up: int

    @property
    def inserted_line(self) -> int:
        return self.line + self.is_behind

    def patched(self, source: str, expression: str) -> str:
        """The source with a statement more."""
        lines = source.splitlines(keepends=True)
        lines.insert(self.inserted_line - 1, f"{' ' * self.indent}{expression}\n")
        return "".join(lines)


def positions(path: Path) -> Iterator[Position]:
    """All of a file, in its order."""
    source = path.read_text(encoding="utf-8")
    name = str(path.relative_to(ROOT))
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef):
            yield from _of_block(function.body, name, function.name, source)


def _of_block(block: list[ast.stmt], file: str, function: str, source: str) -> Iterator[Position]:
    for statement in block:
        if _is_docstring(statement):
            continue
        for is_behind in (False, True) if statement is block[-1] and _goes_on(statement) else (False,):
            yield Position(
                file=file,
                line=(statement.end_lineno or 0) if is_behind else statement.lineno,
                is_behind=is_behind,
                indent=statement.col_offset,
                function=function,
                statement=source.splitlines()[statement.lineno - 1].strip(),
                looked_up=statement.lineno,
            )
        for inner in ("body", "orelse", "finalbody"):
            yield from _of_block(getattr(statement, inner, []), file, function, source)


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _goes_on(statement: ast.stmt) -> bool:
    return not isinstance(statement, (ast.Return, ast.Raise, ast.Continue, ast.Break))


def tensors_seen() -> Seen:
    """Tensors that there always were at each line of the folder, in counted runs of tier 1."""
    seen: Seen = {}

    def on_line(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line" and active_device() is not None:
            place, found = (_file_of(frame), frame.f_lineno), _tensors(frame.f_locals)
            seen[place] = {name: side for name, side in seen.get(place, found).items() if found.get(name) == side}
        return on_line

    def on_call(frame: FrameType, event: str, _: Any) -> Any:
        is_function = not frame.f_code.co_name.startswith("<")
        return on_line if is_function and frame.f_code.co_filename.startswith(str(FOLDER)) else None

    plan = Plan(kind="gate", requests=REQUESTS, variants=VARIANTS, preset="tiny", device="cpu")
    loaded = load(plan, lambda text, done, total: None)
    sys.settrace(on_call)
    try:
        worker.run_gate(plan, loaded, lambda event: None)
    finally:
        sys.settrace(None)
    return seen


def _file_of(frame: FrameType) -> str:
    return str(Path(frame.f_code.co_filename).relative_to(ROOT))


def _tensors(values: Mapping[str, object]) -> dict[str, Side]:
    """Locals first, then what those hold that are no tensors, then what could be made on a device that is one."""
    held = {f"{name}{rest}": part for name, value in values.items() for rest, part in _held(value)}
    devices = {name: value for name, value in values.items() if isinstance(value, torch.device)}
    tensors = {name: value for name, value in {**values, **held}.items() if isinstance(value, Tensor)}
    return {
        **{name: "device" if isinstance(value, SimulatedTensor) else "host" for name, value in tensors.items()},
        **{f"torch.zeros(1, device={n})": "device" if each.type == "cuda" else "host" for n, each in devices.items()},
    }


def _held(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, (list, tuple)) and value:
        yield "[0]", value[0]
    elif is_dataclass(value):
        yield from ((f".{each.name}", getattr(value, each.name)) for each in fields(value))


def row_of(position: Position, tensors: Mapping[str, Side]) -> tuple[str, ...]:
    """A row of the table, its last cell one of the outcomes, or what the gate said instead."""
    place = f"{Path(position.file).name}:{position.line}"
    where = f"{'behind' if position.is_behind else 'before'} `{position.statement}`"
    chosen = next((name for name, side in tensors.items() if side == "device"), next(iter(tensors), None))
    if chosen is None:
        return place, position.function, where, "none", "-", NOTHING
    with copied(ROOT) as copy:
        path = copy / position.file
        path.write_text(position.patched(path.read_text(encoding="utf-8"), f"{chosen}.sum().item()"), encoding="utf-8")
        ended = run_gate(copy)
    outcome = _outcome(ended, position, tensors[chosen])
    return place, position.function, where, f"`{chosen}`, {tensors[chosen]}", str(ended.exit_code), outcome


def _outcome(ended: Ended, position: Position, side: Side) -> str:
    """A wait for the device has to be found at the inserted line, and what is on the host cannot wait."""
    if side == "host":
        return NO_WAIT if ended.exit_code == 0 else f"FALSE ALARM: {ended.error}"
    place = (position.file, position.inserted_line)
    named = [each.message for each in ended.findings if (each.file, each.line) == place]
    if ended.exit_code != CountersDrifted.exit_code or not named:
        return f"MISSED: {ended.error}"
    return COUNTED if named[0].startswith("new host syncs") else REFUSED


def table_of(seen: Seen) -> tuple[Table, bool]:
    """All positions, and whether each is as it has to be."""
    rows: list[tuple[str, ...]] = []
    every = [each for path in sorted(FOLDER.glob("*.py")) for each in positions(path)]
    for number, position in enumerate(every, 1):
        rows.append(row_of(position, seen.get((position.file, position.looked_up), {})))
        print(f"[{number}/{len(every)}] {' | '.join(rows[-1])}", file=sys.stderr, flush=True)
    outcomes = Counter(row[-1] for row in rows)
    columns = tuple(Column(header=each) for each in HEADERS)
    caption = f"{len(rows)} positions: " + ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
    title = "An .item() anywhere in kernels_optimized/sync_free"
    return Table(title=title, columns=columns, rows=tuple(rows), caption=caption), outcomes.keys() <= OUTCOMES


def main() -> int:
    """Exit code 1 where something is not as it has to be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readme", type=Path, help="the file with the markers")
    options = parser.parse_args()
    text = options.readme.read_text(encoding="utf-8")
    table, is_right = table_of(tensors_seen())
    options.readme.write_text(replaced(text, MARKERS, table_markdown(table)), encoding="utf-8")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
