"""What a command and the processes that it starts are told of the watch, and the files in which they answer.

An environment variable names the folder, in which the order lies. Each process has a stem of its own there, its number
and the time at which it began: ``.process`` says who it is, ``.ledger`` what it has counted so far, ``.report`` what it
saw once it has ended, ``.failed`` why it could not be watched.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from bagel_perf.records import codec
from bagel_perf.records.targets import TargetRun

SCHEMA = "bagel-perf.watch"
VERSION = 1
VARIABLE = "BAGEL_PERF_WATCH"
ORDER = "order.json"
"""A file of the folder: what to watch and how."""
PAUSED = "paused"
"""A file of the folder, whatever is in it: processes that begin now are paused."""
STARTED = "started.json"
"""A file of the folder: the numbers of all ledgers at the last start."""
ROOT = "root"
"""A file of the folder: the number of the process that the command itself is."""

OnWait = Literal["count", "raise"]


class WatchOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What to watch and how; files go to ``folder``, ``packages`` is where ours lie.

    With ``run``, the command is ours and runs a target, whose stages are watched. ``has_gpu`` says whether this machine
    has one: on ``cuda`` the program runs on it, on ``cpu`` on the simulated device, on ``auto`` on a GPU if there is
    one. ``profile`` and ``trace_path`` are for the first process alone. Counting begins after the region ``after``, and
    after as many entries of regions as ``skip_first`` says; nothing is counted while the folder has a file ``paused``.
    ``capture`` is the region of which it is asked what prevents a CUDA graph.
    """

    folder: str
    packages: str
    subject: str
    run: TargetRun | None = None
    device: Literal["auto", "cuda", "cpu"] = "auto"
    has_gpu: bool = False
    profile: bool = True
    trace_path: str | None = None
    budgets: dict[str, int] = {}
    quiet_ops: dict[str, str] = {}
    on_wait: OnWait = "count"
    after: str = ""
    skip_first: dict[str, int] = {}
    capture: str = ""

    def to_json(self) -> dict[str, Any]:
        """The order as a JSON object."""
        return {"schema": SCHEMA, "version": VERSION, **codec.to_json(self)}

    @classmethod
    def from_json(cls, data: object) -> WatchOrder:
        """The order of a JSON object; ``UsageError`` when it is none."""
        return codec.from_json(cls, codec.check_header(data, SCHEMA, VERSION))


class ArmedProcess(msgspec.Struct, frozen=True, kw_only=True):
    """A process that is armed, as it said when it began; ``rank`` is that of torchrun and its like.

    A fork of an armed process may become another program, which the command that it runs then shows.
    """

    pid: int
    ppid: int
    argv: tuple[str, ...]
    rank: str | None = None
    is_fork: bool = False
