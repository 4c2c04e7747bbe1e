from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from bagel_perf.simulated import SimulatedDevice
from bagel_perf.syncs import callbacks_fire, count_host_syncs
from bagel_perf.syncs.regions import region


@pytest.fixture
def device() -> Iterator[SimulatedDevice]:
    with SimulatedDevice() as device:
        yield device


def read_all(vector: torch.Tensor) -> int:
    return sum(int(vector[i]) for i in range(vector.shape[0]))


def test_a_site_is_the_users_line_with_its_function_and_region(device: SimulatedDevice) -> None:
    vector = torch.arange(4, device=device.device)
    with count_host_syncs(device.device) as counter, region("ar"), region("component"):
        assert read_all(vector) == 6
    assert counter.device == "simulated"
    (site,) = counter.sites()
    assert site.count == 4
    assert site.kind == "scalar_read" and __file__.endswith(site.file)
    assert site.line == read_all.__code__.co_firstlineno + 1
    assert site.function.startswith("read_all") and site.region == "ar/component"
    assert site.expressions == ("int(vector[i])",) and site.caller is None


def test_a_wait_inside_torchs_python_is_the_callers(device: SimulatedDevice) -> None:
    vector = torch.arange(4, device=device.device)
    with count_host_syncs(device.device) as counter:
        assert 3 in vector
    (site,) = counter.sites()
    assert __file__.endswith(site.file)


def test_nothing_is_counted_before_and_after_the_context(device: SimulatedDevice) -> None:
    scalar = torch.ones((), device=device.device)
    scalar.item()
    with count_host_syncs(device.device) as counter:
        scalar.item()
    scalar.item()
    assert counter.total() == 1


def test_nested_counters_both_count(device: SimulatedDevice) -> None:
    scalar = torch.ones((), device=device.device)
    with count_host_syncs(device.device) as outer:
        with count_host_syncs(device.device) as inner:
            scalar.item()
        scalar.item()
    assert (outer.total(), inner.total()) == (2, 1)


def test_waits_of_all_threads_are_counted(device: SimulatedDevice) -> None:
    scalar = torch.ones(8, device=device.device)

    def work() -> None:
        for _ in range(200):
            (scalar + 1)[2].item()

    threads = [threading.Thread(target=work) for _ in range(4)]
    with count_host_syncs(device.device) as counter:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert counter.total() == 800


def test_kinds_are_told_apart(device: SimulatedDevice) -> None:
    x = torch.arange(12.0, device=device.device).view(4, 3)
    mask = torch.tensor([True, False, True, False], device=device.device)
    with count_host_syncs(device.device) as counter:
        x[mask]
        x[mask] = x[:2] * 2
        mask.nonzero()
        torch.tensor([x[0, 0]], device=device.device)
        x.new_zeros((mask.sum(), 2))  # type: ignore[arg-type]
        x[0, 0] = 1.0
        x.cpu()
        device.synchronize()
    kinds = {site.kind: site.count for site in counter.sites()}
    expected = ["mask_gather", "mask_scatter", "nonzero", "list_of_scalars", "pageable_upload", "tensor_as_size"]
    assert kinds == dict.fromkeys([*expected, "integer_index_write", "d2h_copy", "explicit_sync"], 1)


def test_a_device_that_nobody_waits_for_is_refused() -> None:
    with pytest.raises(ValueError, match="no host waits for cpu"), count_host_syncs("cpu"):
        pass


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without CUDA")
def test_without_cuda_no_callback_fires_and_counting_is_refused() -> None:
    assert not callbacks_fire()
    with pytest.raises(RuntimeError, match=r"no CUDA device here.*bagel-perf syncs"), count_host_syncs("cuda"):
        pass


def conditions(mask: torch.Tensor, other: object, t: int) -> list[int]:
    if mask is not None and torch.any(~mask):
        raise ValueError("a value is missing")
    while mask is not None and mask.all() and t < 5:
        t += 1
    assert other or mask.any()
    first = 1 if mask is not None and mask[0] else 2
    return [first for i in range(3) if mask is not None and mask[i]]


def test_a_condition_shows_the_tensors_own_expression(device: SimulatedDevice) -> None:
    mask = torch.ones(3, dtype=torch.bool, device=device.device)
    with count_host_syncs(device.device) as counter:
        assert conditions(mask, None, 4) == [1, 1, 1]
    first = conditions.__code__.co_firstlineno
    found = {(site.line - first, site.count): site.expressions[:1] for site in counter.sites() if site.line > first}
    found.pop((5, 1))  # an assertion, which pytest writes anew
    assert found == {
        (1, 1): ("torch.any(~mask)",),
        (3, 2): ("mask.all()",),
        (6, 1): ("mask[0]",),
        (7, 3): ("mask[i]",),
    }
