"""Mutations of the tree for people: a table of them, and whether the gate can be trusted."""

from __future__ import annotations

from collections.abc import Iterator

from bagel_perf.report.table import Column, Table, counted
from mutation_records import Outcome, Trial

MAX_MESSAGE = 130


def mutation_table(result: Outcome) -> Table:
    """A row for each mutation, and one for all copies without."""
    number, failed = len(result.untouched), len(result.false_alarms)
    seconds = sum(each.seconds for each in result.untouched)
    said = f"{number - failed} of {number} pass" + (f": {result.false_alarms[0].message}" if failed else "")
    codes = sorted({each.exit_code for each in result.untouched}, key=str)
    row = ("nothing (an untouched copy)", "0 pass", ", ".join(map(_code, codes)), _short(said), f"{seconds:.0f}")
    return Table(
        title="Mutations of the tree",
        columns=(
            Column(header="mutation"),
            Column(header="expected"),
            Column(header="got"),
            Column(header="caught by"),
            Column(header="seconds", numeric=True),
        ),
        rows=(*map(_row, result.trials), row),
        caption="exit codes; messages are shortened, --json has them whole",
    )


def _row(trial: Trial) -> tuple[str, ...]:
    message = _short(trial.message) if trial.is_caught else f"MISSED: {_short(trial.message)}"
    return trial.name, trial.expected_text, _code(trial.exit_code), message, f"{trial.seconds:.0f}"


def _code(exit_code: int | None) -> str:
    return "none" if exit_code is None else str(exit_code)


def _short(message: str) -> str:
    """Up to the advice, and not much more than a line."""
    text = message.partition(";")[0]
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 3]}..."


def mutation_lines(result: Outcome) -> Iterator[str]:
    """The verdict last."""
    for trial in result.missed:
        yield f"missed: {trial.name}; it said: {trial.message or 'nothing'}"
    caught = len(result.trials) - len(result.missed)
    passed = len(result.untouched) - len(result.false_alarms)
    counts = f"{caught} of {counted(len(result.trials), 'mutation')} caught, {passed} of {len(result.untouched)}"
    yield f"mutations: {'failed' if result.exit_code else 'pass'} ({counts} untouched copies pass)"
