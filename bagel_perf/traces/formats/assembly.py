"""Rows of a reader into a ``Trace``: sorted, counted from the first event, each call in its thread.

The recorder mixes up threads. CUPTI knows a thread by its address, and Kineto keeps the number that was the first to
have it; when a thread ends, the next one mostly gets its address, and with it another's number (seen with PyTorch
2.11). The operator around a call, which the call names, has the right one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bagel_perf.traces.tables import (
    DIGITS_OF_US,
    MARKER_PREFIX,
    NONE,
    Activities,
    Calls,
    CallSite,
    Columns,
    Floats,
    Frames,
    Ints,
    Mask,
    Spans,
    Syncs,
    grouped,
)
from bagel_perf.traces.trace import Source, Trace


@dataclass(frozen=True, slots=True)
class Numbered:
    """Spans with the number by which calls name them, below 1 where there is none."""

    spans: Spans
    external: Ints


def threads_of_calls(start_us: Floats, thread: Ints, external: Ints, around: Sequence[Numbered]) -> Ints:
    """The thread of each call, by rising start: that of the span it names, else as for the call before it.

    Calls of a thread all of whose spans are its own stay as they are.
    """
    if not len(thread) or (thread == thread[0]).all():
        return thread
    named = _threads_of_spans(start_us, external, around)
    is_foreign = (named != NONE) & (named != thread)
    if not is_foreign.any():
        return thread
    mended = thread.copy()
    mixed_up = np.unique(thread[is_foreign])
    for each, rows in grouped(thread):
        if each in mixed_up:
            known = np.flatnonzero(named[rows] != NONE)
            nearest = np.maximum(np.searchsorted(known, np.arange(len(rows)), side="right") - 1, 0)
            mended[rows] = named[rows[known[nearest]]]
    return mended


def _threads_of_spans(start_us: Floats, external: Ints, around: Sequence[Numbered]) -> Ints:
    """The thread of the span that each call names and lies in, NONE without one."""
    numbers = np.concatenate([each.external for each in around])
    starts_us, ends_us, threads = (
        np.concatenate([getattr(each.spans, name) for each in around]) for name in ("start_us", "end_us", "thread")
    )
    distinct, first, count = np.unique(numbers, return_index=True, return_counts=True)
    is_telling = (distinct > 0) & (count == 1)
    distinct, first = distinct[is_telling], first[is_telling]
    if not len(distinct):
        return np.full(len(external), NONE)
    place = np.minimum(np.searchsorted(distinct, external), len(distinct) - 1)
    span = first[place]
    is_inside = (distinct[place] == external) & (starts_us[span] <= start_us) & (start_us <= ends_us[span])
    return np.where(is_inside, threads[span], NONE)


# Annotations that older versions of PyTorch record as operators.
_ANNOTATION_PREFIXES = ("ProfilerStep#", "Optimizer.step#", "Optimizer.zero_grad#", "enumerate(DataLoader)#")
_STREAM_WAIT = "Stream Wait Event"

_SPAN = {"start_us": np.float64, "end_us": np.float64, "thread": np.int64, "name": np.int64}
_FRAME = {**_SPAN, "caller": np.int64}
_NUMBERED = {**_SPAN, "external": np.int64}
_CALL = {**_NUMBERED, "correlation": np.int64, "site": np.int64}
_SYNC = {"start_us": np.float64, "end_us": np.float64, "name": np.int64, "correlation": np.int64}
_ACTIVITY = {
    **_SYNC,
    **dict.fromkeys(("device", "stream", "kind", "num_bytes", "copy"), np.int64),
    "pageable": np.bool_,
}


@dataclasses.dataclass(slots=True)
class Rows:
    """The tables while they grow; times from any zero."""

    calls: Columns = dataclasses.field(default_factory=partial(Columns, external=NONE))
    activities: Columns = dataclasses.field(default_factory=Columns)
    syncs: Columns = dataclasses.field(default_factory=Columns)
    ops: Columns = dataclasses.field(default_factory=partial(Columns, external=NONE))
    annotations: Columns = dataclasses.field(default_factory=partial(Columns, external=NONE))
    frames: Columns = dataclasses.field(default_factory=Columns)
    overhead: Columns = dataclasses.field(default_factory=Columns)

    def any(self) -> bool:
        """Whether any table has a row."""
        return self.least_us() is not None

    def scale(self, factor: float) -> None:
        """Multiplies all times."""
        for field in dataclasses.fields(self):
            columns: Columns = getattr(self, field.name)
            columns.scale(factor)

    def least_us(self) -> float | None:
        """The time of the first event."""
        tables: list[Columns] = [getattr(self, field.name) for field in dataclasses.fields(self)]
        starts = (table.least("start_us") for table in tables)
        return min((start for start in starts if start is not None), default=None)


def assemble(
    source: Source,
    rows: Rows,
    *,
    names: tuple[str, ...],
    threads: tuple[str, ...],
    sites: tuple[CallSite, ...] = (),
    num_stream_waits: int = 0,
) -> Trace:
    """The trace of ``rows``. Operators that are annotations or markers by name are moved to their tables.

    Names and threads are numbered by their texts, so that nothing depends on the order of events in a file.
    """
    zero_us = round(rows.least_us() or 0.0, DIGITS_OF_US)
    name_ranks, names = _ranked(names)
    thread_ranks, threads = _ranked(threads)
    ranks = {"name": name_ranks, "caller": name_ranks, "thread": thread_ranks}

    def finished(columns: Columns, types: Mapping[str, type]) -> dict[str, Any]:
        found = columns.finish(types, zero_us)
        return {key: ranks[key][column] if key in ranks else column for key, column in found.items()}

    def numbered(columns: Columns) -> Numbered:
        found = finished(columns, _NUMBERED)
        external = found.pop("external")
        return Numbered(Spans(**found), external)

    around = numbered(rows.ops), numbered(rows.annotations)
    ops, annotations = (each.spans for each in around)
    calls = finished(rows.calls, _CALL)
    calls["thread"] = threads_of_calls(calls["start_us"], calls["thread"], calls.pop("external"), around)
    is_marker = _by_name(names, lambda name: name.startswith(MARKER_PREFIX) and name.split()[-1].isdigit())
    is_annotation = _by_name(names, lambda name: name.startswith(_ANNOTATION_PREFIXES))
    markers = _merged(ops.where(is_marker[ops.name]), annotations.where(is_marker[annotations.name]))
    annotations = _merged(annotations.where(~is_marker[annotations.name]), ops.where(is_annotation[ops.name]))
    syncs = Syncs(**finished(rows.syncs, _SYNC))
    is_stream_wait = _by_name(names, lambda name: name == _STREAM_WAIT)[syncs.name]
    return Trace(
        source=source,
        calls=Calls(**calls),
        activities=Activities(**finished(rows.activities, _ACTIVITY)),
        syncs=Syncs(**{f.name: getattr(syncs, f.name)[~is_stream_wait] for f in dataclasses.fields(syncs)}),
        ops=ops.where(~is_marker[ops.name] & ~is_annotation[ops.name]),
        annotations=annotations,
        frames=Frames(**finished(rows.frames, _FRAME)),
        markers=markers,
        marker_numbers=np.array([int(names[name].split()[-1]) for name in markers.name], np.int64),
        overhead=Spans(**finished(rows.overhead, _SPAN)),
        threads=threads,
        names=names,
        sites=sites,
        num_stream_waits=num_stream_waits + int(is_stream_wait.sum()),
    )


def _ranked(texts: tuple[str, ...]) -> tuple[Ints, tuple[str, ...]]:
    """For each text its number in the order of texts, and NONE for NONE; and the texts in that order."""
    order = sorted(range(len(texts)), key=texts.__getitem__)
    ranks = np.full(len(texts) + 1, NONE)
    ranks[order] = np.arange(len(texts))
    return ranks, tuple(texts[number] for number in order)


def _by_name(names: Sequence[str], holds: Callable[[str], bool]) -> Mask:
    return np.array([holds(name) for name in names], np.bool_)


def _merged(a: Spans, b: Spans) -> Spans:
    if not len(b):
        return a
    columns: dict[str, Any] = {
        field.name: np.concatenate([getattr(a, field.name), getattr(b, field.name)]) for field in dataclasses.fields(a)
    }
    joined = Spans(**columns)
    return joined.where(np.lexsort((-joined.end_us, joined.start_us)))
