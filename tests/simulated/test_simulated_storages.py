"""Below tensors: storages, files and pickles wait as torch's sources say, and as was measured."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bagel_perf.records.sites import Kind
from bagel_perf.simulated import SimulatedCuda

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")

TORCH: Any = torch
NUM_BYTES, NUM_ELEMENTS = 32, 8


@pytest.fixture
def waits() -> list[Kind]:
    return []


@pytest.fixture
def device(waits: list[Kind]) -> Iterator[SimulatedCuda]:
    with SimulatedCuda(waits.append) as device:
        yield device


def saved(value: Any, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(value, file, **options)
    file.seek(0)
    return file


LEGACY = {"_use_new_zipfile_serialization": False}
EXPRESSIONS: dict[str, tuple[Callable[[Tensor, Tensor], object], int]] = {
    # measured on an H200
    "pickle.dumps(x)": (lambda x, host: pickle.dumps(x), 1),
    "torch.save(x)": (lambda x, host: saved(x), 1),
    "torch.save(x), legacy": (lambda x, host: saved(x, **LEGACY), 1),
    "host.copy_(storage)": (lambda x, host: host.untyped_storage().copy_(x.untyped_storage()), 1),
    "copy.deepcopy(x)": (lambda x, host: copy.deepcopy(x), 0),
    # read in torch's sources
    "pickle of a storage": (lambda x, host: pickle.dumps(x.untyped_storage()), 1),
    "pickle of a typed storage": (lambda x, host: pickle.dumps(x.storage()), 1),
    "pickle of a parameter": (lambda x, host: pickle.dumps(nn.Parameter(x)), 1),
    "save of views of one storage": (lambda x, host: saved([x, x[:2], x.view(2, 4)]), 1),
    "the same, legacy": (lambda x, host: saved([x, x[:2], x.view(2, 4)], **LEGACY), 1),
    "save of two storages": (lambda x, host: saved([x, x.clone()]), 2),
    "save of a storage": (lambda x, host: saved(x.untyped_storage()), 1),
    "save of nothing": (lambda x, host: saved(x[:0].clone()), 0),
    "load to the device": (lambda x, host: torch.load(saved(host), map_location="cuda"), 1),
    "load to the device, legacy": (lambda x, host: torch.load(saved(host, **LEGACY), map_location="cuda"), 2),
    "deepcopy of a storage": (lambda x, host: copy.deepcopy(x.untyped_storage()), 0),
    "storage.copy_(host)": (lambda x, host: x.untyped_storage().copy_(host.untyped_storage()), 1),
    "storage.copy_(storage)": (lambda x, host: x.untyped_storage().copy_(x.clone().untyped_storage()), 0),
    "host.copy_(storage), asynchronous": (lambda x, host: host.untyped_storage().copy_(x.untyped_storage(), True), 0),
    "typed host.copy_(storage)": (lambda x, host: host.storage().copy_(x.storage()), 1),
    "storage.cpu()": (lambda x, host: x.untyped_storage().cpu(), 1),
    "storage.to": (lambda x, host: x.untyped_storage().to(device=torch.device("cpu")), 1),
    "host.cuda()": (lambda x, host: host.untyped_storage().cuda(), 1),
    "host.cuda(), asynchronous": (lambda x, host: host.untyped_storage().cuda(non_blocking=True), 0),
    "host typed.cuda()": (lambda x, host: host.storage().cuda(), 1),
    "storage.tolist()": (lambda x, host: x.untyped_storage().tolist(), NUM_BYTES),
    "typed.tolist()": (lambda x, host: x.storage().tolist(), NUM_ELEMENTS),
    "storage[0]": (lambda x, host: x.untyped_storage()[0], 1),
    "storage[1:3]": (lambda x, host: x.untyped_storage()[1:3], 0),
    "storage.fill_": (lambda x, host: TORCH.UntypedStorage.fill_(x.untyped_storage(), 0), 0),
    "storage.clone()": (lambda x, host: x.untyped_storage().clone(), 0),
    "typed.clone()": (lambda x, host: x.storage().clone(), 0),
    "hash": (lambda x, host: (hash(x), hash(x.untyped_storage())), 0),
    "x.numpy(force=True)": (lambda x, host: x.numpy(force=True), 1),
    "x.__reduce_ex__(2)": (lambda x, host: x.__reduce_ex__(2), 0),
    "dlpack within torch": (lambda x, host: TORCH.from_dlpack(TORCH.utils.dlpack.to_dlpack(x)), 0),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_waits_as_often_as_on_cuda(device: SimulatedCuda, waits: list[Kind], name: str) -> None:
    expression, expected = EXPRESSIONS[name]
    x, host = torch.arange(8.0, device="cuda"), torch.arange(8.0)
    expression(x, host)
    assert len(waits) == expected and not device.unjudged


def test_what_is_made_of_a_storage_of_the_device_is_there_too(device: SimulatedCuda, waits: list[Kind]) -> None:
    x, host = torch.arange(8.0, device="cuda"), torch.arange(8.0)
    storage = x.untyped_storage()
    there = (
        storage[1:3],
        storage.clone(),
        x.storage().clone(),
        host.storage().cuda(),
        torch.UntypedStorage(8, device="cuda"),
        torch.TypedStorage(4, dtype=torch.float, device="cuda"),
        torch.load(saved(x)),
        torch.load(saved(x, **LEGACY)),
        torch.load(saved(storage), weights_only=False),
        pickle.loads(pickle.dumps(x)),
        TORCH.from_dlpack(x),
        TORCH.from_dlpack(TORCH.utils.dlpack.to_dlpack(x)),
    )
    assert [each.device.type for each in there] == ["cuda"] * len(there)
    assert torch.is_storage(storage) and x.__dlpack_device__()[0] == torch.utils.dlpack.DLDeviceType.kDLCUDA
    assert device.unwrap(TORCH.from_dlpack(x)).data_ptr() == x.data_ptr(), "the same memory"
    TORCH.UntypedStorage.fill_(storage[1:3], 0)
    assert device.unwrap(x).tolist()[1:] == list(range(1, 8))


def test_values_survive_files_of_either_format_and_the_type_is_torchs_afterwards() -> None:
    with SimulatedCuda():
        files = [saved({"x": torch.arange(3.0, device="cuda")}, **options) for options in ({}, LEGACY)]
    for file in files:
        assert torch.load(file, map_location="cpu")["x"].tolist() == [0.0, 1.0, 2.0]
    assert "__new__" not in vars(torch.UntypedStorage) and torch.UntypedStorage([1, 2]).tolist() == [1, 2]


def test_a_module_that_is_pickled_waits_once_a_parameter(device: SimulatedCuda, waits: list[Kind]) -> None:
    module = nn.Linear(2, 2, device="cuda")
    twin = pickle.loads(pickle.dumps(module))
    assert waits == ["d2h_copy"] * 2 + ["pageable_upload"] * 4 and twin.weight.is_cuda
