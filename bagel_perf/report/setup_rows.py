"""The waits of a model's set-up, which would drown all others: told apart, and folded into one row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bagel_perf.report.table import counted
from bagel_perf.schema.sites import Site

MAX_PLACES = 3
"""Lines of the set-up that are named."""


def split_setup(sites: Iterable[Site]) -> tuple[tuple[Site, ...], tuple[Site, ...]]:
    """(all other sites, those of the set-up), each in their order."""
    found = tuple(sites)
    return tuple(site for site in found if not site.is_setup), tuple(site for site in found if site.is_setup)


def setup_text(sites: Sequence[Site]) -> str:
    """How much waits in the set-up."""
    num_waits = sum(site.count for site in sites)
    num_lines = len({(site.file, site.line) for site in sites})
    return f"set-up: uploads of module parameters, {counted(num_waits, 'wait')}, {counted(num_lines, 'line')}"


def setup_details(sites: Sequence[Site]) -> Iterator[str]:
    """The first lines of the set-up, and how many of its waits are allowed."""
    places = list(dict.fromkeys(f"{site.file}:{site.line}" for site in sites if site.file))
    if places:
        more = f" and {len(places) - MAX_PLACES} more" if len(places) > MAX_PLACES else ""
        yield ", ".join(places[:MAX_PLACES]) + more
    num_allowed = sum(site.count for site in sites if site.allowed is not None)
    if num_allowed:
        yield f"{num_allowed} of them allowed"
