"""Mistakes that the gate has to catch, and what it made of each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bagel_perf.records.errors import RunFailed
from bagel_perf.records.gates import ERRORS, VERDICTS, Finding, FindingKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """A mistake: ``after`` in the place of ``before`` in ``file``.

    The gate has to end in the error of ``kind``, and one of its findings has to hold all ``words`` and, where ``line``
    is given, to name the line of ``file`` on which this part of ``after`` then stands. ``on_other_cpu`` tries it where
    recorded hashes do not hold.
    """

    name: str
    file: str
    before: str
    after: str
    kind: FindingKind
    words: tuple[str, ...]
    line: str = ""
    on_other_cpu: bool = False

    def __post_init__(self) -> None:
        assert self.after.count(self.line) == 1 or not self.line, self.name
        assert self.before != self.after and self.words, self.name

    def applied(self, source: str) -> str:
        """The file with the mistake in it; ``RunFailed`` where it is not the file that the mistake was made for."""
        number = source.count(self.before)
        if number != 1:
            raise RunFailed(
                "a mutation does not fit the source any more",
                value=self.name,
                allowed=f"its text occurs {number} times in {self.file}",
                remedy="write it anew in tests/tools/plain_mutations.py or hidden_mutations.py",
            )
        return source.replace(self.before, self.after)

    def place(self, patched: str) -> tuple[str, int] | None:
        """File and line to be named, of a file with the mistake in it."""
        if not self.line:
            return None
        start = patched.index(self.after) + self.after.index(self.line)
        return self.file, patched.count("\n", 0, start) + 1

    def finding(self, findings: tuple[Finding, ...], patched: str) -> Finding | None:
        """The first that names this mistake, None where none does."""
        place = self.place(patched)
        named = (each for each in findings if all(word in each.message for word in self.words))
        return next((each for each in named if place is None or _names(each, *place)), None)


def _names(finding: Finding, file: str, line: int) -> bool:
    return (finding.file, finding.line) == (file, line) and f"{file}:{line}" in finding.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What the gate made of a mutation: its exit code, None where it did not end, and the finding that names it.

    ``message`` is, where nothing names it, whatever the gate said instead.
    """

    name: str
    kind: FindingKind
    exit_code: int | None
    message: str
    is_named: bool
    seconds: float

    @property
    def expected(self) -> int:
        return ERRORS[self.kind].exit_code

    @property
    def expected_text(self) -> str:
        return f"{self.expected} {VERDICTS[self.kind]}"

    @property
    def is_caught(self) -> bool:
        return self.exit_code == self.expected and self.is_named


@dataclass(frozen=True, slots=True, kw_only=True)
class Untouched:
    """The gate on a copy without a mistake; ``message`` is what it said where it did not pass."""

    exit_code: int | None
    message: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of all mutations, and of copies of the tree as it is."""

    trials: tuple[Trial, ...]
    untouched: tuple[Untouched, ...]

    @property
    def missed(self) -> tuple[Trial, ...]:
        return tuple(each for each in self.trials if not each.is_caught)

    @property
    def false_alarms(self) -> tuple[Untouched, ...]:
        return tuple(each for each in self.untouched if each.exit_code != 0)

    @property
    def exit_code(self) -> int:
        return RunFailed.exit_code if self.missed or self.false_alarms else 0

    def to_json(self) -> dict[str, Any]:
        """Exit code and everything that was tried, as a JSON object."""
        return {"exit_code": self.exit_code, **asdict(self)}
