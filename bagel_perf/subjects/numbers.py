"""Figures of large arrays, taken piece by piece so that no second copy of them is made."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK = 2**20

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What is true of all numbers of an array; ``spread`` is their standard deviation, None without any."""

    num_values: int
    spread: float | None
    is_flat: bool
    is_finite: bool


def numbers_of(values: Array, *, num_per_value: int = 1) -> Numbers:
    """Looks at all numbers of an array; with ``num_per_value`` it is flat where all such groups, as pixels, are equal.

    Two passes: the standard deviation is taken around the mean, as the difference of two large sums says nothing.
    """
    groups = values.reshape(-1, num_per_value)
    mean = _sum(values) / values.size if values.size else 0.0
    squares, is_finite, is_flat = 0.0, True, True
    with np.errstate(all="ignore"):
        for chunk in _chunks(values):
            is_finite = is_finite and bool(np.isfinite(chunk).all())
            squares += float(np.square(np.abs(_wide(chunk) - mean)).sum())
        for start in range(0, len(groups), CHUNK):
            is_flat = is_flat and bool((groups[start : start + CHUNK] == groups[0]).all())
    spread = math.sqrt(squares / values.size) if values.size else None
    return Numbers(num_values=len(groups), spread=spread, is_flat=is_flat, is_finite=is_finite)


def num_unlike(ours: Array, theirs: Array) -> int:
    """Counts the rows that are not the same; a NaN is like another one."""
    total = 0
    for start in range(0, len(ours), CHUNK):
        a, b = ours[start : start + CHUNK], theirs[start : start + CHUNK]
        unlike = (a != b) & ~((a != a) & (b != b))
        total += int((unlike if unlike.ndim == 1 else unlike.any(axis=-1)).sum())
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Sums of squares of the differences of two arrays and of the second, and the largest difference."""

    of_differences: float
    of_reference: float
    largest: float

    @property
    def rel_l2(self) -> float:
        """The norm of the differences as a share of the reference's; infinite where that is 0 or nothing is known."""
        if self.of_differences == 0:
            return 0.0
        share = math.sqrt(self.of_differences / self.of_reference) if self.of_reference > 0 else math.inf
        return math.inf if math.isnan(share) else share


def gap_of(ours: Array, theirs: Array) -> Gap:
    """Sets two arrays of one shape against each other; what is NaN or infinite in one of them is infinitely far."""
    of_differences = of_reference = largest = 0.0
    with np.errstate(all="ignore"):
        for a, b in zip(_chunks(ours), _chunks(theirs), strict=True):
            a, b = _wide(a), _wide(b)
            differences = np.abs(a - b)
            differences[(a == b) | ((a != a) & (b != b))] = 0.0
            differences[differences != differences] = math.inf
            of_differences += float(np.square(differences).sum())
            of_reference += float(np.square(np.abs(b)).sum())
            largest = max(largest, float(differences.max(initial=0.0)))
    return Gap(of_differences=of_differences, of_reference=of_reference, largest=largest)


def _chunks(values: Array) -> Iterator[Array]:
    flat = values.reshape(-1)
    for start in range(0, len(flat), CHUNK):
        yield flat[start : start + CHUNK]


def _wide(chunk: Array) -> Array:
    return chunk.astype(np.complex128 if chunk.dtype.kind == "c" else np.float64)


def _sum(values: Array) -> Any:
    with np.errstate(all="ignore"):
        return sum(_wide(chunk).sum() for chunk in _chunks(values))
