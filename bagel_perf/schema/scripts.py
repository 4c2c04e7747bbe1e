"""An order to run somebody's Python program, or a target, and watch it, in one JSON object."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from bagel_perf.schema import codec
from bagel_perf.schema.targets import Target

SCHEMA = "bagel-perf.script"
VERSION = 1


DEFAULT_SEED = 42


class TargetRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a target: its case, None for the first one, and seed."""

    target: Target
    case: str | None = None
    seed: int = DEFAULT_SEED


class ScriptOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What to run and how to watch it; the report is written to ``report_path``.

    ``is_module`` says that the target is a module's name, as after ``python -m``. On ``cuda`` the program runs on the
    GPU, on ``cpu`` on the simulated device, on ``auto`` on a GPU if there is one. ``ledger`` is the descriptor of a
    ledger for what is counted meanwhile. ``run`` is what is watched in place of a program.
    """

    report_path: str
    subject: str
    is_module: bool = False
    run: TargetRun | None = None
    device: Literal["auto", "cuda", "cpu"] = "auto"
    profile: bool = True
    trace_path: str | None = None
    budgets: dict[str, int] = {}
    quiet_ops: dict[str, str] = {}
    ledger: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The order as a JSON object."""
        return {"schema": SCHEMA, "version": VERSION, **codec.to_json(self)}

    @classmethod
    def from_json(cls, data: object) -> ScriptOrder:
        """The order of a JSON object; ``UsageError`` when it is none."""
        return codec.from_json(cls, codec.check_header(data, SCHEMA, VERSION))
