"""NVTX ranges that a program opens by itself are regions while somebody records."""

from __future__ import annotations

from collections.abc import Iterator

import nvtx
import pytest
import torch.cuda.nvtx

from bagel_perf.syncs.nvtx_ranges import nvtx_ranges_as_regions
from bagel_perf.syncs.regions import NvtxSink, current_region, recording, region


@pytest.fixture
def torch_ranges(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands in for NVTX's own functions, which a CPU build of torch lacks; gives what reached them."""
    seen: list[str] = []
    monkeypatch.setattr(torch.cuda.nvtx, "range_push", lambda message: seen.append(f"+{message}"))
    monkeypatch.setattr(torch.cuda.nvtx, "range_pop", lambda: seen.append("-"))
    return seen


@pytest.fixture
def observed(torch_ranges: list[str]) -> Iterator[None]:
    with recording(NvtxSink()), nvtx_ranges_as_regions:
        yield


def test_torchs_ranges_are_regions_and_still_reach_nvtx(observed: None, torch_ranges: list[str]) -> None:
    with torch.cuda.nvtx.range("step {}", 3):
        torch.cuda.nvtx.range_push("inner")
        assert current_region() == ("step 3", "inner")
        torch.cuda.nvtx.range_pop()
        assert current_region() == ("step 3",)
    assert current_region() == ()
    assert torch_ranges == ["+step 3", "+inner", "-", "-"]


def test_the_packages_ranges_are_regions_and_mix_with_ours(observed: None) -> None:
    with nvtx.annotate("a"):
        nvtx.push_range("b")
        with region("c"):
            assert current_region() == ("a", "b", "c")
        nvtx.pop_range()
        assert current_region() == ("a",)
    assert current_region() == ()


def test_a_pop_without_a_push_leaves_the_regions_alone(observed: None) -> None:
    with region("a"):
        torch.cuda.nvtx.range_pop()
        assert current_region() == ("a",)


def test_a_range_is_one_region_however_many_want_to_know(torch_ranges: list[str]) -> None:
    with recording(), nvtx_ranges_as_regions:
        with nvtx_ranges_as_regions, torch.cuda.nvtx.range("a"):
            assert current_region() == ("a",)
        with torch.cuda.nvtx.range("b"):
            assert current_region() == ("b",)


def test_a_range_that_outlives_its_watch_is_forgotten(torch_ranges: list[str]) -> None:
    with recording(), nvtx_ranges_as_regions:
        torch.cuda.nvtx.range_push("outlives")
    torch.cuda.nvtx.range_pop()
    with recording(), nvtx_ranges_as_regions, region("a"):
        torch.cuda.nvtx.range_pop()
        assert current_region()[-1] == "a"


def test_the_functions_are_put_back_after_an_error(torch_ranges: list[str]) -> None:
    before = (torch.cuda.nvtx.range_push, nvtx.push_range, nvtx.annotate.__enter__)

    def program() -> None:
        assert torch.cuda.nvtx.range_push is not before[0]
        raise KeyError

    with pytest.raises(KeyError), nvtx_ranges_as_regions:
        program()
    assert (torch.cuda.nvtx.range_push, nvtx.push_range, nvtx.annotate.__enter__) == before
