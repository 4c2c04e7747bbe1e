"""Follows a command and every process that it starts, and gathers what they counted, however each of them ended.

Each Python among them is armed by its environment (``arming/sitecustomize.py``). Meanwhile the tree of processes is
looked at, so that others are known by name; orphans come to this process, and not to the system's first.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from bagel_perf.launch import stat_of
from bagel_perf.records import codec
from bagel_perf.records.errors import BagelPerfError, error_from_json
from bagel_perf.records.following import ROOT, ArmedProcess, WatchOrder
from bagel_perf.records.ledger import (
    ENDED_AT_ONCE,
    Counts,
    Entries,
    Ledger,
    open_ledger,
    process_name,
    recovered_report,
    since,
    unwatched_processes,
)
from bagel_perf.records.syncs import Process, SyncReport
from bagel_perf.rules.code_places import CodePlace, PlaceTexts
from bagel_perf.rules.programs import is_python, only_starts_others, python_parts, readable
from bagel_perf.verdicts.merging import MAIN, Followed, Note, Sighting, merged, note_of, shown_argv, unwatched
from bagel_perf.watch_orders import variables

LOOK_S = 0.05
PAUSE_PER_LOOK = 20
"""Looking takes a twentieth of a core at most: with thousands of processes and threads it is done less often."""
LINGER_S = 3.0
"""For processes that outlive the command to end; the others are reported as far as they came."""
PR_SET_CHILD_SUBREAPER = 36
PREFIX = "bagel_perf_watch_"
STILL_RUNS = "it still ran when the command had ended, and was counted until then"
STILL_STARTS = "it still ran when the command had ended; what it starts from then on is not counted"
CUT_OFF = "it was killed or ended at once: counted to its end"
OF_XDIST = "PYTEST_XDIST_WORKER"
"""It names the processes below a worker of pytest's; where this runs in one, theirs are others."""


def environment(order: WatchOrder) -> dict[str, str]:
    """The environment that arms every Python which is started under it."""
    own = {name: value for name, value in os.environ.items() if name != OF_XDIST}
    return {**own, **variables(order.folder, os.environ.get("PYTHONPATH", ""))}


Baseline = dict[str, list[int]]
"""Numbers of ledgers by stem, as they were at one time."""


@dataclass(slots=True)
class Following:
    """The files of the processes in a folder, and the processes that were seen.

    Ledgers are mapped as they appear, and read when their process has ended: each takes a file descriptor while it is
    mapped, and a long run may have thousands.
    """

    folder: Path
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    ended: dict[str, Counts] = field(default_factory=dict)
    processes: dict[str, ArmedProcess] = field(default_factory=dict)
    sightings: dict[tuple[int, str], Sighting] = field(default_factory=dict)
    root: int | None = None
    texts: PlaceTexts = field(default_factory=PlaceTexts)
    cases: tuple[str, ...] = ()
    """Of the file of a target, once it is gathered."""
    others: frozenset[int] = field(default_factory=lambda: frozenset(children_of(os.getpid())))
    _known: set[str] = field(default_factory=set)
    _argvs: set[tuple[str, ...]] = field(default_factory=set)

    def look(self) -> None:
        """Looks once at the folder and at the processes below this one."""
        for stem in [each for each in self.ledgers if not _runs(each)]:
            self.ended[stem] = self.ledgers.pop(stem).counts()
        with suppress(OSError), os.scandir(self.folder) as entries:
            for name in [entry.name for entry in entries if entry.name not in self._known]:
                self._look_at(self.folder / name)
        for pid, parent in _below(os.getpid(), self.others):
            self._see(pid, parent)

    def reap(self) -> None:
        """Lets orphans that have ended go; the command itself is waited for by who started it."""
        for pid in children_of(os.getpid()) if self.root is not None else ():
            if pid != self.root and pid not in self.others:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    def _look_at(self, path: Path) -> None:
        with suppress(OSError, ValueError):  # it is being made
            if path.name == ROOT:
                self.root = int(path.read_text(encoding="utf-8"))
            elif path.suffix == ".process":
                armed = codec.from_json(ArmedProcess, json.loads(path.read_text(encoding="utf-8")))
                self.processes[path.stem] = armed
                self._argvs.add(shown_argv(armed.argv))
            elif path.suffix == ".ledger":
                runs, ledger = _runs(path.stem), open_ledger(path)
                if runs:
                    self.ledgers[path.stem] = ledger
                else:
                    self.ended[path.stem] = ledger.counts()
            self._known.add(path.name)

    def _see(self, pid: int, parent: int) -> None:
        argv, began = _argv(pid), _began(pid)
        if began is None or not argv:
            return
        before = self.sightings.get((pid, began))
        if before is not None and before.argv == argv:
            return
        of_parent = () if parent == os.getpid() else _argv(parent)
        is_orphan = not of_parent and pid != self.root  # of a parent that has ended, which may have been armed
        is_fork = argv == of_parent or (is_orphan and argv in self._argvs)
        seen = Sighting(pid=pid, ppid=parent, argv=argv, is_fork=is_fork, is_python=is_python([_program(pid)]))
        self.sightings[pid, began] = seen

    def gathered(
        self, order: WatchOrder, argv: Sequence[str] = (), baseline: Baseline | None = None
    ) -> tuple[SyncReport, BagelPerfError | None]:
        """The report of all processes, and the error that a target ended in; raises one that kept it from running.

        With a ``baseline``, what was counted since then, as the ledgers have it, while the processes run.
        """
        pid = self.root
        error, followed, notes = None, list[Followed](), list[Note]()
        for stem, armed in sorted(self.processes.items()):
            counts, outcome = self.counts_of(stem), {} if baseline is not None else self._outcome(stem)
            entries = counts.entries
            if baseline is not None:
                entries = since(entries, baseline.get(stem, []))
            self.cases = tuple(outcome.get("cases", self.cases))
            if "error" in outcome:
                error = error_from_json(outcome["error"])
                if "report" not in outcome:
                    raise error
            notes += [note_of(each, armed.pid) for each in unwatched_processes(counts)]
            each = self._followed(stem, armed, entries, outcome, order.subject, is_root=armed.pid == pid)
            followed.append(each if baseline is None else _alive(each))
        others = unwatched(followed, self.sightings.values(), notes)
        if all(each.process.pid != pid for each in followed):
            seen = next((each for each in others if each.pid == pid), None)
            main = seen or Process(name=MAIN, pid=pid, argv=tuple(argv), watched=True)
            followed.append(Followed(process=main))
            others = tuple(each for each in others if each.pid != pid)
        if baseline is None:
            others = (
                *others,
                *self._left_behind({each.process.pid for each in followed} | {each.pid for each in others}),
            )
        return merged(order.subject, followed, others, order.budgets), error

    def _left_behind(self, known: set[int | None]) -> Iterator[Process]:
        """Launchers and forks that outlived the command, and may start others yet."""
        for (pid, began), seen in self.sightings.items():
            if pid not in known and _began(pid) == began and (seen.is_fork or only_starts_others(seen.argv)):
                name = readable(shlex.join(seen.argv))
                yield Process(name=name, pid=pid, argv=seen.argv, why=STILL_STARTS, still_runs=True, watched=True)

    def counts_of(self, stem: str) -> Counts:
        """What a process has counted so far; of one that has ended what its file says, as its forks may mark it."""
        if stem in self.ledgers:
            return self.ledgers[stem].counts()
        with suppress(OSError, ValueError):
            return open_ledger(self.folder / f"{stem}.ledger").counts()
        return self.ended.get(stem, Counts([]))

    def _text(self, record: dict[str, Any]) -> tuple[str, frozenset[str]]:
        return self.texts.at(codec.from_json(CodePlace, record))

    def _outcome(self, stem: str) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads((self.folder / f"{stem}.report").read_text(encoding="utf-8"))
            return found
        return {}

    def _followed(
        self,
        stem: str,
        armed: ArmedProcess,
        entries: Entries,
        outcome: dict[str, Any],
        subject: str,
        *,
        is_root: bool,
    ) -> Followed:
        name = outcome.get("name") or process_name(entries)
        rank = int(armed.rank) if armed.rank is not None and armed.rank.isdecimal() else None
        why, report, is_watched, still_runs = "", None, True, False
        if "report" in outcome:
            report = SyncReport.from_json(outcome["report"])
        elif entries:
            report = recovered_report(entries, subject, self._text)
            still_runs = _runs(stem)
            why = STILL_RUNS if still_runs else CUT_OFF
        with suppress(OSError):
            why, is_watched = (self.folder / f"{stem}.failed").read_text(encoding="utf-8"), False
        process = Process(
            name=name or (MAIN if is_root else _script_of(armed.argv)),
            pid=armed.pid,
            argv=armed.argv,
            why=why,
            rank=rank,
            watched=is_watched,
            still_runs=still_runs,
        )
        return Followed(process=process, report=report, ppid=armed.ppid, is_fork=armed.is_fork)


def _alive(each: Followed) -> Followed:
    """A process that runs on, of which nothing is amiss."""
    if each.report is None or not each.process.still_runs:
        return each
    notes = tuple(note for note in each.report.notes if note != ENDED_AT_ONCE)
    process = replace(each.process, why="", still_runs=False)
    return dataclasses.replace(each, process=process, report=replace(each.report, notes=notes))


def _script_of(argv: Sequence[str]) -> str:
    """What a process is called that never said its name: by its script, its module, or -c."""
    if "--multiprocessing-fork" in argv:
        return "a process of multiprocessing"
    rest = python_parts(argv)[1]
    if not rest or rest[0] in ("-c", "-"):
        return "".join(rest[:1]) or "python"
    script = rest[1] if rest[0] == "-m" and len(rest) > 1 else rest[0]
    return os.path.basename(script).removesuffix(".py")[:40]


def _below(pid: int, but: frozenset[int]) -> Iterator[tuple[int, int]]:
    """(process, parent) of all that run below a process but some; nothing where the system does not tell."""
    todo = [pid]
    while todo:
        parent = todo.pop()
        for child in children_of(parent):
            if child not in but:
                yield child, parent
                todo.append(child)


def children_of(pid: int) -> Iterator[int]:
    """The processes that any thread of a process has started, or adopted; none where the system does not tell."""
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                yield from map(int, file.read().split())


def _argv(pid: int) -> tuple[str, ...]:
    with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return tuple(word.decode(errors="replace") for word in file.read().rstrip(b"\0").split(b"\0") if word)
    return ()


def _program(pid: int) -> str:
    """The file that a process runs, "" where that is not told."""
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/exe")
    return ""


def _began(pid: int) -> str | None:
    """When a process began, in ticks since the machine did; None where it is gone, or a zombie."""
    fields = stat_of(pid)
    return None if not fields or fields[0] == "Z" else fields[19]


def _runs(stem: str) -> bool:
    pid, began = stem.split("-")[:2]
    return _began(int(pid)) == began


@contextmanager
def following(folder: Path) -> Iterator[Following]:
    """Looks at the processes below this one until the end of the context, and then waits for stragglers."""
    with _adopting():
        found = Following(folder)
        with _looking(found):
            yield found
        _wait_for_stragglers(found)


@contextmanager
def _adopting() -> Iterator[None]:
    """Has orphans come to this process."""
    library = ctypes.CDLL(None)
    library.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        library.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@contextmanager
def _looking(found: Following) -> Iterator[None]:
    ended = threading.Event()

    def keep_looking() -> None:
        pause_s = LOOK_S
        while not ended.wait(pause_s):
            began = time.thread_time()
            found.look()
            found.reap()
            pause_s = max(LOOK_S, PAUSE_PER_LOOK * (time.thread_time() - began))

    looking = threading.Thread(target=keep_looking, daemon=True)
    # Signals are for the thread that waits for them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    looking.start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield
    finally:
        ended.set()
        looking.join()
        found.look()


def _wait_for_stragglers(found: Following) -> None:
    end = time.monotonic() + LINGER_S
    while any(map(_runs, found.processes)) and time.monotonic() < end:
        time.sleep(LOOK_S)
        found.reap()
        found.look()


@contextmanager
def watch_folder() -> Iterator[Path]:
    """A folder for the files of one watch; what still runs then finds it gone, and writes nothing.

    Folders of watches that were killed are removed.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = re.match(rf"{PREFIX}(\d+)_", left.name)
        if owner is not None and not Path(f"/proc/{owner[1]}").exists():
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}_", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def tell_root(folder: Path, then: Callable[[], None]) -> Callable[[], None]:
    """Has the child write down its number, before it becomes the command."""

    def prepare() -> None:
        with open(folder / ROOT, "w", encoding="utf-8") as file:
            file.write(str(os.getpid()))
        then()

    return prepare
