from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from bagel_perf.harness.regions import region
from bagel_perf.harness.simulated import SimulatedDevice
from bagel_perf.harness.syncs import SyncCensus, SyncEvent, SyncSite, callbacks_fire, count_host_syncs


@pytest.fixture
def device() -> Iterator[SimulatedDevice]:
    with SimulatedDevice() as device:
        yield device


def read_all(vector: torch.Tensor) -> int:
    return sum(int(vector[i]) for i in range(vector.shape[0]))


def test_a_site_is_the_users_line_with_its_function_and_region(device: SimulatedDevice) -> None:
    vector = torch.arange(4, device=device.device)
    with count_host_syncs(device.device) as counter, region("ar"), region("slot"):
        assert read_all(vector) == 6
    census = counter.census()
    assert census.device == "simulated"
    (site,) = census.sites
    assert site.count == 4
    assert site.event.kind == "scalar_read" and site.event.file == __file__
    assert site.event.line == read_all.__code__.co_firstlineno + 1
    assert site.event.function.startswith("read_all") and site.event.region == ("ar", "slot")


def test_a_wait_inside_torchs_python_is_the_callers(device: SimulatedDevice) -> None:
    vector = torch.arange(4, device=device.device)
    with count_host_syncs(device.device) as counter:
        assert 3 in vector
    (site,) = counter.census().sites
    assert site.event.file == __file__


def test_a_census_adds_up_by_region() -> None:
    def site(count: int, *path: str) -> SyncSite:
        return SyncSite(event=SyncEvent(kind="nonzero", file="f", line=1, function="g", region=path), count=count)

    census = SyncCensus(device="cuda", sites=(site(5, "dit", "step"), site(2, "dit"), site(1, "ar", "step"), site(1)))
    assert census.total() == 9
    assert census.total(("dit",)) == 7 and census.total(("dit", "step")) == 5 and census.total(("x",)) == 0
    assert census.by_region(1) == {("dit",): 7, ("ar",): 1, (): 1}
    assert sum(census.by_region(2).values()) == 9


def test_nothing_is_counted_before_and_after_the_context(device: SimulatedDevice) -> None:
    scalar = torch.ones((), device=device.device)
    scalar.item()
    with count_host_syncs(device.device) as counter:
        scalar.item()
    scalar.item()
    assert counter.census().total() == 1


def test_nested_counters_both_count(device: SimulatedDevice) -> None:
    scalar = torch.ones((), device=device.device)
    with count_host_syncs(device.device) as outer:
        with count_host_syncs(device.device) as inner:
            scalar.item()
        scalar.item()
    assert (outer.census().total(), inner.census().total()) == (2, 1)


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
    assert counter.census().total() == 800


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
    kinds = {site.event.kind: site.count for site in counter.census().sites}
    expected = ["mask_gather", "mask_scatter", "nonzero", "list_of_scalars", "pageable_upload", "tensor_as_size"]
    assert kinds == dict.fromkeys([*expected, "integer_index_write", "d2h_copy", "explicit_sync"], 1)


def test_a_device_that_nobody_waits_for_is_refused() -> None:
    with pytest.raises(ValueError, match="no host waits for cpu"), count_host_syncs("cpu"):
        pass


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without CUDA")
def test_without_cuda_no_callback_fires_and_counting_is_refused() -> None:
    assert not callbacks_fire()
    with pytest.raises(RuntimeError, match="cannot be counted"), count_host_syncs("cuda"):
        pass
