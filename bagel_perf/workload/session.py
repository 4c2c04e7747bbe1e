"""A comparison under way: what it runs on, what it has shown, and each request as a case of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from bagel_perf.harness.measure import Subject
from bagel_perf.model.bagel import Bagel
from bagel_perf.model.preprocess import picture_of
from bagel_perf.schema.conditions import Conditions
from bagel_perf.schema.events import Event, InputEvent, ProgressEvent, RunEvent
from bagel_perf.schema.plans import Plan
from bagel_perf.schema.requests import Request
from bagel_perf.schema.runs import Measurement, Picture, Purpose, Run, SyncDevice
from bagel_perf.schema.sites import Site
from bagel_perf.schema.store import writing
from bagel_perf.schema.variants import parse_variant
from bagel_perf.workload.bind import bind, with_regions
from bagel_perf.workload.edit import RequestInputs, edit_subject, request_inputs
from bagel_perf.workload.pictures import Distance, describe_picture, distance, encode_png
from kernels_optimized.captured.loop import CapturedLoop

Emit = Callable[[Event], None]


@dataclass(slots=True, kw_only=True)
class Session:
    """One plan under way. ``paths`` maps the md5 of each picture already written to its file.

    ``references`` holds the first variant's first picture of each width, height and seed.
    """

    plan: Plan
    model: Bagel
    emit: Emit
    rounds: range
    num_warmups: int
    paths: dict[str, str] = field(default_factory=dict)
    references: dict[tuple[int, int, int], bytes] = field(default_factory=dict)
    num_runs: int = field(init=False)
    num_done: int = 0

    def __post_init__(self) -> None:
        variants, proves = self.plan.measured, self.plan.process == 0
        num_proofs = sum(3 + self.on_cuda + (recorded_loop(variant) is not None) for variant in variants)
        num_timed = sum(map(self.num_warmups_of, variants)) + 2 * len(self.rounds) * (len(variants) + 1)
        self.num_runs = len(self.plan.requests) * (num_proofs * proves + num_timed) + self.on_cuda * proves

    @property
    def on_cuda(self) -> bool:
        return self.model.device.type == "cuda"

    def num_warmups_of(self, variant: str) -> int:
        """Runs before those that are timed: at least one in which a variant records its steps, or is held to later."""
        is_held_to = self.has_tolerance and variant == self.plan.variants[0]
        return max(self.num_warmups, is_held_to or recorded_loop(variant) is not None)

    @property
    def has_tolerance(self) -> bool:
        """Whether any variant is held to the first by the distance of their pictures."""
        return any(parse_variant(name).min_psnr_db is not None for name in self.plan.measured)

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

    def distance(self, png: bytes, variant: str, place: tuple[int, int, int]) -> Distance | None:
        """Of a picture from the reference's of the same (width, height, seed); None where there is none yet."""
        if variant == self.plan.variants[0]:
            self.references.setdefault(place, png)
        reference = self.references.get(place)
        if reference is None:
            return None
        return Distance(mse=0.0, differing_pixels=0) if png == reference else distance(png, reference)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request of a session; host inputs are made once for each seed."""

    session: Session
    request: Request
    inputs_of: Callable[[int], RequestInputs]

    @classmethod
    def of(cls, session: Session, request: Request, weights: Path | None) -> Case:
        """UsageError where the checkpoint does not serve the request."""
        inputs_of = functools.lru_cache(maxsize=2)(
            lambda seed: request_inputs(request, session.model.config, weights, seed)
        )
        inputs_of(request.seed)
        return cls(session=session, request=request, inputs_of=inputs_of)

    @property
    def label(self) -> str:
        return f"{self.request.width}x{self.request.height}"

    @property
    def inputs(self) -> RequestInputs:
        """Those of the request's own seed."""
        return self.inputs_of(self.request.seed)

    def send_input(self) -> None:
        """The picture to edit, where there is one."""
        picture = self.inputs.picture
        if picture is not None:
            png = encode_png(picture_of(picture.vae_pixels))
            self.session.emit(InputEvent(picture=self.session.keep(png, "input")))

    def subject(self, variant: str, seed: int | None = None) -> Subject:
        """The request under a variant, with its own seed or another."""
        inputs = self.inputs_of(self.request.seed if seed is None else seed)
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
        seed: int | None = None,
        round: int | None = None,
        sync_device: SyncDevice | None = None,
        captures_ms: tuple[float, ...] = (),
        sites: tuple[Site, ...] = (),
        again: bool = False,
        conditions: Conditions | None = None,
    ) -> Run:
        """Sends off one run, of the request's own seed unless another is named."""
        width, height = self.request.width, self.request.height
        seed = self.request.seed if seed is None else seed
        apart = self.session.distance(png, variant, (width, height, seed))
        is_held = apart is not None and parse_variant(variant).min_psnr_db is not None
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
            sites=sites,
            again=again,
            process=self.session.plan.process,
            conditions=conditions,
            mse=apart.mse if apart is not None and is_held else None,
            differing_pixels=None if apart is None else apart.differing_pixels,
        )
        self.session.emit(RunEvent(run=run))
        return run


def recorded_loop(variant: str) -> CapturedLoop | None:
    """The slot of a variant that records its steps, if it does."""
    loop = bind(variant).denoise_loop
    return loop if isinstance(loop, CapturedLoop) else None
