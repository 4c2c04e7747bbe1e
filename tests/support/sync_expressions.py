"""A second catalogue of expressions, with operands of its own: device scalars in the place of numbers, backward passes,
storages, sizes of matrices, Python's own functions.

``tests/data/sync_expressions.json`` says how often each waited on a GPU, under autograd and under
``torch.inference_mode`` alike. ``tests/benchmarks/operator_waits.py`` measures them.
"""

from __future__ import annotations

import copy
import io
import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_DATA = json.loads((Path(__file__).parents[1] / "data" / "sync_expressions.json").read_text(encoding="utf-8"))


REMOVED = ("torch.cholesky(",)
"""Functions that newer releases of torch no longer have; from 2.14 on."""


def _is_there(expression: str) -> bool:
    gone = [name for name in REMOVED if not hasattr(torch.ops.aten, name.removeprefix("torch.").rstrip("("))]
    return not any(name in expression for name in gone)


EXPRESSIONS: list[tuple[str, int]] = [
    (row["expression"], row["waits"]) for row in _DATA["expressions"] if _is_there(row["expression"])
]
LIBRARY_WAITS: set[str] = {row["expression"] for row in _DATA["expressions"] if "library" in row}
"""CUPTI saw more waits than the callbacks: a library waits inside, and how often is its own affair."""


def names(d: str) -> dict[str, Any]:
    """What an expression may name; fresh tensors, whose making waits."""
    torch.manual_seed(0)
    tensors = {
        "x": torch.rand(8, 8).to(d),
        "v": torch.arange(16).to(d),
        "f": torch.rand(16).to(d),
        "m": (torch.arange(16) % 3 == 0).to(d),
        "s": torch.tensor(2).to(d),
        "sf": torch.tensor(0.5).to(d),
        "s1": torch.tensor(3.0).to(d),
        "host": torch.rand(16),
        "hi": torch.tensor([1, 2, 3]),
        "hm": torch.zeros(8, dtype=torch.bool),
        "big": torch.arange(4000).to(d),
        "order": torch.randperm(16).to(d),
        "x16": torch.rand(16, 16).to(torch.bfloat16).to(d),
        "lens": torch.tensor([2, 1, 3]).to(d),
        "ids": torch.tensor([1, 3]).to(d),
        "b": torch.rand(2, 4, 4).to(d),
        "b2": torch.rand(2, 4, 8).to(d),
        "img": torch.rand(1, 3, 8, 8).to(d),
    }
    storages = {
        "st": torch.ones(16).to(d).untyped_storage(),
        "hst": torch.ones(16).untyped_storage(),
        "ts": torch.ones(16).to(d).storage(),
        "hts": torch.ones(16).storage(),
    }
    modules = {"torch": torch, "F": F, "nn": nn, "io": io, "pickle": pickle, "copy": copy, "math": math, "np": np}
    return {**modules, **tensors, **storages, **_FUNCTIONS, "d": d}


def evaluate(expression: str, known: dict[str, Any]) -> None:
    """Runs an expression or a statement."""
    try:
        code = compile(expression, expression, "eval")
    except SyntaxError:
        code = compile(expression, expression, "exec")
    eval(code, known)


def _saved(tensor: Tensor) -> bytes:
    torch.save(tensor, file := io.BytesIO())
    return file.getvalue()


def _saved_old(tensor: Tensor) -> bytes:
    torch.save(tensor, file := io.BytesIO(), _use_new_zipfile_serialization=False)
    return file.getvalue()


def if_(condition: Tensor) -> int:
    return 1 if condition else 0


def for_(lengths: Tensor) -> list[int]:
    return [1 for length in lengths if length]


def while_(limit: Tensor) -> int:
    i = 0
    while i < limit:
        i += 1
    return i


def and_(mask: Tensor, limit: Tensor) -> int:
    return 1 if mask.any() and limit > 1 else 0


def or_(mask: Tensor, limit: Tensor) -> int:
    return 1 if mask.all() or limit > 1 else 0


def recorded() -> torch.cuda.Event:
    event = torch.cuda.Event()
    event.record()
    return event


def timed() -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


_FUNCTIONS: dict[str, Any] = {
    each.__name__: each for each in (_saved, _saved_old, if_, for_, while_, and_, or_, recorded, timed)
}
