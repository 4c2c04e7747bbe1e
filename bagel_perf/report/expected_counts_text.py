"""Expected host syncs as TOML, in an order that makes a change of one number a change of one line."""

from __future__ import annotations

from collections.abc import Iterator

from bagel_perf.report.toml import quoted
from bagel_perf.schema.expected_counts import SCHEMA, VERSION, ExpectedCounts, ExpectedSubject

HEAD = """\
# The host syncs that this repository expects: `bagel-perf gate counts` fails where one is new, gone, or another number.
# Written by `bagel-perf gate counts --update "REASON"`, which keeps reasons and tags of what did not change."""


def counts_toml(expected: ExpectedCounts) -> str:
    """The file; ``load_counts`` reads it back."""
    return "\n".join(_lines(expected)) + "\n"


def _lines(expected: ExpectedCounts) -> Iterator[str]:
    yield expected.head or HEAD
    yield from ("", f'schema = "{SCHEMA}"', f"version = {VERSION}")
    for subject in expected.subjects:
        yield from _subject_lines(subject)


def _subject_lines(subject: ExpectedSubject) -> Iterator[str]:
    yield from ("", "[[subjects]]")
    for name in ("target", "case", "test"):
        value = getattr(subject, name)
        if value is not None:
            yield f"{name} = {quoted(value)}"
    if subject.command is not None:
        yield f"command = [{', '.join(map(quoted, subject.command))}]"
    for each in sorted(subject.syncs, key=lambda each: each.key):
        yield from ("", "[[subjects.syncs]]", f"file = {quoted(each.file)}", f"function = {quoted(each.function)}")
        yield from (f"kind = {quoted(each.kind)}", f"count = {each.count}", f"reason = {quoted(each.reason)}")
        if each.tag is not None:
            yield f"tag = {quoted(each.tag)}"
