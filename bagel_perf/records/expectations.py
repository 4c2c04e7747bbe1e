"""What a gate expects: host syncs of a repository's targets, commands and tests; counters and pictures of BAGEL.

Host syncs are TOML in the user's repository, each place with a count and a reason; ``bagel-perf gate counts --update
REASON`` writes it. Paths are relative to its own folder, those of libraries begin with their package. History of the
format: version 1, the first.

Exact counters and pictures are TOML, one table a variant and request; ``bagel-perf gate --update REASON`` writes it.
History of the format: version 1, the first; 2 has operators by function, what a second request does otherwise, and
fingerprints.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from bagel_perf.records import codec
from bagel_perf.records.errors import UsageError
from bagel_perf.records.sites import Kind

COUNTS_SCHEMA = "bagel-perf.counts"
COUNTS_VERSION = 1
DEFAULT_FILE = Path("bagel-perf.toml")

Key = tuple[str, str, Kind]
"""File, function and kind; "" for both names where no line of Python waited."""


class ExpectedSyncs(msgspec.Struct, frozen=True, kw_only=True):
    """Waits of one kind in one function, all lines and regions together; ``reason`` says why so many."""

    file: str
    function: str
    kind: Kind
    count: int
    reason: str
    tag: str | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError("count of expected syncs", value=self.count, allowed="1 or more", remedy="drop the entry")
        if not self.reason.strip():
            raise UsageError("expected syncs have no reason", value=f"{self.file} {self.function} {self.kind}")

    @property
    def key(self) -> Key:
        return self.file, self.function, self.kind


class SubjectName(msgspec.Struct, frozen=True, kw_only=True):
    """What waits: a target as FILE.py[:NAME], of one case or the first, or a command, or a test by its node."""

    target: str | None = None
    case: str | None = None
    command: tuple[str, ...] | None = None
    test: str | None = None

    def __post_init__(self) -> None:
        given = [each for each in (self.target, self.command, self.test) if each]
        if len(given) != 1 or (self.case is not None and not self.target):
            value = str(self) or "nothing"
            raise UsageError("subject is one of target, command and test", value=value, allowed="a case is a target's")

    def __str__(self) -> str:
        """As people name it: ``loop.py:fast, case small``."""
        text = self.target or self.test or " ".join(self.command or ())
        return text if self.case is None else f"{text}, case {self.case}"


class ExpectedSubject(msgspec.Struct, frozen=True, kw_only=True):
    """All places where a subject waits; it is named by the fields of ``SubjectName``."""

    target: str | None = None
    case: str | None = None
    command: tuple[str, ...] | None = None
    test: str | None = None
    syncs: tuple[ExpectedSyncs, ...] = ()

    def __post_init__(self) -> None:
        double = [key for key, times in Counter(each.key for each in self.syncs).items() if times > 1]
        if double:
            raise UsageError("place is expected twice", value=f"{self.name}: {' '.join(double[0])}")

    @property
    def name(self) -> SubjectName:
        return SubjectName(target=self.target, case=self.case, command=self.command, test=self.test)


class ExpectedCounts(msgspec.Struct, frozen=True, kw_only=True):
    """A file of expectations; ``head`` are the comments that it begins with."""

    subjects: tuple[ExpectedSubject, ...] = ()
    head: str = ""

    def of(self, name: SubjectName) -> ExpectedSubject | None:
        """What is expected of a subject; None where it was never recorded."""
        return next((each for each in self.subjects if each.name == name), None)

    def with_subjects(self, subjects: Iterable[ExpectedSubject], dead: Collection[SubjectName] = ()) -> ExpectedCounts:
        """The file with these subjects in place of those of the same name, without dead ones, sorted."""
        kept = (each for each in self.subjects if each.name not in dead)
        by_name = {str(each.name): each for each in (*kept, *subjects)}
        ordered = sorted(by_name.values(), key=lambda each: (_kind(each), str(each.name)))
        return replace(self, subjects=tuple(ordered))


def _kind(subject: ExpectedSubject) -> int:
    return 0 if subject.target else 1 if subject.command else 2


def load_counts(path: Path, update_command: str) -> ExpectedCounts:
    """The expectations in a file; ``UsageError`` where there is none or it is something else.

    ``update_command`` is what writes one.
    """
    remedy = f"{update_command} writes one"
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise UsageError("no expected counts", value=path, allowed=reason, remedy=remedy) from problem
    except (ValueError, RecursionError) as problem:
        raise UsageError("expected counts are no TOML", value=path, allowed=str(problem), remedy="mend it") from problem
    try:
        found = codec.from_json(ExpectedCounts, codec.check_header(data, COUNTS_SCHEMA, COUNTS_VERSION))
        names = Counter(str(each.name) for each in found.subjects)
    except (UsageError, OverflowError) as problem:
        raise UsageError("expected counts cannot be used", value=path, allowed=str(problem)) from problem
    double = next((name for name, times in names.items() if times > 1), None)
    if double is not None:
        raise UsageError("subject is expected twice", value=f"{path}: {double}", remedy="drop one")
    return replace(found, head=_head_of(text))


def _head_of(text: str) -> str:
    """The comments and empty lines in front of the first key."""
    kept = []
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            break
        kept.append(line)
    return "\n".join(kept).strip()


TINY_SCHEMA = "bagel-perf.expected"
TINY_VERSION = 2

Counters = dict[str, int]


class ExpectedPicture(msgspec.Struct, frozen=True, kw_only=True):
    """What the reference gives under a request: hashes of pixels and latents, and fingerprints.

    Hashes are those of one machine: another's products of matrices may differ in the last bit. Fingerprints are held on
    any.
    """

    request: str
    pixels: str
    latents: str
    contexts_print: tuple[float, ...]
    latents_print: tuple[float, ...]
    pixels_print: tuple[float, ...]


class ExpectedRun(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of both stages by name, of the first request of a process.

    ``again_ar`` and ``again_dit`` are those that are others when its shape comes again, as recordings are there then.
    """

    request: str
    variant: str
    ar: Counters
    dit: Counters
    again_ar: Counters
    again_dit: Counters


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """``reason`` says why the numbers were last changed; ``made_with`` on what the hashes were made."""

    reason: str
    made_with: dict[str, str]
    pictures: tuple[ExpectedPicture, ...]
    runs: tuple[ExpectedRun, ...]


def load_expected(path: Path) -> Expected:
    """The expectations in a file; ``UsageError`` where there is none or it is something else."""
    remedy = 'in a tree of bagel-perf gate --update "REASON" writes them; for code of yours: gate counts FILE.py:NAME'
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise UsageError("no expected counters", value=path, allowed=reason, remedy=remedy) from problem
    except (ValueError, RecursionError) as problem:
        raise UsageError("expected counters are no TOML", value=path, allowed=str(problem), remedy=remedy) from problem
    try:
        return codec.from_json(Expected, codec.check_header(data, TINY_SCHEMA, TINY_VERSION))
    except (UsageError, OverflowError) as problem:
        allowed = str(problem)
        raise UsageError("expected counters are not usable", value=path, allowed=allowed, remedy=remedy) from problem
