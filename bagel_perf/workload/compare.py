"""Runs every variant of a plan on every request: counted, proved against itself, warmed up, timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from bagel_perf.harness.device_work import count_device_work
from bagel_perf.harness.measure import (
    Subject,
    WallClock,
    peak_bytes_by_stage,
    run_stages,
    shuffled_rounds,
    time_stages,
    time_whole,
)
from bagel_perf.harness.regions import NvtxSink, RecordFunctionSink, recording
from bagel_perf.model.bagel import Bagel
from bagel_perf.schema.errors import OutputsDiffer, RunFailed
from bagel_perf.schema.events import EnvironmentEvent, Event, FloorsEvent, ProgressEvent, RunEvent, WarningEvent
from bagel_perf.schema.plans import Plan
from bagel_perf.schema.requests import Request
from bagel_perf.schema.runs import Measurement, Picture, Purpose, Run, SyncDevice
from bagel_perf.schema.slots import as_stage
from bagel_perf.schema.store import writing
from bagel_perf.schema.variants import parse_variant
from bagel_perf.workload.bind import bind, with_regions
from bagel_perf.workload.counting import count_stages
from bagel_perf.workload.edit import (
    RequestInputs,
    describe_picture,
    edit_subject,
    mean_squared_error,
    request_inputs,
)
from bagel_perf.workload.floors import measure_floors
from bagel_perf.workload.loading import Loaded

DEFAULT_ROUNDS = {"cuda": 5, "cpu": 1}
DEFAULT_WARMUPS = {"cuda": 1, "cpu": 0}
FLAT_SPREAD = 1.0
"""Grey levels; a picture that spreads less shows nothing, and a wrong kernel would pass for a right one."""

Emit = Callable[[Event], None]


@dataclass(slots=True, kw_only=True)
class Session:
    """One plan under way. ``paths`` maps the md5 of each picture already written to its file.

    ``references`` holds the first variant's picture of each width, height and seed, where tolerances are declared.
    """

    plan: Plan
    model: Bagel
    emit: Emit
    num_rounds: int
    num_warmups: int
    paths: dict[str, str] = field(default_factory=dict)
    references: dict[tuple[int, int, int], bytes] = field(default_factory=dict)
    num_runs: int = field(init=False)
    num_done: int = 0

    def __post_init__(self) -> None:
        per_variant = 3 + self.on_cuda + self.num_warmups + 2 * self.num_rounds
        num_recording = sum(take_captures(variant) is not None for variant in self.plan.measured)
        self.num_runs = len(self.plan.requests) * (len(self.plan.measured) * per_variant + num_recording)
        self.num_runs += self.on_cuda

    @property
    def on_cuda(self) -> bool:
        return self.model.device.type == "cuda"

    def progress(self, text: str) -> None:
        """Announces the next run, of all that the plan holds."""
        self.emit(ProgressEvent(text=text, done=self.num_done, total=self.num_runs))
        self.num_done += 1

    def keep(self, png: bytes, variant: str) -> Picture:
        """Describes a picture, and writes the first of each md5 into the plan's folder."""
        picture = describe_picture(png)
        if picture.md5 not in self.paths:
            path = Path(self.plan.image_dir) / f"{picture.width}x{picture.height}_{variant}_{picture.md5[:8]}.png"
            with writing(path):
                path.write_bytes(png)
            self.paths[picture.md5] = path.name
        return replace(picture, path=self.paths[picture.md5])

    def mse(self, png: bytes, variant: str, place: tuple[int, int, int]) -> float | None:
        """Of a picture against the reference's of the same (width, height, seed); None where it has to be identical."""
        first = self.plan.variants[0]
        if variant == first:
            self.references.setdefault(place, png)
        if all(parse_variant(name).min_psnr_db is None for name in (variant, first)) or place not in self.references:
            return None
        return mean_squared_error(png, self.references[place])


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request of a session, with its host inputs for the request's own seed and for another."""

    session: Session
    request: Request
    inputs: RequestInputs
    other_inputs: RequestInputs

    @property
    def label(self) -> str:
        return f"{self.request.width}x{self.request.height}"

    def subject(self, variant: str, *, other_seed: bool = False) -> Subject:
        inputs = self.other_inputs if other_seed else self.inputs
        return edit_subject(self.session.model, inputs, bind(variant))

    def marked_subject(self, model: Bagel, variant: str) -> Subject:
        """The subject with a region around each slot, on this model or another copy of its tensors."""
        return edit_subject(model, self.inputs, with_regions(bind(variant)))

    def record(
        self,
        purpose: Purpose,
        variant: str,
        png: bytes,
        measurements: tuple[Measurement, ...] = (),
        *,
        round: int | None = None,
        sync_device: SyncDevice | None = None,
        captures_ms: tuple[float, ...] = (),
    ) -> Run:
        """Sends off one run."""
        width, height, seed = self.request.width, self.request.height, self.request.seed + (purpose == "other_seed")
        run = Run(
            purpose=purpose,
            variant=variant,
            width=width,
            height=height,
            seed=seed,
            round=round,
            sync_device=sync_device,
            measurements=measurements,
            picture=self.session.keep(png, variant),
            captures_ms=captures_ms,
            mse=self.session.mse(png, variant, (width, height, seed)),
        )
        self.session.emit(RunEvent(run=run))
        return run


def run_compare(plan: Plan, loaded: Loaded, emit: Emit) -> None:
    """Measures a plan; raises OutputsDiffer before anything is timed when a variant disproves itself."""
    kind = loaded.environment.device_kind
    num_rounds = DEFAULT_ROUNDS[kind] if plan.pairs is None else plan.pairs
    num_warmups = DEFAULT_WARMUPS[kind] if plan.warmup is None else plan.warmup
    emit(EnvironmentEvent(environment=loaded.environment, pairs=num_rounds, warmup=num_warmups))
    if loaded.environment.dirty:
        emit(WarningEvent(text="the tree has uncommitted changes, so its commit does not name what is measured"))
    session = Session(plan=plan, model=loaded.model, emit=emit, num_rounds=num_rounds, num_warmups=num_warmups)
    directory = Path(plan.weights) if plan.weights else None
    cases: list[Case] = []
    for request in plan.requests:
        inputs, other_inputs = (
            request_inputs(request, loaded.model.config, directory, seed) for seed in (request.seed, request.seed + 1)
        )
        cases.append(Case(session=session, request=request, inputs=inputs, other_inputs=other_inputs))
    proven = [(case.request, case.inputs, [prove(case, variant) for variant in plan.measured][-1]) for case in cases]
    if session.on_cuda:
        session.progress("measuring the GPU's ceilings")
        ceilings, floors = measure_floors(loaded.model, proven)
        emit(FloorsEvent(ceilings=ceilings, floors=floors))
    for case in cases:
        time_variants(case)


def prove(case: Case, variant: str) -> bytes:
    """Counts a variant's waits, and shows that its picture repeats, depends on the seed and is not flat; gives it."""
    session = case.session
    record_graphs(case, variant)
    session.progress(f"{case.label} {variant}: counting host syncs")
    counts = count_stages(session.model, lambda model: case.marked_subject(model, variant))
    counted = case.record("count", variant, counts.output, counts.measurements, sync_device=counts.device)

    session.progress(f"{case.label} {variant}: same seed again")
    with recording(
        NvtxSink(), RecordFunctionSink()
    ):  # untimed: the pass that a profiler around this process should read
        png, peaks = peak_bytes_by_stage(case.marked_subject(session.model, variant), session.model.device)
    repeated = case.record("repeat", variant, png, tuple(_peak(stage, peak) for stage, peak in peaks.items()))

    session.progress(f"{case.label} {variant}: another seed")
    other = case.record("other_seed", variant, run_stages(case.subject(variant, other_seed=True)))
    _check(case.label, variant, counted.picture, repeated.picture, other.picture)
    if session.on_cuda:
        profile_work(case, variant)
    return counts.output


def profile_work(case: Case, variant: str) -> None:
    """Counts the launches, kernels and copies of a variant, in a run of its own."""
    case.session.progress(f"{case.label} {variant}: counting launches")
    worked = count_device_work(case.marked_subject(case.session.model, variant), inner="denoise_loop")
    measurements = tuple(
        Measurement(stage=as_stage(stage), work=work, loop_work=worked.inner_by_stage.get(stage))
        for stage, work in worked.by_stage.items()
    )
    case.record("profile", variant, worked.output, measurements)


def record_graphs(case: Case, variant: str) -> None:
    """Has a variant that records its steps do so in a run of its own, so that no other pays for it."""
    take = take_captures(variant)
    if take is None:
        return
    take()  # what another resolution recorded is told already
    case.session.progress(f"{case.label} {variant}: recording")
    png = run_stages(case.subject(variant))
    case.record("warmup", variant, png, captures_ms=take())


def take_captures(variant: str) -> Callable[[], tuple[float, ...]] | None:
    """What tells how long a variant took to record each graph, in ms, since it was last asked; None if it has none."""
    take: Callable[[], tuple[float, ...]] | None = getattr(bind(variant).denoise_loop, "take_captures", None)
    return take


def refuse_recording(variant: str) -> None:
    """A run that recorded a graph has a latency that no later run has: it ends the comparison."""
    take = take_captures(variant)
    if take is not None and take():
        raise RunFailed(
            "a timed run recorded a graph",
            value=variant,
            remedy="leave --warmup at 1, and compare fewer shapes at once",
        )


def _peak(stage: str, peak_bytes: int) -> Measurement:
    return Measurement(stage=as_stage(stage), peak_bytes=peak_bytes)


def _check(label: str, variant: str, counted: Picture, repeated: Picture, other: Picture) -> None:
    def refuse(what: str, remedy: str) -> None:
        raise OutputsDiffer(what, value=f"{variant} at {label}", remedy=remedy)

    if not repeated.spread >= FLAT_SPREAD:
        refuse(
            f"the picture is flat (grey levels spread {repeated.spread:.2f})",
            "nothing was timed; look for NaN in the weights",
        )
    if counted.md5 != repeated.md5:
        refuse("a variant's picture differs from itself on a second run", "nothing was timed; look for unseeded noise")
    if other.md5 == repeated.md5:
        refuse("another seed gives the same picture", "nothing was timed; look for an output that is cached")


def time_variants(case: Case) -> None:
    """Warms up, then times every variant once a round, in random order, by stages and as a whole."""
    session = case.session
    clock = WallClock(device=session.model.device)
    for _ in range(session.num_warmups):
        for variant in session.plan.measured:
            session.progress(f"{case.label} {variant}: warm-up")
            png, take = run_stages(case.subject(variant)), take_captures(variant)
            case.record("warmup", variant, png, captures_ms=() if take is None else take())
    for index, variant in shuffled_rounds(session.plan.measured, session.num_rounds, session.plan.order_seed):
        for timing, text in ((time_stages, "stages"), (time_whole, "end to end")):
            session.progress(f"{case.label} {variant}: round {index + 1} of {session.num_rounds}, {text}")
            outcome = timing(case.subject(variant), clock)
            refuse_recording(variant)
            latencies = tuple(
                Measurement(stage=as_stage(name), latency_ms=ms) for name, ms in outcome.latency_ms.items()
            )
            case.record("timed", variant, outcome.output, latencies, round=index)
