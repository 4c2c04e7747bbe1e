"""What waits does not depend on how a call is written: derived sequences, arrays of numpy's, arguments by name, and
0-d host tensors that stand for numbers. The numbers follow torch's sources."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from bagel_perf.harness.simulated.cuda import SimulatedCuda
from bagel_perf.schema.waits import Kind
from sync_expressions import evaluate, names

MODES = [torch.enable_grad, torch.no_grad, torch.inference_mode]


class Pair(NamedTuple):
    one: Any
    other: Any


class Sizes(list[Any]):
    """As configuration libraries have."""


def counted(expression: str) -> tuple[int, Counter[str]]:
    """Waits of an expression and what was not judged, the same in all modes."""
    found = [_counted(expression, mode) for mode in MODES]
    assert found[1:] == found[:-1]
    return found[0]


def _counted(expression: str, mode: Any) -> tuple[int, Counter[str]]:
    waits: list[Kind] = []
    with SimulatedCuda(waits.append) as device, mode():
        known = {**names("cuda"), "Pair": Pair, "Sizes": Sizes, "deque": deque, "np": np}
        known["n"], known["hf"] = torch.tensor(2), torch.tensor(0.5)
        waits.clear()
        evaluate(expression, known)
        return len(waits), Counter(device.unjudged)


@pytest.mark.parametrize(
    ("expression", "waits"),
    [
        ("torch.zeros(Pair(s, s), device=d)", 2),
        ("torch.zeros(Sizes([s, 3]), device=d)", 1),
        ("x.reshape(Pair(s, 32))", 1),
        ("x.new_zeros(Pair(s, 2))", 1),
        ("F.interpolate(img, size=Pair(s, s))", 2),
        ("F.pad(x, Pair(0, s))", 1),
        ("torch.tensor(Pair(s, s), device=d)", 3),
        ("torch.tensor(deque([s, 1]), device=d)", 2),
        ("torch.cat(Pair(x, x))", 0),
        ("torch.Tensor(s, 2)", 1),
        ("x.reshape(Pair(2, 32))", 0),
    ],
)
def test_sequences_of_derived_classes_wait_as_lists_do(expression: str, waits: int) -> None:
    assert counted(expression) == (waits, Counter())


@pytest.mark.parametrize(
    ("expression", "waits"),
    [
        ("x[np.array([0, 1])]", 1),
        ("x[:, np.array([0, 1])]", 1),
        ("x[np.array([True] * 8)]", 2),
        ("x[np.array([0, 1])] = 0.0", 2),
        ("x[np.ix_([0, 1], [0, 1])]", 2),
        ("x[np.array(1)]", 2),
        ("x[np.int64(1)]", 0),
        ("x[np.zeros(0, dtype=np.int64)]", 0),
    ],
)
def test_an_array_of_numpy_is_uploaded_where_it_is_an_index(expression: str, waits: int) -> None:
    assert counted(expression) == (waits, Counter())


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
@pytest.mark.parametrize(
    ("expression", "waits"),
    [("x[[ids, ids]]", 0), ("x[[m[:8]]]", 1), ("x[[s, 1]]", 1), ("x[[slice(0, 2), s]]", 1), ("x[[0, 1]]", 1)],
)
def test_a_list_that_holds_tensors_or_slices_is_an_index_of_several_dimensions(expression: str, waits: int) -> None:
    assert counted(expression) == (waits, Counter())


@pytest.mark.parametrize(
    ("expression", "waits"),
    [
        ("torch.where(condition=m)", 1),
        ("torch.where(condition=m[:8], input=x, other=torch.tensor(1.0))", 1),
        ("torch.is_nonzero(input=s)", 1),
        ("torch.prod(input=x)", 0),
        ("torch.index_put(input=x, indices=(ids,), values=sf)", 0),
    ],
)
def test_the_first_argument_may_be_given_by_name(expression: str, waits: int) -> None:
    assert counted(expression) == (waits, Counter())


@pytest.mark.parametrize(
    ("expression", "waits"),
    [
        ("torch.where(torch.tensor(True), x, x)", 1),
        ("torch.where(torch.tensor(True), x, 0.0)", 1),
        ("torch.where(torch.tensor(True), sf, torch.tensor(1.0))", 2),
    ],
)
def test_a_condition_on_the_host_is_uploaded(expression: str, waits: int) -> None:
    assert counted(expression) == (waits, Counter())
