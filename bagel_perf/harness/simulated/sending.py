"""Refuses to send a device tensor to another process: CUDA shares its memory there, this device has none to share."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from multiprocessing import queues
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

import numpy as np

from bagel_perf.harness.simulated.patches import Patches
from bagel_perf.harness.simulated.refusals import NotSimulated
from bagel_perf.harness.simulated.storages import SimulatedStorage
from bagel_perf.harness.simulated.tensor import SimulatedTensor

if TYPE_CHECKING:
    from bagel_perf.harness.simulated.device import SimulatedDevice

_STUB = (int, ())
_unheard: Any = vars(queues.Queue)["_on_queue_feeder_error"].__func__
"""Prints what the thread of a queue could not send, and nobody hears of it."""


def patch_sending(patches: Patches, device: SimulatedDevice) -> None:
    """Has the pickler of ``multiprocessing`` refuse, and queues as soon as something is put: their thread is deaf."""
    patches.add(ForkingPickler, "reducer_override", _refuse)
    for kind in (queues.Queue, queues.JoinableQueue):
        patches.add(kind, "put", _checking(device, kind.put))


def _refuse(pickler: Any, value: Any) -> Any:
    if isinstance(value, (SimulatedTensor, SimulatedStorage)):
        reason = "CUDA would share its memory; send a copy on the host, as tensor.cpu()"
        raise NotSimulated("a device tensor sent to another process", reason)
    return NotImplemented


def _checking(device: SimulatedDevice, put: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(put)
    def checked(queue: Any, obj: Any, *args: Any, **kwargs: Any) -> None:
        kind: Any = type(queue)
        if device.was_used and kind._on_queue_feeder_error is _unheard:  # that of an executor tells who waits for it
            _check(obj)
        put(queue, obj, *args, **kwargs)

    return checked


def _check(value: Any) -> None:
    """Raises NotSimulated for a value that holds a device tensor; any other trouble is left to who sends it."""
    try:
        _Probe(_Nowhere(), protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    except NotSimulated:
        raise
    except Exception:
        return


class _Nowhere:
    def write(self, data: Any) -> int:
        return len(data)


class _Probe(pickle.Pickler):
    """Goes through a value as a pickler would, past what shares memory or files with another process."""

    def reducer_override(self, value: Any) -> Any:
        shared = getattr(ForkingPickler, "_extra_reducers", {})
        found = _refuse(self, value)
        return _STUB if type(value) in shared or isinstance(value, np.ndarray) else found
