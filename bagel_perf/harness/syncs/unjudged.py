"""Collects the calls that the simulated device cannot judge, and those that may stall, by line and region."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Mapping

from bagel_perf.harness.regions import current_region
from bagel_perf.harness.syncs.frames import Folders, readable_path
from bagel_perf.schema.sites import QuietOperator, UnjudgedSite

_Place = tuple[str, str, int, str]
"""Operator, file, line, region."""


class UnjudgedCalls:
    """Takes in remarks from any thread; what is asked of it may be asked at any time.

    ``quiet`` are operators that the user answers for, with the reason: ``mine.sq``, ``mine::sq`` or
    ``mine.sq.default``. Raises ValueError for one without a reason.
    """

    def __init__(self, quiet: Mapping[str, str]) -> None:
        for name, reason in quiet.items():
            if not isinstance(reason, str) or not reason.strip():
                raise ValueError(f"quiet operator {name} has no reason; say why it does not wait")
        self._reasons = dict(quiet)
        self._names = {name.replace("::", "."): name for name in quiet}
        self._calls_of_quiet: Counter[str] = Counter()
        self._calls: Counter[_Place] = Counter()
        self._hazards: Counter[_Place] = Counter()
        self._folders = Folders()
        self._lock = threading.RLock()  # collecting garbage inside may run a finalizer that is not judged

    def hear(self, what: str, name: str) -> None:
        """Takes in a remark of the simulated device, on the thread that it is about."""
        if what == "notes":
            return
        quiet = self.answered(name) if what == "unjudged" else None
        if quiet is not None:
            with self._lock:
                self._calls_of_quiet[quiet] += 1
            return
        frame = self._folders.user_frame(sys._getframe(1))
        file, line = ("", 0) if frame is None else (readable_path(frame.f_code.co_filename), frame.f_lineno)
        with self._lock:
            calls = self._calls if what == "unjudged" else self._hazards
            calls[name, file, line, "/".join(current_region())] += 1

    def answered(self, operator: str) -> str | None:
        """The name by which the user answers for an operator; None where nobody does."""
        without_overload = operator.rpartition(".")[0]
        forms = (operator, without_overload, operator.removeprefix("aten."), without_overload.removeprefix("aten."))
        return next((self._names[form] for form in forms if form in self._names), None)

    def by_name(self) -> dict[str, int]:
        """Calls so far by operator."""
        found: Counter[str] = Counter()
        for site in self.sites():
            found[site.operator] += site.count
        return dict(sorted(found.items()))

    def sites(self) -> tuple[UnjudgedSite, ...]:
        """The calls so far by operator, line and region, most frequent first."""
        return self._sites_of(self._calls)

    def hazards(self) -> tuple[UnjudgedSite, ...]:
        """The calls so far that may stall, likewise."""
        return self._sites_of(self._hazards)

    def _sites_of(self, calls: Counter[_Place]) -> tuple[UnjudgedSite, ...]:
        with self._lock:
            most_common = calls.most_common()
        return tuple(
            UnjudgedSite(operator=operator, file=file, line=line, region=region, count=count)
            for (operator, file, line, region), count in most_common
        )

    def quiet(self) -> tuple[QuietOperator, ...]:
        """The operators that the user answers for."""
        with self._lock:
            calls = dict(self._calls_of_quiet)
        return tuple(
            QuietOperator(name=name, reason=reason, calls=calls.get(name, 0)) for name, reason in self._reasons.items()
        )
