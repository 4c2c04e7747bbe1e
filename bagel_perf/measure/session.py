"""A comparison under way: what it runs on, what it has shown, and the turns of the processes that share it.

All processes walk through the same schedule and count its steps alike. Before a step of its own a process says that it
waits for that step, and goes on when it is told to; a process that is alone waits for nobody.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from msgspec.structs import replace

from bagel_perf.measure.bench import Bench
from bagel_perf.measure.outputs import Distance, naming
from bagel_perf.records import codec
from bagel_perf.records.errors import RunFailed
from bagel_perf.records.events import Event, ProgressEvent, RunEvent, WaitingEvent
from bagel_perf.records.outlines import Outline, Tolerance
from bagel_perf.records.plans import Plan
from bagel_perf.records.runs import Output, RunT
from bagel_perf.records.store import slug, writing


@dataclass(slots=True, kw_only=True)
class Turns:
    """The place of one process in the schedule; ``own`` are its variants, None where all are."""

    emit: Callable[[Event], None]
    own: Collection[str] | None = None
    permits: TextIO | None = None
    step: int = 0

    def is_own(self, variant: str) -> bool:
        """Whether a variant runs in this process."""
        return self.own is None or variant in self.own

    def agree(self, outline: Outline) -> Outline:
        """Gives what all processes compare together, as they are told once each has said what it brings along."""
        return outline if self.own is None else codec.from_json(Outline, json.loads(self._permit()))

    def take(self, variant: str) -> bool:
        """Counts a step of a variant, and waits for it where it is one of this process; gives whether it is."""
        self.step += 1
        if self.own is None:
            return True
        if variant not in self.own:
            return False
        self.emit(WaitingEvent(step=self.step))
        self._permit()
        return True

    def _permit(self) -> str:
        assert self.permits is not None
        line = self.permits.readline()
        if not line:
            raise RunFailed("the other processes of the comparison are gone")
        return line


Emit = Callable[[Event], None]


@dataclass(slots=True, kw_only=True)
class Session:
    """One plan under way. ``paths`` maps the md5 of each output already written to its file.

    ``references`` holds the first variant's first value of each case and seed, where a tolerance needs it.
    """

    plan: Plan
    bench: Bench
    emit: Emit
    rounds: range
    num_warmups: int
    turns: Turns
    paths: dict[str, str] = field(default_factory=dict)
    references: dict[tuple[str, int], Any] = field(default_factory=dict)
    num_runs: int = field(init=False)
    num_done: int = 0

    def __post_init__(self) -> None:
        own, proves = self.own, self.plan.process == 0
        has_control = self.outline.measured[0] in own
        num_proofs = sum(3 + self.on_cuda + self.bench.records(variant) for variant in own)
        num_timings = min(len(self.outline.stages), 2)
        num_timed = sum(map(self.num_warmups_of, own)) + num_timings * len(self.rounds) * (len(own) + has_control)
        floors = self.on_cuda * proves * self.outline.is_bagel
        self.num_runs = len(self.outline.cases) * (num_proofs * proves + num_timed) + floors

    @property
    def outline(self) -> Outline:
        return self.bench.outline

    @property
    def on_cuda(self) -> bool:
        return self.bench.device.type == "cuda"

    @property
    def own(self) -> tuple[str, ...]:
        """The variants that run in this process, in the order of the outline."""
        return tuple(name for name in self.outline.measured if self.turns.is_own(name))

    def num_warmups_of(self, variant: str) -> int:
        """Runs before those that are timed: at least one in which a variant records its steps, or is held to later."""
        is_held_to = self.has_tolerance and variant == self.outline.measured[0]
        return max(self.num_warmups, is_held_to or self.bench.records(variant))

    @property
    def has_tolerance(self) -> bool:
        """Whether any variant is held to the first by the distance of their outputs."""
        return any(each.tolerance is not None for each in self.outline.variants)

    def progress(self, text: str) -> None:
        """Announces the next run, of all that the plan holds."""
        self.emit(ProgressEvent(text=text, done=self.num_done, total=self.num_runs))
        self.num_done += 1

    def keep(self, value: Any, output: Output, case: str, what: str) -> Output:
        """Writes the first value of each md5 into the plan's folder; gives the output with its file."""
        if value is not None and output.md5 not in self.paths:
            content, suffix = self.bench.encode(value)
            path = Path(self.plan.image_dir) / f"{slug(case)}_{slug(what)}_{output.md5[:8]}{suffix}"
            with writing(path):
                path.write_bytes(content)
            self.paths[output.md5] = path.name
        return replace(output, path=self.paths.get(output.md5))

    def described(self, value: Any, variant: str, case: str) -> Output:
        """Describes an output; ``UsageError`` names what gave it, and the part that nothing can be said of."""
        with naming(self.outline.place_of(variant), case):
            return self.bench.describe(value)

    def distance(
        self, value: Any, variant: str, place: tuple[str, int], tolerance: Tolerance | None
    ) -> Distance | None:
        """Of a value from the reference's of the same (case, seed); None where there is none yet, or nobody asks."""
        if tolerance is None and self.outline.is_bagel:
            tolerance = OF_PICTURES
        elif not self.has_tolerance:
            return None
        if variant == self.outline.measured[0] and place not in self.references:
            self.references[place] = None if value is None else self.bench.copied(value)
            self._lend(value, place)
        reference = self.references.get(place)
        if reference is None:
            reference = self._borrowed(place)
        if reference is None or value is None or tolerance is None:
            return None
        return self.bench.distance(value, reference, tolerance)

    def _lend(self, value: Any, place: tuple[str, int]) -> None:
        """Leaves a reference where the processes that share the comparison find it."""
        if self.turns.own is not None and self.has_tolerance and value is not None:
            content, suffix = self.bench.encode(value)
            Path(self.plan.image_dir, f"{self._lent_name(place)}{suffix}").write_bytes(content)

    def _lent_name(self, place: tuple[str, int]) -> str:
        """By the number of its case, as two names may come to one name of a file."""
        return f"reference-{self.outline.cases.index(place[0])}-{place[1]}"

    def _borrowed(self, place: tuple[str, int]) -> Any:
        if self.turns.own is None:
            return None
        found = sorted(Path(self.plan.image_dir).glob(f"{self._lent_name(place)}.*"))
        return self.bench.decode(found[0].read_bytes(), found[0].suffix) if found else None


OF_PICTURES = Tolerance(kind="psnr", limit=1.0)
"""How pictures are held to each other where nothing but the number of pixels that differ is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case of a session."""

    session: Session
    name: str

    def record(
        self,
        kind: type[RunT],
        variant: str,
        value: Any,
        *,
        output: Output | None = None,
        seed: int | None = None,
        **fields: Any,
    ) -> RunT:
        """Sends off one run, of the outline's seed unless another is named; ``output`` describes it already.

        ``fields`` are those that runs of this kind have and others have not.
        """
        session = self.session
        seed = session.outline.seed if seed is None else seed
        tolerance = session.outline.tolerance_of(variant)
        found = session.described(value, variant, self.name) if output is None else output
        apart = session.distance(value, variant, (self.name, seed), tolerance)
        run = kind(
            variant=variant,
            case=self.name,
            seed=seed,
            process=session.plan.process,
            output=session.keep(value if seed == session.outline.seed else None, found, self.name, variant),
            distance=apart.raw if apart is not None and tolerance is not None else None,
            num_differing=None if apart is None else apart.num_differing,
            **fields,
        )
        session.emit(RunEvent(run=run))
        return run
