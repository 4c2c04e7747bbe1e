"""``syncs --attach PID``: starts, stops and reports the counting in processes that were started under ``syncs``.

Nothing is asked of the processes: a word in the memory that they share says whether they count, and their counts are
read from there. Numbers from before the last start are taken off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from bagel_perf.commands.common import stream_for_people
from bagel_perf.commands.following import Baseline, Following, children_of
from bagel_perf.commands.syncs import Output, deliver
from bagel_perf.records.errors import UsageError
from bagel_perf.records.following import ORDER, PAUSED, STARTED, VARIABLE, WatchOrder
from bagel_perf.records.store import write_json_atomic
from bagel_perf.report.inert import print_line
from bagel_perf.report.table import counted

ACTIONS = ("start", "stop", "report")


OPTIONS = frozenset({"--attach", "--json", "--top", "--quiet", "--apart", "--debug"})


def attach_to(pid: int, words: Sequence[str], given: frozenset[str], output: Output) -> None:
    """Has the processes of a watch count or not, or reports what they counted since the last start.

    ``pid`` is any of them, or the ``bagel-perf syncs`` that started them. Raises ``UsageError`` where nobody does.
    """
    if len(words) != 1 or words[0] not in ACTIONS:
        allowed = f"--attach {pid} start, stop or report"
        raise UsageError("action is not understood", value=" ".join(words) or "none", allowed=allowed)
    for option in sorted(given - OPTIONS):
        raise UsageError(f"{option} means nothing beside --attach", remedy="give it where the command is started")
    (action,) = words
    order = _order_of(pid)
    found = Following(Path(order.folder))
    found.look()
    paused = found.folder / PAUSED
    if action == "start":
        write_json_atomic(found.folder / STARTED, {stem: _numbers(found, stem) for stem in found.processes})
        paused.unlink(missing_ok=True)
    elif action == "stop":
        paused.touch()
    if action == "report":
        report, _ = found.gathered(order, baseline=_baseline(found.folder))
        deliver([replace(report, is_unstarted=paused.exists() and not (found.folder / STARTED).exists())], output)
        return
    for ledger in found.ledgers.values():
        ledger.is_paused = action == "stop"
    if not output.quiet:
        told = f"{counted(len(found.ledgers), 'process')} {'now counted' if action == 'start' else 'no longer counted'}"
        then = "stop, report" if action == "start" else "report, start"
        print_line(f"{told}; next: --attach {pid} {then}", stream_for_people(output.json_path))


def _numbers(found: Following, stem: str) -> list[int]:
    return [number for _, number in found.counts_of(stem).entries]


def _baseline(folder: Path) -> Baseline:
    """The numbers of the last start; none where there was none."""
    with suppress(OSError, ValueError):
        found: Baseline = json.loads((folder / STARTED).read_text(encoding="utf-8"))
        return found
    return {}


def _order_of(pid: int) -> WatchOrder:
    if not Path(f"/proc/{pid}").exists():
        raise UsageError("no such process", value=pid, remedy="ps lists those that run")
    for each in (pid, *children_of(pid)):
        with suppress(OSError, ValueError):
            words = Path(f"/proc/{each}/environ").read_bytes().split(b"\0")
            text = next((word for word in words if word.startswith(f"{VARIABLE}=".encode())), b"")
            path = Path(os.fsdecode(text.partition(b"=")[2]), ORDER)
            if text:
                return WatchOrder.from_json(json.loads(path.read_text(encoding="utf-8")))
    remedy = "start it so: bagel-perf syncs --paused -- COMMAND"
    raise UsageError("nobody watches that process", value=pid, remedy=remedy)
