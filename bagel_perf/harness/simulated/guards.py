"""The device guard of CUDA, for torch's own code below Python.

Fake tensors, of which ``torch.export`` makes use, say "cuda" down to C++. Its autograd then asks CUDA's guard for the
current stream; a torch without CUDA has none, and a torch with CUDA fails to reach a GPU, both where C++ may not raise:
the process is aborted. While the device is open, the CPU's guard answers, which has no streams.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from bagel_perf.harness import torch_inner_names

_CPU, _CUDA = 0, 1


@contextmanager
def guarded_by_the_cpu() -> Iterator[bool]:
    """CUDA's guard is the CPU's until the end of the context; gives False where torch has no such table."""
    table = _table()
    if table is None or not table[_CPU]:
        yield False
        return
    before, table[_CUDA] = table[_CUDA], table[_CPU]
    try:
        yield True
    finally:
        table[_CUDA] = before


def _table() -> ctypes.Array[ctypes.c_void_p] | None:
    for library in Path(torch.__file__).parent.glob("lib/*c10.*"):
        try:
            return (ctypes.c_void_p * 2).in_dll(ctypes.CDLL(str(library)), torch_inner_names.C10_GUARDS)
        except (OSError, ValueError):
            continue
    return None
