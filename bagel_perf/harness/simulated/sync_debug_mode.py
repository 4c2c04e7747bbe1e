"""``torch.cuda.set_sync_debug_mode`` of a program: it is warned, or stopped, where it would be on CUDA."""

from __future__ import annotations

import warnings
from typing import Any

from bagel_perf.schema.waits import Kind

_MODES = ("default", "warn", "error")
_MESSAGE = "called a synchronizing CUDA operation"


class SyncDebugMode:
    """The mode that is set; 0, 1 and 2 are default, warn and error."""

    def __init__(self) -> None:
        self._mode = 0

    def functions(self) -> dict[str, Any]:
        """The functions of ``torch.cuda`` that set and tell it."""
        return {"set_sync_debug_mode": self._set, "get_sync_debug_mode": lambda: self._mode}

    def _set(self, debug_mode: int | str) -> None:
        known = _MODES if isinstance(debug_mode, str) else range(len(_MODES))
        if debug_mode not in known:
            raise RuntimeError(f"invalid value of debug_mode: {debug_mode!r}, expected one of default, warn, error")
        self._mode = _MODES.index(debug_mode) if isinstance(debug_mode, str) else debug_mode

    def remark(self, kind: Kind) -> None:
        """Warns, or raises RuntimeError, before a wait; torch does not look at explicit synchronization."""
        if self._mode and kind != "explicit_sync":
            if self._mode == _MODES.index("error"):
                raise RuntimeError(_MESSAGE)
            warnings.warn(_MESSAGE, UserWarning, stacklevel=3)
