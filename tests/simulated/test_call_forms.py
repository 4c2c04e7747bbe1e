"""What waits does not depend on how a call is written: derived sequences, arrays of numpy's, arguments by name, and
0-d host tensors that stand for numbers. The numbers follow torch's sources."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from bagel_perf.records.sites import Kind
from bagel_perf.simulated.cuda import SimulatedCuda
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


@pytest.mark.parametrize(
    "expression",
    [
        "F.dropout(x, hf)",
        "x.topk(n)",
        "F.leaky_relu(x, hf)",
        "torch.full_like(x, hf)",
        "x.view(n * 4, 8)",
        "F.pad(x, (0, n))",
        "x.repeat(n, 1)",
        "x.split(n)",
        "x.normal_(0.0, hf)",
        "x.sum(n - 1)",
        "F.layer_norm(x, (8,), eps=hf)",
        "F.one_hot(v, n * 8)",
        "x.add_(x.clone(), alpha=hf)",
        "torch._foreach_add_([x], [x.clone()], alpha=hf)",
        "x.addcdiv_(x.clone(), x.clone(), value=-hf)",
        "o = torch.optim.Adam([x], lr=hf, foreach=False)\nx.grad = x.clone()\no.step()",
    ],
)
def test_a_number_in_host_memory_is_read_without_a_wait(expression: str) -> None:
    assert counted(expression) == (0, Counter())


def test_of_two_numbers_the_one_on_the_device_is_waited_for() -> None:
    assert counted("torch.narrow(x, 0, s, n)") == (1, Counter())


@pytest.mark.parametrize("read", ["x.item()", "float(x)", "bool(x)", "bytes(x)", "[1, 2][sf]", "x[0:0].sum(1).item()"])
def test_a_read_that_torch_refuses_does_not_wait(read: str) -> None:
    assert counted(f"import contextlib\nwith contextlib.suppress(Exception): {read}") == (0, Counter())


@pytest.mark.parametrize(
    "expression", ["3 % s", "1 << s", "1 & s", "7 | s", "torch.xlogy(2, x)", "torch.special.zeta(x + 2, 2)"]
)
def test_a_number_in_the_place_of_a_tensor_waits_as_little_as_the_tensor(expression: str) -> None:
    assert counted(expression) == (0, Counter())


@pytest.mark.parametrize(
    ("expression", "waits"),
    [
        ("host[hi] = sf", 1),
        ("host[0] = sf", 1),
        ("host.fill_(sf)", 1),
        ("assert not host.expand_as(torch.rand(2, 16, device=d)).is_cuda", 0),
        ("assert x.expand_as(torch.zeros(2, 8, 8)).is_cuda", 0),
        ("assert x[:2].view_as(host).is_cuda", 0),
        ("torch.result_type(x, host)", 0),
        ("assert x[:2].reshape_as(host).is_cuda", 0),
    ],
)
def test_host_tensors_take_values_and_shapes_from_the_device_as_on_cuda(expression: str, waits: int) -> None:
    assert counted(expression) == (waits, Counter())


def test_lengths_of_packed_sequences_belong_on_the_host() -> None:
    with SimulatedCuda():
        sequences, lengths = torch.rand(2, 4, 8, device="cuda"), torch.tensor([4, 2], device="cuda")
        with pytest.raises(RuntimeError, match="CPU int64 tensor"):
            nn.utils.rnn.pack_padded_sequence(sequences, lengths, batch_first=True)


@pytest.mark.parametrize(
    ("expression", "waits", "unjudged"),
    [
        ("x.to_sparse() @ x.to_sparse()", 2, ["matmul of a sparse tensor"]),
        ("x.to_sparse() + x.to_sparse()", 2, ["add of a sparse tensor"]),
        ("x.to_sparse() @ x", 1, []),
        ("x.to_sparse().size(0)", 1, []),
    ],
)
def test_what_was_not_measured_of_sparse_tensors_is_named(expression: str, waits: int, unjudged: list[str]) -> None:
    assert counted(expression) == (waits, Counter(unjudged))


@pytest.mark.parametrize("expression", ["x.apply_(lambda a: a)", "x.map_(x, lambda a, b: a)"])
def test_functions_of_host_tensors_are_refused_as_on_cuda(expression: str) -> None:
    with pytest.raises(TypeError, match="only implemented on CPU tensors"):
        counted(expression)


def test_forward_mode_differentiation_is_judged() -> None:
    assert counted("torch.func.jvp(lambda a: a * 2, (x,), (x,))") == (0, Counter())


@pytest.mark.parametrize(
    "made",
    [
        "zeros(s)",
        "ones(3, s)",
        "zeros(Pair(s, 2))",
        "empty(s, s)",
        "randn(s)",
        "rand((s, 2))",
        "arange(s)",
        "full((2,), sf)",
    ],
)
def test_a_size_on_the_device_does_not_put_the_result_there(made: str) -> None:
    waits = made.count("s)") + made.count("s,") + made.count("sf")
    assert counted(f"assert not torch.{made}.is_cuda")[1] == Counter()
    assert counted(f"assert torch.{made[:-1]}, device=d).is_cuda") == (waits, Counter())
