"""A clock that a test moves."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class ScriptedClock:
    """Moves only when told to, and logs each synchronization as ("sync", time)."""

    time_ms: float = 0.0
    log: list[tuple[str, float]] = field(default_factory=list)

    def advance(self, milliseconds: float) -> None:
        self.time_ms += milliseconds

    def now_ms(self) -> float:
        return self.time_ms

    def synchronize(self) -> None:
        self.log.append(("sync", self.time_ms))
