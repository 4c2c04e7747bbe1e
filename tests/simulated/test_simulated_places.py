"""What a call gives is where CUDA would put it: made of device tensors on the device, of host tensors on the host."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import default_collate

from bagel_perf.records.sites import Kind
from bagel_perf.simulated import SimulatedCuda

CUDA = torch.device("cuda", 0)


@pytest.fixture
def waits() -> list[Kind]:
    return []


@pytest.fixture
def device(waits: list[Kind]) -> Iterator[SimulatedCuda]:
    with SimulatedCuda(waits.append) as device:
        yield device


MADE_OF_TENSORS: dict[str, Callable[[Tensor, Tensor, Tensor], Any]] = {
    # v: floats [4], x: floats [4, 4], n: integers [4]
    "meshgrid of a list": lambda v, x, n: torch.meshgrid([v, v], indexing="ij"),
    "meshgrid": lambda v, x, n: torch.meshgrid(v, v, indexing="xy"),
    "meshgrid by another name": lambda v, x, n: torch.functional.meshgrid([v, v, v], indexing="ij"),
    "cartesian_prod": lambda v, x, n: torch.cartesian_prod(v, v),
    "cartesian_prod of one": lambda v, x, n: torch.cartesian_prod(v),
    "combinations": lambda v, x, n: torch.combinations(v),
    "broadcast_tensors": lambda v, x, n: torch.broadcast_tensors(v, x),
    "broadcast_tensors of a list": lambda v, x, n: torch.broadcast_tensors(*[v, x]),
    "block_diag": lambda v, x, n: torch.block_diag(x, x),
    "block_diag of mixed shapes": lambda v, x, n: torch.block_diag(v, x, v[0]),
    "einsum": lambda v, x, n: torch.einsum("ij,j->i", x, v),
    "einsum of a list": lambda v, x, n: torch.einsum("ij,j->i", [x, v]),
    "einsum of sublists": lambda v, x, n: torch.einsum(x, [0, 1], v, [1], [0]),
    "tensordot": lambda v, x, n: torch.tensordot(x, x, dims=([1], [0])),
    "chain_matmul": lambda v, x, n: torch.linalg.multi_dot([x, x, v]),
    "cdist": lambda v, x, n: torch.cdist(x, x),
    "atleast_1d of a list": lambda v, x, n: torch.atleast_1d([v[0], x]),
    "atleast_2d": lambda v, x, n: torch.atleast_2d(v, x),
    "atleast_3d of a tuple": lambda v, x, n: torch.atleast_3d((v, x)),
    "stack": lambda v, x, n: torch.stack([v, v]),
    "stack of scalars": lambda v, x, n: torch.stack([v[0], v[1]]),
    "stack into out": lambda v, x, n: torch.stack([v, v], out=torch.empty_like(x[:2])),
    "cat into out": lambda v, x, n: torch.cat((x, x), out=x.new_empty((8, 4))),
    "hstack": lambda v, x, n: torch.hstack((v, v)),
    "vstack": lambda v, x, n: torch.vstack([v, x]),
    "dstack": lambda v, x, n: torch.dstack([v, v]),
    "column_stack": lambda v, x, n: torch.column_stack((v, x)),
    "tensor_split": lambda v, x, n: torch.tensor_split(v, 3),
    "tensor_split at indices": lambda v, x, n: torch.tensor_split(x, (1, 2), dim=1),
    "split": lambda v, x, n: torch.split(x, [1, 3]),
    "Tensor.split": lambda v, x, n: x.split(2, dim=1),
    "hsplit": lambda v, x, n: torch.hsplit(x, 2),
    "unbind": lambda v, x, n: torch.unbind(x),
    "chunk": lambda v, x, n: x.chunk(2, -1),
    "unsafe_chunk": lambda v, x, n: torch.unsafe_chunk(x, 2),
    "broadcast_to": lambda v, x, n: torch.broadcast_to(v, (3, 4)),
    "pad_sequence": lambda v, x, n: nn.utils.rnn.pad_sequence([v, v[:2]], batch_first=True),
    "unpad_sequence": lambda v, x, n: nn.utils.rnn.unpad_sequence(x, torch.tensor([1, 2, 3, 4])),
    "parameters_to_vector": lambda v, x, n: nn.utils.parameters_to_vector([v, x]),
    "default_collate": lambda v, x, n: default_collate([v, v]),
    "default_collate of dictionaries": lambda v, x, n: default_collate([{"a": v}, {"a": v}])["a"],
    "index_select": lambda v, x, n: torch.index_select(x, 0, n),
    "take_along_dim": lambda v, x, n: torch.take_along_dim(v, n),
    "gather": lambda v, x, n: torch.gather(v, 0, n),
    "index_put of a list": lambda v, x, n: torch.index_put(v, [n], v),
    "scatter": lambda v, x, n: torch.scatter(v, 0, n, v),
    "bucketize": lambda v, x, n: torch.bucketize(v, v),
    "histogram": lambda v, x, n: torch.histc(v, 4, 0, 4),
    "result of max": lambda v, x, n: torch.max(x, dim=0),
    "sort": lambda v, x, n: torch.sort(v),
    "topk": lambda v, x, n: torch.topk(v, 2),
    "kthvalue": lambda v, x, n: torch.kthvalue(v, 2),
    "unique with counts": lambda v, x, n: torch.unique(v, return_counts=True),
    "svd": lambda v, x, n: torch.linalg.svd(x),
    "qr": lambda v, x, n: torch.linalg.qr(x),
    "lobpcg's kin": lambda v, x, n: torch.linalg.slogdet(x),
    "fft": lambda v, x, n: torch.fft.fftshift(torch.fft.fft(v)),
    "stft": lambda v, x, n: torch.stft(v.repeat(4), 4, window=torch.ones_like(v), return_complex=True),
    "vander": lambda v, x, n: torch.vander(v, 3),
    "diag_embed": lambda v, x, n: torch.diag_embed(v),
    "block of new_ones": lambda v, x, n: [v.new_ones(2), v.new_full((2,), 1.0), v.new_empty(2), v.new_zeros((2, 2))],
    "new_tensor": lambda v, x, n: v.new_tensor([1.0, 2.0]),
    "Tensor.new": lambda v, x, n: v.new(2, 3),
    "new of data": lambda v, x, n: v.new([1.0, 2.0]),
    "new_empty_strided": lambda v, x, n: v.new_empty_strided((2, 2), (2, 1)),
    "like": lambda v, x, n: [torch.zeros_like(v), torch.full_like(v, 2), torch.rand_like(v), torch.randint_like(n, 3)],
    "where": lambda v, x, n: torch.where(v > 0, v, v),
    "where of a number": lambda v, x, n: torch.where(v > 0, v, 0.0),
    "type_as": lambda v, x, n: n.type_as(v),
    "conversion by type": lambda v, x, n: v.type(torch.float64),
    "asarray": lambda v, x, n: torch.asarray(v),
    "as_tensor": lambda v, x, n: torch.as_tensor(v),
    "ones of its device": lambda v, x, n: torch.ones(2, device=v.device),
    "arange of its device": lambda v, x, n: torch.arange(3, device=v.device),
    "out of arange": lambda v, x, n: torch.arange(4, out=torch.empty_like(v)),
    "out of add": lambda v, x, n: torch.add(v, v, out=torch.empty_like(v)),
    "out of randn": lambda v, x, n: torch.randn(4, out=torch.empty_like(v)),
    "out of sort": lambda v, x, n: torch.sort(v, out=(torch.empty_like(v), torch.empty_like(n))),
    "foreach": lambda v, x, n: torch._foreach_add([v, v], 1.0),
    "foreach norm": lambda v, x, n: torch._foreach_norm([v, x]),
    "vmap": lambda v, x, n: torch.func.vmap(torch.sin)(x),
    "functional linear": lambda v, x, n: F.linear(v, x, v),
    "embedding": lambda v, x, n: F.embedding(n, x),
    "embedding_bag": lambda v, x, n: F.embedding_bag(n.view(2, 2), x),
    "max_pool2d with indices": lambda v, x, n: F.max_pool2d(x[None, None], 2, return_indices=True),
    "grid_sample": lambda v, x, n: F.grid_sample(x[None, None], torch.zeros(1, 2, 2, 2, device=x.device)),
    "affine_grid": lambda v, x, n: F.affine_grid(torch.ones(1, 2, 3, device=x.device), [1, 1, 2, 2]),
    "multi-head attention": lambda v, x, n: nn.MultiheadAttention(4, 2).to(x.device)(x, x, x),
    "real and imaginary": lambda v, x, n: [torch.complex(v, v).real, torch.view_as_real(torch.polar(v, v))],
    "gradient": lambda v, x, n: torch.gradient(v),
    "cov": lambda v, x, n: [torch.cov(x), torch.corrcoef(x)],
    "cummax": lambda v, x, n: torch.cummax(v, 0),
    "Tensor.unfold": lambda v, x, n: v.unfold(0, 2, 1),
    "deepcopy by clone": lambda v, x, n: [v.clone(), v.detach(), v.data, v.T, x.mT, x.H],
    "slices": lambda v, x, n: [v[1:], x[:, 0], x[..., None], v[n], x[n, n], list(v)],
    "swapaxes": lambda v, x, n: [x.swapaxes(0, 1), x.moveaxis(0, 1), x.rot90(), x.flip(0), x.roll(1)],
    "lu": lambda v, x, n: torch.lu_unpack(*torch.linalg.lu_factor(x)),
}


@pytest.mark.parametrize("place", ["cpu", "cuda"])
def test_results_are_where_the_tensors_are(place: str, device: SimulatedCuda) -> None:
    elsewhere = {}
    for name, make in MADE_OF_TENSORS.items():
        vector = torch.arange(4.0, device=place) + 1
        matrix = torch.eye(4, device=place) + vector
        found = outcome(lambda: places_of(make(vector, matrix, torch.arange(4, device=place))))  # noqa: B023
        if found != {place}:
            elsewhere[name] = found
    assert elsewhere == {}


def outcome(run: Callable[[], object]) -> object:
    """What a call gives, or its error as text."""
    try:
        return run()
    except Exception as problem:
        return f"{type(problem).__name__}: {problem}"


def places_of(value: Any) -> set[str]:
    return {tensor.device.type for tensor in tensors_in(value)}


def tensors_in(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for item in value for tensor in tensors_in(item)]


MADE_ANYWHERE: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "new_zeros": lambda t, d: t.new_zeros((2, 2), device=d),
    "new_ones": lambda t, d: t.new_ones(2, device=d),
    "new_full": lambda t, d: t.new_full((2,), 3.0, device=d),
    "new_empty": lambda t, d: t.new_empty((2,), device=d),
    "new_empty_strided": lambda t, d: t.new_empty_strided((2,), (1,), device=d),
    "new_tensor": lambda t, d: t.new_tensor([1.0], device=d),
    "zeros_like": lambda t, d: torch.zeros_like(t, device=d),
    "empty_like": lambda t, d: torch.empty_like(t, device=d),
    "rand_like": lambda t, d: torch.rand_like(t, device=d),
    "full_like": lambda t, d: torch.full_like(t, 2.0, device=d),
    "to": lambda t, d: t.to(d),
    "to by name": lambda t, d: t.to(device=d),
    "to with a type": lambda t, d: t.to(d, torch.float64),
    "to by name with a type": lambda t, d: t.to(dtype=torch.float64, device=d, non_blocking=True),
    "ones": lambda t, d: torch.ones(2, device=d),
    "arange": lambda t, d: torch.arange(0, 4, device=d),
    "tensor": lambda t, d: torch.tensor([1, 2], device=d),
    "as_tensor": lambda t, d: torch.as_tensor([1, 2], device=d),
    "asarray": lambda t, d: torch.asarray([1, 2], device=d),
    "asarray of a tensor": lambda t, d: torch.asarray(t, device=d),
    "randn": lambda t, d: torch.randn(2, device=d),
    "randperm": lambda t, d: torch.randperm(4, device=d),
    "linspace": lambda t, d: torch.linspace(0, 1, 3, device=d),
    "eye": lambda t, d: torch.eye(2, device=d),
    "tril_indices": lambda t, d: torch.tril_indices(3, 3, device=d),
    "hann_window": lambda t, d: torch.hann_window(4, device=d),
    "normal": lambda t, d: torch.normal(0.0, 1.0, (2,), device=d),
    "empty_strided": lambda t, d: torch.empty_strided((2,), (1,), device=d),
    "fftfreq": lambda t, d: torch.fft.fftfreq(4, device=d),
    "vander's kin": lambda t, d: torch.logspace(0, 1, 3, device=d),
    "Linear": lambda t, d: nn.Linear(2, 2, device=d).weight,
    "Module.to": lambda t, d: nn.Linear(2, 2).to(d).weight,
    "Module.to by name": lambda t, d: nn.Linear(2, 2).to(device=d).weight,
    "Module.to_empty": lambda t, d: nn.Linear(2, 2).to_empty(device=d).weight,
    "Module.to_empty of meta": lambda t, d: nn.Linear(2, 2, device="meta").to_empty(device=d).weight,
    "Parameter": lambda t, d: nn.Parameter(torch.ones(2, device=d)),
    "context": lambda t, d: in_context(d),
    "default device": lambda t, d: with_default(d),
}


@pytest.mark.parametrize("where", ["cuda", "cuda:0", 0, CUDA, torch.device("cuda"), "cpu", torch.device("cpu"), "meta"])
def test_a_named_device_wins(where: Any, device: SimulatedCuda) -> None:
    wanted, elsewhere = torch.device(where).type, {}
    for start, (name, make) in product(["cpu", "cuda"], MADE_ANYWHERE.items()):
        given = torch.ones(2, device=start)
        found = outcome(lambda: place_of(make(given, where)))  # noqa: B023
        if found != (wanted, wanted == "cuda", wanted == "cuda"):
            elsewhere[name, start] = found
    assert elsewhere == {}


def place_of(tensor: Tensor) -> tuple[str, bool, bool]:
    return tensor.device.type, tensor.is_cuda, tensor.device == CUDA


def in_context(where: Any) -> Tensor:
    with torch.device(where):
        return torch.stack([torch.zeros(2), torch.full((2,), 1.0)])


def with_default(where: Any) -> Tensor:
    torch.set_default_device(where)
    try:
        assert torch.get_default_device().type == torch.device(where).type
        return torch.cat([torch.rand(2), torch.tensor([1.0])])
    finally:
        torch.set_default_device(None)


def test_a_host_tensor_of_the_type_of_a_device_tensor_is_uploaded(waits: list[Kind], device: SimulatedCuda) -> None:
    made = torch.zeros(2).type_as(torch.ones(3, device="cuda", dtype=torch.float64))
    assert made.is_cuda and made.dtype == torch.float64 and waits == ["pageable_upload"]
    assert made.type_as(torch.ones(1)).device.type == "cpu" and waits == ["pageable_upload", "d2h_copy"]


def test_a_host_tensor_shaped_by_device_scalars_stays_on_the_host(waits: list[Kind], device: SimulatedCuda) -> None:
    host = torch.ones(4, 4)
    size: Any = torch.tensor(2).to("cuda")
    waits.clear()
    made = [
        host.narrow(0, 0, size),
        host.repeat(size, 1),
        F.pad(host, (0, size)),
        host.new_zeros((size, 2)),
        host[:size],
    ]
    assert {tensor.device.type for tensor in made} == {"cpu"} and len(waits) == 5


def test_results_beside_a_default_device_are_where_their_tensors_are(device: SimulatedCuda) -> None:
    host = torch.ones(2)
    with torch.device("cuda"):
        made = [torch.zeros_like(host), host.new_ones(2), torch.stack([host, host]), host + 1, torch.asarray(host)]
    assert [tensor.device.type for tensor in made] == ["cpu"] * 4 + ["cuda"]


def test_an_out_argument_on_the_other_side_is_refused(device: SimulatedCuda) -> None:
    vector, host = torch.ones(2, device="cuda"), torch.ones(2)
    runs: list[Callable[[], Tensor]] = [
        lambda: torch.add(vector, vector, out=host),
        lambda: torch.stack([host, host], out=vector.new_empty(2, 2)),
    ]
    for run in runs:
        with pytest.raises(RuntimeError, match="same device"):
            run()


def test_tensors_of_both_sides_in_a_list_are_refused(device: SimulatedCuda) -> None:
    for both in ([torch.ones(2), torch.ones(2, device="cuda")], [torch.ones(2, device="cuda"), torch.ones(2)]):
        with pytest.raises(RuntimeError, match="same device"):
            torch.meshgrid(both, indexing="ij")
        with pytest.raises(RuntimeError, match="same device"):
            torch.stack(both)


@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr"])
def test_a_sparse_tensor_crosses_unjudged(layout: str, waits: list[Kind], device: SimulatedCuda) -> None:
    sparse = getattr(torch.eye(3), layout)()
    moved = sparse.to("cuda")
    assert moved.is_cuda and torch.equal(moved.to("cpu", non_blocking=True).to_dense(), torch.eye(3))
    assert not waits and sum(device.unjudged.values()) == 2


def test_nested_tensors_of_device_tensors_are_on_the_device(device: SimulatedCuda) -> None:
    parts, bounds = [torch.ones(2, device="cuda"), torch.ones(1, device="cuda")], torch.tensor([0, 2], device="cuda")
    made: list[Callable[[], Tensor]] = [
        lambda: torch.nested.as_nested_tensor(parts),
        lambda: torch.nested.nested_tensor(parts),
        lambda: torch.nested.as_nested_tensor(parts, layout=torch.jagged),
        lambda: torch.nested.nested_tensor_from_jagged(parts[0], bounds),
    ]
    for make in made:
        assert make().is_cuda
    assert not torch.nested.nested_tensor([torch.ones(2)]).is_cuda


def test_what_was_measured_of_a_nested_tensor_is_counted_and_all_else_is_named() -> None:
    waits: list[Kind] = []
    with SimulatedCuda(waits.append) as device:
        f = torch.rand(4, device="cuda")
        ragged = torch.nested.nested_tensor([f, f[:3]])
        assert [part.is_cuda for part in ragged.unbind()] == [True, True] and not device.unjudged
        assert ragged.to_padded_tensor(0.0).is_cuda and waits == ["pageable_upload"] and not device.unjudged
        doubled = ragged * 2
        assert doubled.is_cuda and list(device.unjudged) == ["mul of a nested tensor"]
        assert not doubled.cpu().is_cuda and "cpu of a nested tensor" in device.unjudged


def test_a_number_is_a_device(device: SimulatedCuda) -> None:
    assert torch.device(0) == CUDA and torch.device(device=0) == CUDA and torch.device("cuda", 0) == CUDA
    number: Any = np.int64(0)
    assert torch.device(number) == CUDA
    assert torch.Generator(0).device == CUDA and torch.Generator(device=torch.device(0)).device == CUDA
    assert torch.ones(2).cuda(0).get_device() == 0
    with pytest.raises(RuntimeError, match="invalid device ordinal 1"):
        torch.ones(2, device=1)


def test_the_type_of_devices_is_what_it_was(device: SimulatedCuda) -> None:
    native = type(torch.ones(1).device)
    made: Any = torch.device("cuda:0")
    assert type(made) is native and isinstance(made, torch.device) and not isinstance("cuda", torch.device)
    assert issubclass(native, torch.device) and native == torch.device and {native: 1}[torch.device] == 1
    assert pickle.loads(pickle.dumps(made)) == made
    annotation: Any = torch.device | str | None
    assert isinstance(made, annotation)
