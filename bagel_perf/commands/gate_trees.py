"""Measures a tree in turns with a revision of it that is checked out into a folder of its own for a while.

Nothing but the process tells what belongs to which tree, so the process is what is paired: one round in each, in an
order that is a coin of each pair. Both processes of a pair have the same seed, the next pair has another.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from bagel_perf import launch
from bagel_perf.recorder import Recorder
from bagel_perf.records.errors import BagelPerfError, EnvironmentUnfit, RunFailed, UsageError, reworded
from bagel_perf.records.events import EnvironmentEvent, Event, ProgressEvent, RunEvent, WarningEvent
from bagel_perf.records.outlines import SubjectInfo
from bagel_perf.records.plans import Plan, bagel_outline
from bagel_perf.records.runs import Environment, TimedRun
from bagel_perf.verdicts.comparability import unlike_environments, unlike_subjects

OF_A_FILE = "name a file of yours: bagel-perf gate revision REV FILE.py:NAME"
WORKERS = ("bagel_perf.worker", "bagel_perf.workload.worker")
"""Where the worker of a tree may be: a revision has it where it was at the time."""
LOCAL_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")
"""Set where git runs us as a hook: they would name another tree than the folder that we ask about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A checkout, by the folder on top of it."""

    root: Path

    @classmethod
    def around(cls, folder: Path) -> Repository:
        """The checkout that a folder is part of; ``UsageError`` where it is part of none."""
        try:
            return cls(root=Path(_git(folder, "rev-parse", "--show-toplevel")))
        except subprocess.CalledProcessError as problem:
            remedy = "a revision is measured from inside a checkout; gate result RESULT judges what was measured before"
            raise UsageError("no git repository here", value=folder, remedy=remedy) from problem

    def commit(self, revision: str) -> str:
        """The hash of the commit that a revision names; ``UsageError`` where there is none."""
        try:
            return _git(self.root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        except subprocess.CalledProcessError as problem:
            remedy = "a shallow clone lacks older ones: git fetch --unshallow"
            allowed = "what git rev-parse knows"
            raise UsageError("unknown revision", value=revision, allowed=allowed, remedy=remedy) from problem

    @contextlib.contextmanager
    def worktree(self, commit: str) -> Iterator[Path]:
        """A folder with the tree of a commit, which is gone in the end, whatever ends it."""
        folder = Path(tempfile.mkdtemp(prefix="bagel-perf-"))
        tree = folder / commit[:7]
        try:
            self._check_out(tree, commit)
            yield tree
        finally:
            with _undisturbed():
                self._remove(tree)
                shutil.rmtree(folder, ignore_errors=True)

    def _remove(self, tree: Path) -> None:
        try:
            _git(self.root, "worktree", "remove", "--force", "--force", str(tree))
        except subprocess.CalledProcessError:  # it is there in part, or not at all
            shutil.rmtree(tree, ignore_errors=True)
            with contextlib.suppress(subprocess.CalledProcessError):
                _git(self.root, "worktree", "prune")

    def _check_out(self, tree: Path, commit: str) -> None:
        try:
            _git(
                self.root, "-c", "core.hooksPath=/dev/null", "worktree", "add", "--detach", "--quiet", str(tree), commit
            )
        except subprocess.CalledProcessError as problem:
            lines = str(problem.stderr).strip().splitlines()
            raise UsageError(
                "revision cannot be checked out", value=commit, allowed=lines[-1] if lines else ""
            ) from None


def check_has_worker(tree: Path, name: str) -> None:
    """``UsageError`` where a tree holds nothing that could be measured."""
    if _worker_of(tree) is None:
        raise UsageError("tree cannot be measured", value=name, allowed="it is no tree of bagel-perf", remedy=OF_A_FILE)


def _worker_of(tree: Path) -> str | None:
    files = {name: tree / f"{name.replace('.', '/')}.py" for name in WORKERS}
    return next((name for name, file in files.items() if file.is_file()), None)


def _git(folder: Path, *arguments: str) -> str:
    """What git says; in a session of its own, so that Ctrl-C does not end it halfway."""
    environment = {name: value for name, value in os.environ.items() if name not in LOCAL_VARIABLES}
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            env=environment,
            start_new_session=True,
        )
    except OSError as problem:
        raise UsageError("git cannot be run", value=command[0], allowed=problem.strerror or "") from problem
    return done.stdout.strip()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Signals that would end us wait until the end."""
    ours = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ours)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


Listener = Callable[[Event], None]


@dataclass(slots=True, kw_only=True)
class Arm:
    """A tree, what to call it, and what keeps its runs; ``environment`` is that of its first process.

    ``commit`` is what its worker has to say that it runs. ``make_folder`` gives the folder of its result, once the
    device is known. ``subject`` is what its first process says that it measures; its seed is that of a pair.
    """

    name: str
    tree: Path
    commit: str
    recorder: Recorder
    make_folder: Callable[[Environment], Path]
    environment: Environment | None = None
    subject: SubjectInfo | None = None


def measure_trees(arms: tuple[Arm, Arm], plan: Plan, view: Listener, check: Callable[[], None]) -> None:
    """``plan.pairs`` processes of each arm; ``check`` is called after each pair and may raise."""
    assert plan.pairs is not None
    for pair, order in enumerate(orders(plan.pairs, plan.order_seed)):
        for place, number in enumerate(order):
            turn = Turn(arm=arms[number], plan=plan, pair=pair, num_before=2 * pair + place, view=view)
            turn.run()
        check()


def orders(num_pairs: int, seed: int) -> Iterator[tuple[int, int]]:
    """Which of two arms is first in each pair: a coin for every one, which is exact under any noise."""
    coins = random.Random(seed)
    for _ in range(num_pairs):
        yield coins.choice([(0, 1), (1, 0)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One process of one arm."""

    arm: Arm
    plan: Plan
    pair: int
    num_before: int
    view: Listener

    def run(self) -> None:
        """Errors name the tree."""
        try:
            launch.run_plan(self._plan(), (self._on_event,), worker_command(self.arm.tree))
        except BagelPerfError as problem:
            if problem.what == "interrupted":
                raise
            raise reworded(problem, what=f"{self.arm.name}: {problem.what}") from problem

    def _plan(self) -> Plan:
        """One round; a worker that knows no processes proves its pictures in each, and takes the same seed."""
        plan = self.plan
        return replace(
            plan,
            requests=tuple(replace(each, seed=each.seed + self.pair) for each in plan.requests),
            pairs=1,
            processes=1,
            process=self.pair,
            rounds=(0, 1),
            order_seed=plan.order_seed + self.pair,
            image_dir=self.arm.recorder.plan.image_dir,
        )

    def _on_event(self, event: Event) -> None:
        if isinstance(event, EnvironmentEvent):
            self._on_environment(event)
        elif isinstance(event, RunEvent):
            is_timed = isinstance(event.run, TimedRun)
            run = replace(event.run, process=self.pair, **({"round": self.pair} if is_timed else {}))
            self.arm.recorder.on_event(RunEvent(run=run))
        elif isinstance(event, ProgressEvent):
            self.view(self._progress(event))
        elif self.pair == 0:
            self.arm.recorder.on_event(event)
            if isinstance(event, WarningEvent):
                self.view(WarningEvent(text=f"{self.arm.name}: {event.text}"))

    def _on_environment(self, event: EnvironmentEvent) -> None:
        """A result made meanwhile may make the tree dirty, so that alone is no other environment."""
        arm, subject = self.arm, None if event.outline is None else event.outline.subject
        if arm.environment is None:
            assert self.plan.pairs is not None
            _check_tree(arm, event.environment)
            arm.environment, arm.subject = event.environment, subject
            arm.recorder.out = arm.make_folder(event.environment)
            outline = bagel_outline(self.plan, {} if subject is None else subject.details)
            arm.recorder.on_event(replace(event, outline=outline, pairs=self.plan.pairs, processes=self.plan.pairs))
            self.view(event)
            return
        changes = [
            *unlike_environments(arm.environment, event.environment, but=("dirty",)),
            *unlike_subjects(arm.subject, subject, but=("dirty",)),
        ]
        if changes:
            what = f"{arm.name}: two processes ran in unlike environments, or something else"
            raise EnvironmentUnfit(what, value="; ".join(changes), remedy="run it again")

    def _progress(self, event: ProgressEvent) -> ProgressEvent:
        assert self.plan.pairs is not None
        head = f"pair {self.pair + 1} of {self.plan.pairs}, {self.arm.name}"
        done, total = self.num_before * event.total + event.done, 2 * self.plan.pairs * event.total
        return ProgressEvent(text=f"{head}: {event.text}", done=done, total=total)


def _check_tree(arm: Arm, environment: Environment) -> None:
    """A worker of another tree than its own would show no difference, whatever there is."""
    if environment.commit is not None and not arm.commit.startswith(environment.commit):
        allowed = f"it has to be {arm.commit[:7]}"
        raise RunFailed("worker runs another tree than it was started in", value=environment.commit, allowed=allowed)


def worker_command(tree: Path) -> tuple[str, ...]:
    """Starts the worker of a tree with our interpreter, whatever package is installed and wherever we stand."""
    paths = os.pathsep.join((str(tree), *filter(None, [os.environ.get("PYTHONPATH")])))
    # Without -P the current folder would be searched first; the tree's own commit outranks one that was handed down.
    settings = ("-u", "BAGEL_PERF_COMMIT", "PYTHONSAFEPATH=1", f"PYTHONPATH={paths}")
    return ("env", *settings, sys.executable, "-m", _worker_of(tree) or WORKERS[0])
