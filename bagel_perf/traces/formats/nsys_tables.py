"""An Nsight Systems export as a database: tables that may be missing, columns that came and went, names by number.

Places in the program come from the stacks that nsys keeps with ``--cudabacktrace`` and ``--python-backtrace=cuda``.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from bagel_perf.records.errors import UsageError
from bagel_perf.traces.tables import NONE, CallSite, Ints, Numbering

ROWS_AT_A_TIME = 1 << 16


class Export:
    """A read-only connection with what its schema has."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1", uri=True)
        # Names of kernels are text of any encoding.
        self._connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        names = self._connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
        self.tables = {str(name) for (name,) in names}

    def __enter__(self) -> Export:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def columns(self, table: str) -> set[str]:
        """The columns of a table, none if it is missing."""
        if table not in self.tables:
            return set()
        return {str(row[1]) for row in self._connection.execute(f'PRAGMA table_info("{table}")')}

    def integers(self, table: str, columns: Sequence[str], where: str = "1") -> Iterator[dict[str, Ints]]:
        """Rows of integer columns, many at a time; NONE stands for NULL and for columns that the table lacks."""
        has = self.columns(table) | {"rowid"}
        if table not in self.tables:
            return
        if missing := {"start", "end"} & set(columns) - has:
            raise _no_numbers(table, f"column {min(missing)} is missing")
        chosen = ", ".join(f'COALESCE("{name}", {NONE})' if name in has else str(NONE) for name in columns)
        cursor = self._connection.execute(f'SELECT {chosen} FROM "{table}" WHERE {where}')
        while rows := cursor.fetchmany(ROWS_AT_A_TIME):
            try:
                values = np.array(rows, np.int64)
            except (ValueError, TypeError, OverflowError) as problem:
                raise _no_numbers(table, "its columns hold whole numbers of 64 bits") from problem
            yield {name: values[:, i] for i, name in enumerate(columns)}

    def texts(self, table: str, key: str, *columns: str) -> dict[int, str]:
        """Texts by number: the columns of each row, as far as the table has them, with blanks between."""
        has = self.columns(table)
        chosen = [name for name in columns if name in has]
        if key not in has or not chosen:
            return {}
        joined = " || ' ' || ".join(f"COALESCE(\"{name}\", '')" for name in chosen)
        query = f'SELECT "{key}", {joined} FROM "{table}" WHERE typeof("{key}") = \'integer\''
        return {int(k): str(v) for k, v in self._connection.execute(query)}

    def pairs(self, table: str, key: str, value: str) -> dict[str, str]:
        """Two text columns as a mapping."""
        if not {key, value} <= self.columns(table):
            return {}
        return {str(k): str(v) for k, v in self._connection.execute(f'SELECT "{key}", "{value}" FROM "{table}"')}

    def strings(self, table: str, column: str) -> dict[int, str]:
        """The values of a text column by row number, where there is one."""
        if column not in self.columns(table):
            return {}
        query = f'SELECT rowid, "{column}" FROM "{table}" WHERE "{column}" IS NOT NULL'
        return {int(k): str(v) for k, v in self._connection.execute(query)}


def _no_numbers(table: str, allowed: str) -> UsageError:
    what = "table of the trace holds no numbers"
    return UsageError(what, value=table, allowed=allowed, remedy="export the trace again")


def numbers_named(enumeration: Mapping[int, str], words: Sequence[str], fallback: int) -> set[int]:
    """The numbers whose name or label holds one of the words; ``fallback`` where the export has no enumeration."""
    if not enumeration:
        return {fallback}
    texts = {number: re.sub(r"[-\s]+", "_", text.upper()) for number, text in enumeration.items()}
    return {number for number, text in texts.items() if any(word in text for word in words)}


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
