"""Collects what prevents a graph by place, tells warm-up from the rest, and says what to do about each."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from bagel_perf.records.blockers import LABELS, Blocker, BlockerKind, Effect
from bagel_perf.records.sites import HINTS, SyncSite
from bagel_perf.syncs.capture_calls import Spot
from bagel_perf.syncs.capture_changes import Change
from bagel_perf.syncs.sites import Texts

MAX_SEEN = 4
MIN_FOR_WARM_UP = 3
"""From so many entries on, what the first alone does is its warm-up: two others agree."""
CHANGES: tuple[BlockerKind, ...] = ("shape", "branch", "value", "address")
ORDER: tuple[BlockerKind, ...] = tuple(LABELS)

REMEDIES: dict[BlockerKind, str] = {
    "query": "ask before or after the region; inside, let a stream wait: stream.wait_event(event)",
    "optimizer": "make it with capturable=True, which keeps its numbers on the device",
    "shape": "pad to one size, or capture a graph for each size and pick it before the replay",
    "branch": "capture a graph for each path and pick it before the replay, or compute both and torch.where them",
    "value": "keep it in a device tensor, made before the capture: x * t_static, and t_static.fill_(value) before each "
    "replay",
    "address": "keep one tensor for it, made before the capture, and static.copy_(new) before each replay",
}
STAGED = "copy from and to pinned memory, allocated once outside of the region, or copy before the region"
HOST_MADE = "allocate pinned memory once outside of the region, fill it before each replay"
UNFORKED = "side.wait_stream(torch.cuda.current_stream()) first, and torch.cuda.current_stream().wait_stream(side) last"
ISOLATED = "wait for it before the region, or let that stream wait for the region's first: side.wait_stream(current)"
UNJOINED = "torch.cuda.current_stream().wait_stream(side) before the region ends"
UNREGISTERED = "graph.register_generator_state(generator) before the capture, or torch's default generator"
HOST_DRAWN = "draw on the device, or before the region into a tensor that stays: static.copy_(numbers)"


@dataclass(slots=True)
class Finding:
    """One thing that was found at one place; ``first`` and ``last`` are numbers of entries."""

    kind: BlockerKind
    effect: Effect
    spot: Spot
    slot: str
    remedy: str
    first: int
    last: int
    count: int = 0
    seen: dict[str, None] = field(default_factory=dict)

    def is_warm_up(self, num_entries: int) -> bool:
        """Whether the first entry alone is concerned, and there are enough others to tell."""
        return num_entries >= MIN_FOR_WARM_UP and self.last <= (2 if self.kind in CHANGES else 1)

    def detail(self) -> str:
        """What was seen, for a person."""
        texts = [*self.seen][:MAX_SEEN]
        more = f" and {len(self.seen) - MAX_SEEN} more" * (len(self.seen) > MAX_SEEN)
        if self.kind not in CHANGES:
            return ", ".join(texts) + more
        operator = self.slot.split(" ")[0]
        return (f"{operator}: " if operator else "") + " | ".join(texts) + more


class Findings:
    """Takes in findings from any thread."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._all: dict[tuple[str, str, int, str], Finding] = {}
        self._lock = threading.RLock()

    def note(
        self,
        kind: BlockerKind,
        effect: Effect,
        spot: Spot,
        entry: int,
        remedy: str,
        seen: Iterable[str] = (),
        slot: str = "",
    ) -> None:
        """One more of a kind at a place, in an entry."""
        with self._lock:
            key = (kind, remedy, spot.number, slot)
            found = self._all.get(key)
            if found is None:
                found = self._all[key] = Finding(kind, effect, spot, slot, remedy, entry, entry)
            found.count += 1
            found.last = max(found.last, entry)
            found.seen.update(dict.fromkeys(seen))

    def change(self, change: Change, entry: int) -> None:
        """One difference between an entry and the one before."""
        self.note(change.kind, "freezes", change.spot, entry, REMEDIES[change.kind], change.seen, change.slot)

    def blockers(self, num_entries: int) -> list[Blocker]:
        """Those that warm-up does not explain, one for a kind and line, in the order of kinds."""
        groups: dict[tuple[object, ...], list[Finding]] = {}
        with self._lock:
            found = [each for each in self._all.values() if not each.is_warm_up(num_entries)]
        for each in found:
            code = each.spot.code
            file = code.co_filename if code else ""
            groups.setdefault((each.kind, each.remedy, file, each.spot.line, each.spot.region), []).append(each)
        blockers = [self._blocker(group) for group in groups.values()]
        self._texts.expressions.let_go()
        return blockers

    def warm_up(self, num_entries: int) -> Iterator[str]:
        """Sentences about what the first entry alone does."""
        with self._lock:
            found = [each for each in self._all.values() if each.is_warm_up(num_entries)]
        for each in dict.fromkeys((LABELS[each.kind], self._place(each.spot)) for each in found):
            yield warm_up_text(*each)

    def _place(self, spot: Spot) -> str:
        return f"{PurePath(self._texts.names.of(spot.code.co_filename))}:{spot.line}" if spot.code else ""

    def _blocker(self, group: Sequence[Finding]) -> Blocker:
        first = group[0]
        spot, name = first.spot, self._texts.names.of
        code, caller = spot.code, spot.caller
        expressions, _ = self._texts.expressions.at(code, dict.fromkeys(each.spot.offset for each in group))
        has_caller = caller is not None and (caller is not code or spot.caller_line != spot.line)
        counts = [each.count for each in group]
        return Blocker(
            kind=first.kind,
            effect=first.effect,
            file=name(code.co_filename) if code else "",
            line=spot.line,
            function=code.co_qualname if code else "",
            region=spot.region,
            count=max(counts) if first.kind in CHANGES else sum(counts),
            detail="; ".join(_distinct(group)),
            remedy=first.remedy,
            expressions=expressions,
            caller=f"{name(caller.co_filename)}:{spot.caller_line}" if caller and has_caller else None,
        )


def _distinct(group: Sequence[Finding]) -> Iterator[str]:
    """The details of a place, each once, with how often it is there; the first few."""
    texts: dict[str, int] = {}
    for each in group:
        texts[each.detail()] = texts.get(each.detail(), 0) + 1
    for text, times in [*texts.items()][:MAX_SEEN]:
        yield f"{text} ({times} tensors)" if times > 1 and group[0].kind == "address" else text
    if len(texts) > MAX_SEEN:
        yield f"and {len(texts) - MAX_SEEN} more"


def warm_up_text(label: str, place: str) -> str:
    """What the first entry alone does, and what to do about it."""
    where = f" at {place}" if place else ""
    return f"entry 1 alone differs: {label}{where}; run it as it is, and capture after it"


def wait_blocker(site: SyncSite) -> Blocker:
    """The blocker that a host sync is, allowed or not."""
    hint = HINTS[site.kind]
    allowed = f", allowed: {site.allowed}" if site.allowed else ""
    return Blocker(
        kind="wait",
        effect="stops",
        file=site.file,
        line=site.line,
        function=site.function,
        region=site.region,
        count=site.count,
        detail=f"{hint.label}{allowed}",
        remedy=f"{hint.instead}; or do it before or after the region",
        expressions=site.expressions,
        caller=site.caller,
    )


def in_order(blockers: Iterable[Blocker]) -> tuple[Blocker, ...]:
    """What stops a capture first, then by kind and how often."""
    return tuple(sorted(blockers, key=lambda each: (each.effect != "stops", ORDER.index(each.kind), -each.count)))
