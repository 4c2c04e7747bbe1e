"""Results with chosen changes of latency, for the gate to judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from bagel_perf.records.errors import BagelPerfError
from bagel_perf.records.outlines import VariantInfo
from bagel_perf.records.results import Result
from bagel_perf.records.runs import Environment, Run, TimedRun, TimedStage
from bagel_perf.verdicts.compare import Session, build_result
from scripted import ENVIRONMENT, make_outline, make_plan, make_runs

BASE_MS: dict[str, float] = {"ar": 100.0, "dit": 1000.0, "e2e": 1100.0}
LOAD = (1.0, 3.0, 1.5, 2.0, 1.2, 4.0, 1.1, 2.5, 1.7, 1.3)
"""Of the machine, round by round: what pairs share, and what two files do not."""
JITTER_PCT = (0.1, -0.2, 0.3, 0.0, -0.3, 0.2, -0.1, 0.15, -0.15, 0.05)

Changes = Mapping[str, Mapping[str, float]]


def make_result(
    changes: Changes,
    *,
    num_pairs: int = 10,
    sizes: Sequence[tuple[int, int]] = ((256, 256),),
    environment: Environment = ENVIRONMENT,
    load: Sequence[float] = LOAD,
    edit: Callable[[Run], Run] = lambda run: run,
    error: BagelPerfError | None = None,
    command: str = "bagel-perf compare",
) -> Result:
    """A comparison of ``baseline`` with each variant of ``changes``, which are in percent by stage; 0 where not named.

    Where e2e is not named it changes as its stages do together, and where it alone is named they change as it does.
    ``edit`` sees each run last.
    """
    plan = make_plan(sizes, ("baseline", *changes))
    whole = {variant: _with_whole(own) for variant, own in changes.items()}
    runs = [edit(_timed(run, whole.get(run.variant, {}), load)) for run in make_runs(plan, num_pairs)]
    session = Session(
        command=command,
        created="2026-01-31T12:00:00+00:00",
        pairs=num_pairs,
        warmup=1,
        order_seed=0,
        processes=num_pairs,
    )
    return build_result(make_outline(plan), environment, runs, session, error=error)


def _with_whole(changes: Mapping[str, float]) -> Mapping[str, float]:
    if set(changes) == {"e2e"}:
        return dict.fromkeys(BASE_MS, changes["e2e"])
    parts_ms = sum(BASE_MS[stage] * changes.get(stage, 0.0) for stage in ("ar", "dit"))
    return {"e2e": parts_ms / BASE_MS["e2e"], **changes}


def _timed(run: Run, changes: Mapping[str, float], load: Sequence[float]) -> Run:
    if not isinstance(run, TimedRun):
        return run
    number = run.round % len(LOAD)
    jitter = 1 + JITTER_PCT[number] / 100 * (run.variant != "baseline")
    measurements = tuple(
        TimedStage(stage=stage, latency_ms=ms * load[number] * jitter * (1 + changes.get(stage, 0.0) / 100))
        for stage, ms in BASE_MS.items()
    )
    return replace(run, measurements=measurements)


def with_picture(run: Run, variant: str) -> Run:
    """The run with another picture, if it is of this variant."""
    if run.variant != variant:
        return run
    return replace(run, output=replace(run.output, md5=run.output.md5[::-1]))


def with_names(*names: str) -> tuple[VariantInfo, ...]:
    """Variants of these names, all bitwise."""
    return tuple(VariantInfo(name=name, target=name) for name in names)
