"""Measures whether a change of a torch loop, script, release or server is faster and nothing else.

    import bagel_perf as bp

    found = bp.compare("loop.py:plain", "loop.py:fast")   # tables; found.deltas and others are pandas frames
    with bp.watch_host_syncs("cuda") as watch: ...        # every wait of the CPU for the GPU, by source line

Each name is imported when it is first asked for, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bagel_perf.api import Comparison, compare, load, open_simulated_device, read_trace
    from bagel_perf.syncs import SyncBudgetExceeded, allow_sync, watch_capture, watch_host_syncs
    from bagel_perf.syncs.regions import region

__all__ = [
    "Comparison",
    "SyncBudgetExceeded",
    "__version__",
    "allow_sync",
    "compare",
    "load",
    "open_simulated_device",
    "read_trace",
    "region",
    "watch_capture",
    "watch_host_syncs",
]

_HOME = {
    "Comparison": "bagel_perf.api",
    "compare": "bagel_perf.api",
    "load": "bagel_perf.api",
    "open_simulated_device": "bagel_perf.api",
    "read_trace": "bagel_perf.api",
    "region": "bagel_perf.syncs.regions",
    "SyncBudgetExceeded": "bagel_perf.syncs",
    "allow_sync": "bagel_perf.syncs",
    "watch_capture": "bagel_perf.syncs",
    "watch_host_syncs": "bagel_perf.syncs",
}


def __getattr__(name: str) -> Any:
    """Imports a public name from its home; AttributeError for any other, EnvironmentUnfit where it takes torch."""
    if name == "__version__":
        from importlib.metadata import version

        return version("bagel-perf")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOME[name].startswith("bagel_perf.syncs"):
        from bagel_perf.pythons import require_torch

        require_torch()
    found = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return found


def __dir__() -> list[str]:
    """Lists the public names, asked for or not."""
    return sorted({*globals(), *__all__})
