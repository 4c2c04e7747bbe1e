"""The public functions: what the command line does, for scripts and notebooks."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from msgspec.structs import replace

from bagel_perf.commands.common import requests_of
from bagel_perf.commands.measuring import Measuring, measured
from bagel_perf.commands.serving import measure_servers, named_servers
from bagel_perf.launch import check_pythons
from bagel_perf.pythons import require_torch
from bagel_perf.recorder import Recorder, make_image_dir
from bagel_perf.records.bagel import parse_variants
from bagel_perf.records.errors import RunFailed, UsageError
from bagel_perf.records.plans import DEVICES, MIN_VARIANTS, Plan, one_of
from bagel_perf.records.results import Result, result_file
from bagel_perf.records.targets import Target, parse_targets
from bagel_perf.records.traces import TraceReport
from bagel_perf.report.tables import result_tables
from bagel_perf.report.text import print_result
from bagel_perf.traces.analyse import analyse
from bagel_perf.traces.formats.reading import read_trace as open_trace
from bagel_perf.verdicts.reading import load_checked

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

FUNCTIONS = "functions of this session"


@dataclass(frozen=True, eq=False)
class Comparison:
    """A result with its pandas frames and plots; it prints as the tables of the command line."""

    result: Result
    path: Path

    @property
    def verdict(self) -> str:
        """Why the comparison passed or did not: ``pass``, ``outputs differ``, ``invalid`` or ``incomplete``."""
        return self.result.verdict

    @property
    def exit_code(self) -> int:
        """The code with which the command line would have ended; 0 is a pass."""
        return self.result.exit_code

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Gives a row for each case, stage and variant: median in ms and exact counts."""
        from bagel_perf.frames import cell_frame

        return cell_frame(self.result)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """Gives a row for each timed run and stage, in the order of time; latencies in ms."""
        from bagel_perf.frames import sample_frame

        return sample_frame(self.result)

    @cached_property
    def deltas(self) -> pd.DataFrame:
        """Gives a row for each change against the first variant, in percent, with interval and verdict."""
        from bagel_perf.frames import delta_frame

        return delta_frame(self.result)

    @cached_property
    def outputs(self) -> pd.DataFrame:
        """Gives a row for the output of each variant in each case."""
        from bagel_perf.frames import output_frame

        return output_frame(self.result)

    @cached_property
    def sync_sites(self) -> pd.DataFrame:
        """Gives a row for each source line that made the CPU wait for the device."""
        from bagel_perf.frames import site_frame

        return site_frame(self.result)

    def plot_deltas(self, axes: Axes | None = None) -> Axes:
        """Draws each change with its interval, and gives the axes; new ones where none are given."""
        from bagel_perf.frames import plot_deltas

        return plot_deltas(self.result, axes)

    def plot_samples(self, axes: Axes | None = None) -> Axes:
        """Draws the latency of the whole in each round, and gives the axes; new ones where none are given."""
        from bagel_perf.frames import plot_samples

        return plot_samples(self.result, axes)

    def plot_host_syncs(self, axes: Axes | None = None) -> Axes:
        """Draws the host syncs of each stage and variant, and gives the axes; new ones where none are given."""
        from bagel_perf.frames import plot_host_syncs

        return plot_host_syncs(self.result, axes)

    def __repr__(self) -> str:
        """Gives the tables as text."""
        stream = io.StringIO()
        print_result(self.result, self.path, stream)
        return stream.getvalue()

    def _repr_html_(self) -> str:
        """Gives the tables for a notebook."""
        from bagel_perf.report.text import tables_html

        return tables_html(result_tables(self.result), self.result)


def load(path: str | Path) -> Comparison:
    """Reads a result file or folder, also of a run that was killed.

    Raises UsageError where it is none, or concludes what its own samples contradict.
    """
    return Comparison(result=load_checked(Path(path)), path=result_file(Path(path)))


def read_trace(path: str | Path) -> TraceReport:
    """Analyses a trace that torch.profiler or Nsight Systems recorded: waits, idle time by cause, gaps, kernels.

    Raises UsageError where it is none.
    """
    return analyse(open_trace(Path(path)))


class OpenDevice:
    """A simulated device that is open until ``close()``, or the end of a ``with``."""

    def __init__(self) -> None:
        """Opens it; RuntimeError where another one is open in this process, EnvironmentUnfit without torch."""
        require_torch()
        from bagel_perf.simulated import SimulatedCuda

        self._stack = ExitStack()
        self.device = self._stack.enter_context(SimulatedCuda())

    def close(self) -> None:
        """Makes torch as it was before; nothing where it is closed already."""
        self._stack.close()

    def __enter__(self) -> OpenDevice:
        """Gives itself, which is open already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()


def open_simulated_device() -> OpenDevice:
    """Opens a simulated CUDA device for this process, as a notebook without a GPU needs it.

    Real values are computed on the CPU, and waits are counted as on a GPU. It stays open until ``close()`` of what is
    given, or the end of a ``with``.
    """
    return OpenDevice()


def compare(
    *targets: str | Path | Callable[..., Any],
    setup: Callable[[Any], Any] | None = None,
    cases: Mapping[str, Any] | Sequence[str] = (),
    tolerance: str | None = None,
    seed: int = 42,
    pairs: int | None = None,
    processes: int | None = None,
    warmup: int | None = None,
    device: str = "auto",
    out: str | Path | None = None,
    quiet: bool = True,
) -> Comparison:
    """Compares files, functions of files, servers, variants of BAGEL, or functions of this session.

    Texts are targets as on the command line, and run in processes of their own; ``cases`` then names some of their
    CASES, or resolutions that servers are asked for. Functions, with the arguments (state, case, seed), run in this
    process: ``setup`` gets the torch.device and returns their state, ``cases`` maps names to values, ``tolerance`` is
    as ``psnr:40``. One process gives no intervals, so functions get no verdicts on latency.

    Raises UsageError, EnvironmentUnfit or RunFailed where nothing could be measured; what was measured is returned
    whatever its verdict, and kept in ``out`` or a new folder of ``reports``.
    """
    are_functions = _are_functions(targets, cases, has_own=setup is not None or tolerance is not None)
    folder = None if out is None else Path(out)
    named = _functions(targets) if are_functions else {}
    files = tuple(Target(label=name, file=FUNCTIONS, function=name) for name in named)
    texts = [] if named else list(map(str, targets))
    served = named_servers(texts, frozenset())
    if not named and served is None:
        files = parse_targets(texts) if any(".py" in text for text in texts) else ()
    labels = tuple(each.label for each in (files if served is None else served.servers))
    sizes, sized_for = ((), device) if served is None else (tuple(cases), "cuda")
    plan = Plan(
        kind="compare",
        requests=() if files else requests_of(sizes, sized_for, seed=seed),
        variants=labels or _variant_names(targets),
        targets=files,
        served=served,
        cases=tuple(cases) if not named and served is None else (),
        seed=seed,
        device=one_of("device", device, DEVICES),
        pairs=pairs,
        processes=1 if named else processes,
        warmup=warmup,
        order_seed=random.SystemRandom().randrange(2**31),
    )
    if not named:
        return _recorded(plan, folder, quiet, None if served is None else measure_servers)
    require_torch()
    module = _module(named, setup, cases if isinstance(cases, Mapping) else {}, tolerance)
    return _recorded(plan, folder, quiet, lambda plan, recorder, view: _measure_here(plan, module, recorder, view))


def _are_functions(targets: Sequence[object], cases: object, *, has_own: bool) -> bool:
    """Says whether targets are functions, and not texts; raises ``UsageError`` for what goes with neither.

    ``has_own`` says that something was given which only functions take.
    """
    are_functions = [callable(target) for target in targets]
    if not isinstance(cases, (Mapping, list, tuple)):
        raise UsageError("cases are no mapping", value=repr(cases)[:60], allowed='{"small": value}, or names of CASES')
    if len(targets) < MIN_VARIANTS:
        raise UsageError("too few targets to compare", value=len(targets), allowed="two or more")
    if any(are_functions) != all(are_functions):
        raise UsageError("functions among files", allowed="all functions, or all texts as loop.py:fast")
    if not are_functions[0] and (has_own or isinstance(cases, Mapping)):
        remedy = "a file has its own: def setup(device), CASES, TOLERANCE"
        raise UsageError("setup, cases and tolerance are for functions of this session", remedy=remedy)
    return are_functions[0]


def _functions(targets: Iterable[object]) -> dict[str, Callable[..., Any]]:
    """Functions by their names, which have to differ."""
    named: dict[str, Callable[..., Any]] = {}
    for target in targets:
        name = str(getattr(target, "__name__", type(target).__name__)).strip("<>")
        if name in named:
            raise UsageError("two functions have one name", value=name, remedy="set __name__ of one of them")
        named[name] = cast(Callable[..., Any], target)
    return named


def _variant_names(targets: Iterable[object]) -> tuple[str, ...]:
    return tuple(variant.name for variant in parse_variants(",".join(map(str, targets))))


def _module(
    named: Mapping[str, Callable[..., Any]],
    setup: Callable[[Any], Any] | None,
    cases: Mapping[str, Any],
    tolerance: str | None,
) -> ModuleType:
    """What a user's file would be that holds these."""
    module = ModuleType(FUNCTIONS)
    module.__dict__.update(named)
    given = {"setup": setup, "CASES": dict(cases) or None, "TOLERANCE": tolerance}
    module.__dict__.update({name: value for name, value in given.items() if value is not None})
    return module


def _measure_here(plan: Plan, module: ModuleType, recorder: Recorder, view: Callable[[Any], None]) -> None:
    """Measures functions in this process, which has imported torch for them already."""
    from bagel_perf.measure.compare import run_compare
    from bagel_perf.measure.environment import resolve_device
    from bagel_perf.measure.gpu_lock import gpu_lock
    from bagel_perf.measure.session import Turns
    from bagel_perf.subjects.file_bench import FileBench
    from bagel_perf.subjects.files import UserFile

    def emit(event: Any) -> None:
        recorder.on_event(event)
        view(event)

    device = resolve_device(plan.device)
    with gpu_lock(device):
        bench = FileBench(plan=plan, device=device, file=UserFile(Path(FUNCTIONS), module))
        run_compare(plan, bench, Turns(emit=emit), emit)


def _recorded(plan: Plan, out: Path | None, quiet: bool, how: Measuring | None = None) -> Comparison:
    if how is None:
        check_pythons(plan)
    plan = replace(plan, image_dir=make_image_dir(out))
    recorder = Recorder(plan=plan, command=f"bagel_perf.compare({', '.join(map(repr, plan.variants))})", out=out)
    error = measured(plan, recorder, quiet=quiet, how=how)
    if recorder.result is None or recorder.result_path is None:
        raise error or RunFailed("nothing was measured")
    return Comparison(result=recorder.result, path=recorder.result_path)
