"""The result file: what ``compare`` found, with every raw run.

History of the format: 1 knew BAGEL alone, and ``version1`` reads it; 2 names cases, stages and variants as their
subject does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from bagel_perf.records import codec
from bagel_perf.records.ablations import Ablation, ComponentMixtures
from bagel_perf.records.codec import parse_json
from bagel_perf.records.errors import UsageError
from bagel_perf.records.loads import Load
from bagel_perf.records.outlines import Outline, SubjectInfo, Tolerance, VariantInfo, timed_stages
from bagel_perf.records.runs import DeviceWork, Environment, Output, OutputKind, Run, SyncDevice
from bagel_perf.records.store import GZIP_MAGIC
from bagel_perf.records.version1 import result_in_words, upgraded


class Ceilings(msgspec.Struct, frozen=True, kw_only=True):
    """What the GPU reached: GEMMs and attention at the model's shapes, a large copy (read and written), one launch.

    The first two are means over the work of all requests.
    """

    gemm_tflops: float
    attention_tflops: float
    copy_tbps: float
    launch_us: float


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a stage: floating point operations, bytes that have to be moved, and the least time in ms.

    Operations or bytes are None where they were not counted, because the other decides the time.
    """

    name: str
    flops: float | None
    bytes: float | None
    floor_ms: float

    def __post_init__(self) -> None:
        if not self.floor_ms >= 0:
            raise UsageError(f"floor of {self.name} is negative", value=self.floor_ms)


class StageFloor(msgspec.Struct, frozen=True, kw_only=True):
    """The components of a stage in one case, one after another."""

    case: str
    stage: str
    components: tuple[Component, ...]

    @property
    def floor_ms(self) -> float:
        return sum(component.floor_ms for component in self.components)

    @property
    def flops(self) -> float:
        return sum(component.flops or 0.0 for component in self.components)

    @property
    def bytes(self) -> float:
        return sum(component.bytes or 0.0 for component in self.components)


SCHEMA = "bagel-perf.result"
RESULT_FILE = "result.json"
LINES_FILE = "runs.jsonl"
"""Beside it, and in its place, while the run has not ended; see ``lines``."""
VERSION = 2

DeltaVerdict = Literal["improved", "regressed", "no difference shown", "inconclusive", "invalid", "too few pairs"]
"""``too few pairs`` stands in older files for what is inconclusive now."""

Verdict = Literal["pass", "outputs differ", "invalid", "incomplete"]
"""``invalid``: something shows that the latencies are no account of the variants."""

Unit = Literal["pair", "process", "round"]
"""What the intervals of a result take for independent: processes; of servers, which are one process each, rounds; pairs
in files from before 2026-11-30."""


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """A stage of a variant in one case: raw latencies in order, and exact counts; None where not measured.

    ``launches`` is ``work.launches``, and ``launches_per_step`` the mean over the steps of its loop.
    ``energy_j`` and ``gpu_s`` are medians of what a run took of the GPU: joules by its own counter, and seconds.
    """

    case: str
    stage: str
    variant: str
    latency_ms: tuple[float, ...]
    median_ms: float | None
    host_syncs: int | None
    launches: int | None
    peak_bytes: int | None
    syncs_by_component: dict[str, int] | None
    sync_device: SyncDevice | None
    work: DeviceWork | None = None
    launches_per_step: float | None = None
    allocations: int | None = None
    energy_j: float | None = None
    gpu_s: float | None = None

    def __post_init__(self) -> None:
        if (self.median_ms is None) != (not self.latency_ms):
            raise UsageError("a median without latencies, or latencies without one", value=self.median_ms)


class ShownOutput(msgspec.Struct, frozen=True, kw_only=True):
    """The output of a variant in one case; ``path`` is relative to the result file.

    ``difference_path`` is a small picture of the amplified difference from the first variant's, where what was kept of
    the two are previews, which no longer show it.
    """

    case: str
    variant: str
    kind: OutputKind
    md5: str
    sha256: str
    path: str | None
    difference_path: str | None = None


class IdentityCheck(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the candidate gave the reference's output in each of its ``num_runs`` runs with the same seed.

    Where a tolerance is declared, ``distance`` is the worst of those runs in its unit; None there means that all had
    its values, though perhaps in other bytes. ``num_differing`` is the largest number of pixels or elements in any of
    those runs, None where it was not counted, as in files from before 2026-11-28.
    """

    case: str
    reference: str
    candidate: str
    identical: bool
    num_runs: int
    tolerance: Tolerance | None = None
    distance: float | None = None
    num_differing: int | None = None

    @property
    def is_ok(self) -> bool:
        """Identical, or within the declared tolerance, as the same values are."""
        return self.identical or (self.tolerance is not None and self.tolerance.holds(self.distance))


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """Change of latency from reference to candidate in percent: the median over processes.

    ``ci_pct`` is its interval, for the cell by itself, None under 6 processes; the ``verdict`` holds for all cells of
    the table together. ``num_excluded`` further pairs were left out for the conditions that they ran under.
    """

    case: str
    stage: str
    reference: str
    candidate: str
    delta_pct: float
    ci_pct: tuple[float, float] | None
    num_pairs: int
    verdict: DeltaVerdict
    num_excluded: int = 0
    num_processes: int = 0


class Noise(msgspec.Struct, frozen=True, kw_only=True):
    """The first variant against itself in the rounds of a comparison: what a difference between equals looks like.

    ``floor_pct`` is half the interval, which a single pair may well reach without any effect. None under 6 processes.
    Both arms share their process, so what luck a process has is not in it.
    """

    case: str
    stage: str
    delta_pct: float
    ci_pct: tuple[float, float] | None
    floor_pct: float | None
    num_pairs: int
    num_processes: int = 0


SumState = Literal["agree", "disagree", "too few processes"]


class StageSum(msgspec.Struct, frozen=True, kw_only=True):
    """By how many percent the whole of a variant takes longer than its stages together, with its interval.

    They disagree where that is beyond noise and 1%, judged for all variants and cases together.
    """

    case: str
    variant: str
    apart_pct: float
    ci_pct: tuple[float, float] | None
    num_processes: int
    state: SumState


class CaseInput(msgspec.Struct, frozen=True, kw_only=True):
    """What a case brings along, as a picture to edit."""

    case: str
    output: Output


class Excluded(msgspec.Struct, frozen=True, kw_only=True):
    """A timed run whose pairs do not count, and the rule that says so."""

    case: str
    round: int
    variant: str
    reason: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One comparison. ``findings`` says in words why it did not pass, ``error`` what ended it early.

    The first ``num_named`` of ``variants`` are those that were named; the others are the ``mixtures`` of an ablation,
    of which there are cells, outputs and deltas as well. ``deltas`` are against the first variant, ``steps`` of each
    named variant against the one before it; ``successive`` says that they are to be shown. ``noise`` is the first
    variant against itself, ``stage_sums`` say whether the stages account for the whole, ``excluded`` which runs do not
    count. ``processes`` shared the rounds, and took ``startups_s`` seconds each before their first run. ``looks`` are
    the numbers of processes after which the run would have stopped, none where their number was fixed. ``inputs`` are
    what the cases bring along, as pictures to edit, with paths relative to the result file. ``loads`` are servers under
    many requests at once.
    """

    environment: Environment
    subject: SubjectInfo
    cases: tuple[str, ...]
    stages: tuple[str, ...]
    variants: tuple[VariantInfo, ...]
    num_named: int
    seed: int
    cells: tuple[Cell, ...]
    outputs: tuple[ShownOutput, ...]
    identity: tuple[IdentityCheck, ...]
    deltas: tuple[Delta, ...]
    verdict: Verdict
    exit_code: int
    complete: bool
    findings: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    error: str | None = None
    command: str
    created: str
    pairs: int
    warmup: int
    order_seed: int
    runs: tuple[Run, ...]
    ceilings: Ceilings | None = None
    floors: tuple[StageFloor, ...] = ()
    successive: bool = False
    steps: tuple[Delta, ...] = ()
    mixtures: tuple[ComponentMixtures, ...] = ()
    ablations: tuple[Ablation, ...] = ()
    noise: tuple[Noise, ...] = ()
    stage_sums: tuple[StageSum, ...] = ()
    excluded: tuple[Excluded, ...] = ()
    processes: int = 1
    startups_s: tuple[float, ...] = ()
    looks: tuple[int, ...] = ()
    unit: Unit = "pair"
    inputs: tuple[CaseInput, ...] = ()
    loads: tuple[Load, ...] = ()

    @property
    def outline(self) -> Outline:
        """What was compared."""
        return Outline(
            subject=self.subject,
            cases=self.cases,
            stages=self.stages,
            variants=self.variants,
            num_named=self.num_named,
            seed=self.seed,
            successive=self.successive,
            mixtures=self.mixtures,
        )

    @property
    def named(self) -> tuple[str, ...]:
        """Names of the variants that were named, the reference first."""
        return tuple(each.name for each in self.variants[: self.num_named])

    @property
    def timed_stages(self) -> tuple[str, ...]:
        """All that was timed and judged, in order."""
        return timed_stages(self.stages, self.subject.kind)

    def to_json(self) -> dict[str, Any]:
        """The result as a JSON object."""
        return {"schema": SCHEMA, "version": VERSION, **codec.to_json(self)}

    @classmethod
    def from_json(cls, data: object) -> Result:
        """The result of a JSON object of this version; ``UsageError`` when it is none."""
        return codec.from_json(cls, data)


def current(data: object) -> Mapping[str, Any]:
    """A result's JSON object in the form of this version; ``UsageError`` where it is no result, or of a newer one."""
    found = codec.check_header(data, SCHEMA, VERSION)
    return upgraded(found) if found["version"] == 1 else result_in_words(found)


def result_file(path: Path) -> Path:
    """The file that ``path`` names: itself, or in a folder the lines of a run that has not ended, else its result."""
    if not path.is_dir():
        return path
    return path / LINES_FILE if (path / LINES_FILE).is_file() else path / RESULT_FILE


def is_result(path: Path) -> bool:
    """Whether a file says at its begin that it is one of compare's; ``OSError`` where it cannot be read."""
    with path.open("rb") as file:
        return f'"schema": "{SCHEMA}"'.encode() in file.read(1000)


def _remedy(path: Path) -> str:
    """Results in the folders beside a file that is not there, as those of a measurement against a revision."""
    inside = sorted(str(found.parent) for found in path.parent.glob(f"*/{RESULT_FILE}"))[:3]
    return f"did you mean {' or '.join(inside)}?" if inside and path.name == RESULT_FILE else ""


def load_json(path: Path) -> Any:
    """The JSON value in a result file, as it stands there; ``UsageError`` when there is none.

    What is shown or judged comes from ``verdicts.reading``, which holds it to its own samples.
    """
    try:
        content = path.read_bytes()
    except OSError as problem:
        allowed, remedy = problem.strerror or "", _remedy(path) or _gzipped_beside(path)
        raise UsageError("result file cannot be read", value=path, allowed=allowed, remedy=remedy) from problem
    if content.startswith(GZIP_MAGIC):
        allowed = "results are plain JSON; only a profile, a report of syncs --json, may be gzipped"
        raise UsageError("result file is gzipped", value=path, allowed=allowed, remedy="unpack it with gunzip")
    try:
        return parse_json(content)
    except RecursionError as problem:
        raise UsageError("result file is nested too deeply", value=path, remedy="give one of compare's") from problem
    except ValueError as problem:
        what = "result file is empty" if not content.strip() else "result file is no JSON, or cut off"
        raise UsageError(what, value=path, allowed=str(problem), remedy="copy it again, or measure again") from problem


def load(path: Path) -> Result:
    """The result in a file as it stands there; see ``load_json``."""
    data = load_json(path)
    try:
        return Result.from_json(current(data))
    except (UsageError, OverflowError, RecursionError) as problem:
        raise UsageError("result file is not usable", value=path, allowed=str(problem)) from problem


def _gzipped_beside(path: Path) -> str:
    """Profiles in the folder that was named for a result and holds none."""
    found = sorted(str(each) for each in path.parent.glob("*.json.gz"))[:3] if path.name == RESULT_FILE else []
    return f"profiles are named one by one: {' '.join(found)}" if found else ""
