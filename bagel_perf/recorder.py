"""Keeps what a comparison gives, pictures and result file, so that an early end of the worker or Ctrl-C loses nothing.

The folder is named after the device, which the worker tells only when it has its plan and its model. So it writes its
pictures into a temporary folder on the same disk, and those to keep are moved as their runs arrive.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from bagel_perf.records.errors import BagelPerfError, EnvironmentUnfit, RunFailed, UsageError
from bagel_perf.records.events import (
    EnvironmentEvent,
    Event,
    FloorsEvent,
    Head,
    InputEvent,
    LoadEvent,
    ProgressEvent,
    RunEvent,
    WarningEvent,
    lines_file,
    to_line,
)
from bagel_perf.records.loads import Load
from bagel_perf.records.outlines import Outline
from bagel_perf.records.plans import Plan
from bagel_perf.records.results import LINES_FILE, RESULT_FILE, CaseInput, Result
from bagel_perf.records.runs import Output, Run, differing_fields
from bagel_perf.records.store import PICTURES, device_slug, make_out_dir, slug, write_json_atomic, writing
from bagel_perf.verdicts.compare import Session, build_result
from bagel_perf.verdicts.planning import looks_of

REPORTS = Path("reports")


@dataclass(slots=True, kw_only=True)
class Recorder:
    """Collects the events of one plan; ``out_dir`` and ``result`` are None until there is something to keep.

    ``started`` is what the first process said, ``num_pairs`` and ``num_processes`` are those of the whole run,
    ``startups_s`` the seconds before the first run of each.
    """

    plan: Plan
    command: str
    out: Path | None
    out_dir: Path | None = None
    result: Result | None = None
    started: EnvironmentEvent | None = None
    num_pairs: int = 0
    num_processes: int = 1
    startups_s: list[float] = field(default_factory=list)
    _created: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC))
    runs: list[Run] = field(default_factory=list)
    outline: Outline | None = None
    _warnings: list[str] = field(default_factory=list)
    _floors: FloorsEvent | None = None
    _inputs: list[CaseInput] = field(default_factory=list)
    _loads: list[Load] = field(default_factory=list)
    _path_by_output: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def result_path(self) -> Path | None:
        """Where the result file is, None where nothing was kept."""
        return self.out_dir / RESULT_FILE if self.out_dir and self.result else None

    def on_event(self, event: Event) -> None:
        """Takes in one event; it is kept at once, and the result when the runs turn to another case."""
        if isinstance(event, EnvironmentEvent):
            self._on_environment(event)
        elif isinstance(event, WarningEvent):
            self._warnings.append(event.text)
        elif isinstance(event, FloorsEvent):
            self._floors = event
        elif isinstance(event, LoadEvent):
            self._loads.append(event.load)
        elif isinstance(event, InputEvent):
            given = event.input
            event = InputEvent(input=replace(given, output=self._moved(given.output, given.case, "input")))
            self._inputs.append(event.input)
        elif isinstance(event, RunEvent):
            if self.runs and self.runs[-1].case != event.run.case:
                self._write(RunFailed("interrupted before the last case"))
            event = RunEvent(run=replace(event.run, output=self._keep(event.run)))
            self.runs.append(event.run)
        if not isinstance(event, ProgressEvent):
            self._keep_line(event)

    def _keep_line(self, event: Event) -> None:
        """Adds a line to what a run that is killed leaves; there is none before there is a folder."""
        if self.out_dir is None:
            return
        path = self.out_dir / LINES_FILE
        head = Head(plan=self.plan, command=self.command, created=self._created_text)
        lines = [to_line(event)] if path.exists() else [head.to_line(), to_line(event)]
        with writing(path), path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))

    @property
    def _created_text(self) -> str:
        return self._created.isoformat(timespec="seconds")

    def _on_environment(self, event: EnvironmentEvent) -> None:
        """Every process has to run where the first one did."""
        if self.started is None:
            self.started, self.outline = event, event.outline
            self.num_pairs, self.num_processes = event.pairs, event.processes
            self.out_dir = self._make_out_dir(event)
            self._warnings += _tolerance_warnings(event)
            return
        before, after = self.started.environment, event.environment
        unlike = [
            f"{name} from {getattr(before, name)} to {getattr(after, name)}"
            for name in differing_fields(before, after)
            if name != "dirty"  # the result itself makes it so, where it lies in the tree
        ]
        if unlike:
            raise EnvironmentUnfit(
                "the environment changed between two processes of the run",
                value=", ".join(unlike),
                remedy="run it again",
            )

    def finish(self, error: BagelPerfError | None) -> None:
        """Writes the result of what was measured, removes the temporary folder; ``error`` ended the plan early."""
        shutil.rmtree(self.plan.image_dir, ignore_errors=True)
        if self.runs:
            self._write(error)
        if self.out_dir is not None:
            (self.out_dir / LINES_FILE).unlink(missing_ok=True)
            if self.out is None and not self.runs:
                self.out_dir.rmdir()

    def _make_out_dir(self, event: EnvironmentEvent) -> Path:
        if self.out is not None:
            return self.out
        environment = event.environment
        is_gpu = environment.device_kind == "cuda"
        device = device_slug(environment.device_name) if is_gpu else environment.device_kind
        date = self._created.strftime("%Y-%m-%d")
        return make_out_dir(REPORTS, device, environment.commit or "nogit", date)

    def _keep(self, run: Run) -> Output:
        """Keeps an output of the seed that was asked for."""
        is_asked = self.outline is not None and run.seed == self.outline.seed
        return self._moved(run.output, run.case, run.variant) if is_asked else replace(run.output, path=None)

    def _moved(self, output: Output, case: str, what: str) -> Output:
        """Moves an output beside the result, one file per case and md5."""
        if output.path is None or self.out_dir is None:
            return replace(output, path=None)
        key = case, output.md5
        if key not in self._path_by_output:
            name = self._free_name(f"{slug(case)}_{slug(what)}", Path(output.path).suffix)
            source = Path(self.plan.image_dir, output.path)
            with writing(self.out_dir / name):
                if source.exists():  # else it is one file of two cases
                    os.replace(source, self.out_dir / name)
                else:
                    return replace(
                        output, path=next(p for (_, md5), p in self._path_by_output.items() if md5 == key[1])
                    )
            self._path_by_output[key] = name
        return replace(output, path=self._path_by_output[key])

    def _free_name(self, stem: str, suffix: str) -> str:
        taken = set(self._path_by_output.values())
        names = (f"{stem}{more}{suffix}" for more in ("", *(f"_{number}" for number in range(2, len(taken) + 3))))
        return next(name for name in names if name not in taken)

    def _write(self, error: BagelPerfError | None) -> None:
        started = self.started
        assert started is not None and self.out_dir is not None and self.outline is not None
        session = Session(
            command=self.command,
            created=self._created_text,
            pairs=self.num_pairs,
            warmup=started.warmup,
            order_seed=self.plan.order_seed,
            processes=self.num_processes,
            startups_s=tuple(self.startups_s),
            looks=looks_of(self.plan),
        )
        self.result = build_result(
            self.outline,
            started.environment,
            self.runs,
            session,
            error=error,
            warnings=self._warnings,
            inputs=self._inputs,
            floors=self._floors,
        )
        self.result = replace(self.result, loads=tuple(self._loads))
        write_json_atomic(self.out_dir / RESULT_FILE, self.result.to_json())


def make_image_dir(out: Path | None) -> str:
    """A temporary folder for pictures, on the disk of the result; ``UsageError`` if ``out`` holds something."""
    base = REPORTS if out is None else out
    _remove_dead(base)
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        unfinished = "; it holds a run that did not end, which show and report read" * (lines_file(out) is not None)
        remedy = f"results are never overwritten, choose another{unfinished}"
        raise UsageError("--out is not an empty folder", value=out, remedy=remedy)
    if not base.is_dir() and (base.exists() or base.is_symlink()):
        raise UsageError(
            "results need a folder", value=base, allowed="it is something else", remedy="choose another --out"
        )
    with writing(base):
        base.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=PICTURES, dir=base)).absolute()
    _lock(folder)
    return str(folder)


def _lock(folder: Path) -> int | None:
    """Locks a folder for as long as this process lives, which a kill ends too; None where another process does."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _remove_dead(base: Path) -> None:
    """Temporary folders of runs that were killed: nobody has locked them."""
    for folder in base.glob(f"{PICTURES}*"):
        with contextlib.suppress(OSError):
            if folder.is_dir() and not folder.is_symlink() and (handle := _lock(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(handle)


def _tolerance_warnings(started: EnvironmentEvent) -> list[str]:
    """On a CPU a variant of BAGEL with a tolerance has no kernels, of which nothing is shown there."""
    outline = started.outline
    if outline is None or not outline.is_bagel or started.environment.device_kind != "cpu":
        return []
    names = [each.name for each in outline.variants[: outline.num_named] if each.tolerance is not None]
    what = f"on a CPU {', '.join(names)} runs without Triton kernels"
    told = f"{what}: the picture is the baseline's to the bit, and the tolerance is not put to the test"
    return [told] if names else []
