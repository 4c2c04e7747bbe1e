"""The conditions that a timed run ran under: what its GPU and the host's cores did meanwhile."""

from __future__ import annotations

import msgspec

from bagel_perf.schema.errors import UsageError

_NOT_NEGATIVE = (
    "num_samples",
    "sm_clock_mhz",
    "sm_clock_min_mhz",
    "memory_clock_mhz",
    "power_w",
    "energy_j",
    "other_processes",
)
_SHARES = ("cpu_load", "cpu_load_of_others")


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What was read between two moments around a timed run, ``window_ms`` apart; None where it could not be read.

    ``num_samples`` counts the samples of the GPU in between and at the end. Over them ``sm_clock_mhz`` and
    ``memory_clock_mhz`` are medians, ``sm_clock_min_mhz`` the lowest, ``temperature_c`` the highest, ``power_w`` the
    mean, and ``throttle_reasons`` the names of all that held at any of them. ``energy_j`` is what the GPU's own
    counter gained over the window, in joules. ``other_processes`` counts those that held a context on the GPU and
    are not of this program. ``cpu_load`` is the share of the time of all the host's cores in which they were not idle
    (waiting for a disk is idle, time stolen by a hypervisor is not), 0 to 1; ``cpu_load_of_others`` is the same
    without the CPU time of the measuring process. Raises ``UsageError``.
    """

    window_ms: float
    num_samples: int = 0
    sm_clock_mhz: float | None = None
    sm_clock_min_mhz: float | None = None
    memory_clock_mhz: float | None = None
    throttle_reasons: tuple[str, ...] | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    other_processes: int | None = None
    cpu_load: float | None = None
    cpu_load_of_others: float | None = None

    def __post_init__(self) -> None:
        self._check("window_ms", self.window_ms > 0, "above 0")
        for name in _NOT_NEGATIVE:
            self._check(name, (value := getattr(self, name)) is None or value >= 0, "0 or more")
        for name in _SHARES:
            self._check(name, (value := getattr(self, name)) is None or 0 <= value <= 1, "0 to 1")
        reasons = self.throttle_reasons or ()
        self._check("throttle_reasons", len(set(reasons)) == len(reasons), "each reason once")
        lowest, median = self.sm_clock_min_mhz, self.sm_clock_mhz
        self._check("sm_clock_min_mhz", lowest is None or median is None or lowest <= median, f"at most {median}")

    def _check(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise UsageError(f"{name} of a run is impossible", value=getattr(self, name), allowed=allowed)
