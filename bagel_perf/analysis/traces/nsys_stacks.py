"""Places in the program from the stacks that nsys keeps with ``--cudabacktrace`` and ``--python-backtrace=cuda``."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bagel_perf.analysis.traces.columns import Numbering
from bagel_perf.analysis.traces.nsys_tables import Export
from bagel_perf.analysis.traces.table import CallSite

_PYTHON = re.compile(r"(?P<file>[^\s:()]+\.py)(?:[:(](?P<line>\d+)\)?)?")
_LIBRARY = re.compile(
    r"(lib(cuda|cudart|cupti|torch|c10|nccl|cublas|cudnn|nv|c\.|m\.|pthread|stdc|gcc|python)|nsys|ToolsInjection|ld-linux"
    r"|site-packages/(torch|triton|nvidia)/|python3?(\.\d+)?$)"
)


def call_sites(export: Export, strings: Mapping[int, str]) -> tuple[dict[int, int], tuple[CallSite, ...]]:
    """For each stack the number of the place it comes from, and the places: its innermost frame of the program.

    A frame of Python is preferred; libraries of CUDA, PyTorch and the system are no places.
    """
    best: dict[int, tuple[bool, int, CallSite]] = {}
    if not {"id", "symbol", "stackDepth"} <= export.columns("CUDA_CALLCHAINS"):
        return {}, ()
    for columns in export.integers("CUDA_CALLCHAINS", ("id", "symbol", "module", "stackDepth")):
        for chain, symbol, module, depth in zip(*(column.tolist() for column in columns.values()), strict=True):
            place = _place(strings.get(symbol, "").strip(), strings.get(module, "").strip())
            if place is not None:
                rank = (not place.file.endswith(".py"), depth)
                if chain not in best or rank < best[chain][:2]:
                    best[chain] = (*rank, place)
    numbers: Numbering[CallSite] = Numbering()
    return {chain: numbers[place] for chain, (_, _, place) in best.items()}, tuple(numbers)


def _place(symbol: str, module: str) -> CallSite | None:
    """The place that a frame names, None for libraries."""
    if not symbol or _LIBRARY.search(module) or _LIBRARY.search(symbol):
        return None
    python = _PYTHON.search(symbol) or _PYTHON.search(module)
    if python is None:
        return CallSite(file=module.rsplit("/", 1)[-1], line=0, function=symbol)
    function = symbol.replace(python.group(), "").strip(" :()") or "<module>"
    return CallSite(file=python["file"], line=int(python["line"] or 0), function=function)
