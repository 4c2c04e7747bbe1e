"""What tier 1 of the gate expects: exact counters and pictures of each variant under each request.

The file is TOML, one table a variant and request; ``bagel-perf gate --update REASON`` writes it. History of the format:
version 1, the first; 2 has operators by function, what a second request does otherwise, and fingerprints.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from bagel_perf.schema import codec
from bagel_perf.schema.errors import UsageError

SCHEMA = "bagel-perf.expected"
VERSION = 2

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
    remedy = 'bagel-perf gate --update "REASON" writes one'
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise UsageError("no expected counters", value=path, allowed=reason, remedy=remedy) from problem
    except (ValueError, RecursionError) as problem:
        raise UsageError("expected counters are no TOML", value=path, allowed=str(problem), remedy=remedy) from problem
    try:
        return codec.from_json(Expected, codec.check_header(data, SCHEMA, VERSION))
    except (UsageError, OverflowError) as problem:
        allowed = str(problem)
        raise UsageError("expected counters are not usable", value=path, allowed=allowed, remedy=remedy) from problem
