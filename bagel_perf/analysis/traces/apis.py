"""What the calls of the CUDA and HIP runtime and driver do to the host, by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum

import numpy as np

from bagel_perf.analysis.traces.table import Ints


class Api(IntEnum):
    """Groups of calls. The first four hold the calling thread until device work is done."""

    WAIT_DEVICE = 0
    WAIT_STREAM = 1
    WAIT_EVENT = 2
    WAIT_COPY = 3
    COPY_ASYNC = 4
    LAUNCH = 5
    GRAPH_LAUNCH = 6
    ALLOCATOR = 7
    OTHER = 8


WAITS = (Api.WAIT_DEVICE, Api.WAIT_STREAM, Api.WAIT_EVENT, Api.WAIT_COPY)

_VERSION = re.compile(r"(_v\d+|_ptsz|_ptds|_spt)+$")
_RULES: tuple[tuple[Api, re.Pattern[str]], ...] = (
    (Api.WAIT_DEVICE, re.compile(r"(cuda|hip)(Device|Thread)Synchronize|(cu|hip)CtxSynchronize")),
    (Api.WAIT_STREAM, re.compile(r"(cuda|hip|cu)StreamSynchronize")),
    (Api.WAIT_EVENT, re.compile(r"(cuda|hip|cu)EventSynchronize")),
    (Api.COPY_ASYNC, re.compile(r"(cuda|hip|cu)Memcpy\w*Async")),
    (Api.WAIT_COPY, re.compile(r"(cuda|hip|cu)Memcpy\w*")),
    (Api.GRAPH_LAUNCH, re.compile(r"(cuda|hip|cu)GraphLaunch")),
    (Api.LAUNCH, re.compile(r"(cuda|cu)Launch(?!Host)\w*|hip(Ext|Drv|Hcc)?(Module)?Launch(?!Host)\w*")),
    (
        Api.ALLOCATOR,
        re.compile(
            r"(?!\w*Async)((cuda|hip)(ExtMalloc|Malloc|Free|Host(Alloc|Malloc|Free|Register|Unregister))\w*"
            r"|(cu|hip)Mem(Alloc|Free|Host|Create|Release|Map|Unmap|SetAccess|AddressReserve|AddressFree)\w*)"
        ),
    ),
)


def plain_name(name: str) -> str:
    """The name of a call without the version that Nsight Systems and the driver append."""
    return _VERSION.sub("", name)


def api_of(name: str) -> Api:
    """The group of a call."""
    plain = plain_name(name)
    return next((api for api, pattern in _RULES if pattern.fullmatch(plain)), Api.OTHER)


def apis_of(name: Ints, names: Sequence[str]) -> Ints:
    """The group of each call of a table, whose ``name`` are numbers into ``names``."""
    groups = np.full(len(names), Api.OTHER, np.int64)
    for each in np.flatnonzero(np.bincount(name, minlength=len(names))):
        groups[each] = api_of(names[int(each)])
    return groups[name]
