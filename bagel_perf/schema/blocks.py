"""How the rounds of a comparison are shared out among worker processes."""

from __future__ import annotations

from itertools import pairwise

ROUNDS_PER_PROCESS = 2
"""On a GPU; they only sharpen what a process shows."""
FIRST_LOOK = 6
"""Processes after which ``--pairs auto`` first asks whether they are enough."""


def blocks(num_rounds: int, num_processes: int) -> tuple[tuple[int, int], ...]:
    """(first round, one past the last) of each process, in order; fewer processes where there are fewer rounds."""
    number = min(num_processes, num_rounds)
    ends = [num_rounds * index // number for index in range(number + 1)]
    return tuple(pairwise(ends))
