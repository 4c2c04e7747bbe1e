"""What the sweeps over other people's models share: processes of their own, comparisons, and tables."""

from __future__ import annotations

import ast
import datetime
import importlib.metadata
import multiprocessing
import platform
import resource
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

TIMEOUT_S, MEMORY_BYTES = 120, 8 * 2**30


def isolated(task: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Result of a task in a forked process, which imports nothing anew; a sentence where it gave none."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, task, arguments))
    process.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(TIMEOUT_S) else f"took more than {TIMEOUT_S} s"
    except EOFError:
        process.join()
        return f"the process ended with exit code {process.exitcode}"
    finally:
        process.kill()
        process.join()


def _child(pipe: Any, task: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    torch.set_num_threads(1)
    pipe.send(task(*arguments))


def one_line(error: BaseException) -> str:
    """Type, message and place of an error."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]} ({Path(last.filename).name}:{last.lineno})"


def verdict(one: Any, other: Any) -> str:
    """Whether two tensors are the same to the bit; else by how much they differ."""
    if one is None or other is None:
        return "equal" if one is other else "missing"
    one, other = one.detach().cpu(), other.detach().cpu()
    if one.shape != other.shape or one.dtype != other.dtype:
        return "other shape or type"
    if torch.equal(one.nan_to_num(), other.nan_to_num()) and torch.equal(one.isnan(), other.isnan()):
        return "equal" if not one.isnan().any() else "equal, with nan"
    return f"differs by {(one.double() - other.double()).abs().max().item():.1e}"


def rows_of(kind: type, printed: Sequence[Path]) -> list[Any]:
    """Rows that a sweep has printed before, the last of each name and mode; so a sweep may be split, and resumed."""
    lines = [line for path in printed for line in path.read_text().splitlines() if line.startswith("{'name'")]
    rows = [kind(**ast.literal_eval(line)) for line in lines]
    return list({(row.name, getattr(row, "mode", "")): row for row in rows}.values())


def counted(syncs: dict[str, int]) -> str:
    """Numbers of waits by kind."""
    return ", ".join(f"{times} {kind}" for kind, times in sorted(syncs.items())) or "0"


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; bars inside cells become slashes."""
    lines = [f"| {' | '.join(headers)} |", f"|{'---|' * len(headers)}"]
    lines += [f"| {' | '.join(' '.join(cell.split()).replace('|', '/') for cell in row)} |" for row in rows]
    return "\n".join(lines)


def versions(*packages: str) -> str:
    """Date, Python and packages that a table holds for."""
    found = [f"{package} {importlib.metadata.version(package)}" for package in packages]
    return f"{datetime.date.today()}, Python {platform.python_version()}, {', '.join(found)}"
