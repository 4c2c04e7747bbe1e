"""Which asynchronous copies the driver stages: those whose host side is pageable, or has gaps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bagel_perf.records.syncs import doubts
from bagel_perf.rules.calls import DOWNLOAD, UPLOAD, is_dense, staged_copy
from bagel_perf.simulated.cuda import SimulatedCuda
from bagel_perf.syncs import region, watch_host_syncs


class Side:
    """Host and device tensors for the rules, which ask a predicate where each is."""

    def __init__(self) -> None:
        self.device, self.wide_device = torch.ones(8), torch.ones(8, 2)
        self.host, self.wide_host = torch.ones(8), torch.ones(8, 2)
        self.pinned, self.wide_pinned = torch.ones(8), torch.ones(8, 2)

    def is_on_device(self, value: object) -> bool:
        return isinstance(value, Tensor) and value.data_ptr() in (self.device.data_ptr(), self.wide_device.data_ptr())

    def is_pinned(self, value: Tensor) -> bool:
        return value.data_ptr() in (self.pinned.data_ptr(), self.wide_pinned.data_ptr())

    def staged(self, name: str, *args: object, **kwargs: object) -> str | None:
        return staged_copy(name, args, kwargs, self.is_on_device, self.is_pinned)


def test_a_copy_into_pageable_memory_or_into_gaps_is_staged() -> None:
    s = Side()
    assert s.staged("copy_", s.host, s.device, True) == DOWNLOAD
    assert s.staged("copy_", s.host, s.device, non_blocking=True) == DOWNLOAD
    assert s.staged("copy_", s.wide_pinned[:, 0], s.device, non_blocking=True) == DOWNLOAD
    assert s.staged("copy_", s.pinned, s.device, non_blocking=True) is None


def test_a_copy_from_pageable_memory_or_from_gaps_is_staged() -> None:
    s = Side()
    assert s.staged("to", s.host, "cuda", non_blocking=True) == UPLOAD
    assert s.staged("to", s.host, torch.device("cuda"), torch.float16, True) == UPLOAD
    assert s.staged("to", s.host, s.device, non_blocking=True) == UPLOAD
    assert s.staged("cuda", s.host, non_blocking=True) == UPLOAD
    assert s.staged("copy_", s.device, s.wide_pinned[:, 0], True) == UPLOAD
    assert s.staged("to", s.pinned, "cuda", non_blocking=True) is None


def test_a_blocking_copy_or_one_on_one_side_or_of_nothing_is_none_of_these() -> None:
    s = Side()
    assert s.staged("copy_", s.host, s.device) is None
    assert s.staged("to", s.host, "cuda") is None
    assert s.staged("to", s.host, "cpu", non_blocking=True) is None
    assert s.staged("to", s.host, torch.float16, non_blocking=True) is None
    assert s.staged("copy_", s.host, s.pinned, True) is None
    assert s.staged("copy_", s.host[:0], s.device[:0], True) is None
    assert s.staged("add", s.host, s.device, non_blocking=True) is None


def test_torch_allocates_pinned_memory_for_a_download_by_to() -> None:
    s = Side()
    assert s.staged("to", s.device, "cpu", non_blocking=True) is None


@pytest.mark.parametrize(
    ("tensor", "dense"),
    [
        (torch.ones(3, 4), True),
        (torch.ones(3, 4).T, True),
        (torch.ones(3, 4)[:, 0], False),
        (torch.ones(3, 4)[:, :2], False),
        (torch.ones(3, 1)[:, 0], True),
        (torch.ones(1, 4)[:, :2], True),
        (torch.ones(()), True),
        (torch.ones(4).expand(3, 4), False),
    ],
)
def test_dense_is_side_by_side_in_any_order(tensor: Tensor, dense: bool) -> None:
    assert is_dense(tensor) is dense


def test_the_simulated_device_names_such_copies_by_the_same_rule() -> None:
    with SimulatedCuda() as device:
        x = torch.ones(8, device="cuda")
        torch.ones(8).to("cuda", non_blocking=True)
        torch.empty(8).copy_(x, non_blocking=True)
        torch.empty(8, 2).pin_memory()[:, 0].copy_(x, non_blocking=True)
        torch.empty(8).pin_memory().copy_(x, non_blocking=True)
        x.to("cpu", non_blocking=True)
        assert dict(device.hazards) == {UPLOAD: 1, DOWNLOAD: 2}


def test_a_budget_is_open_in_the_region_where_a_copy_holds_the_host() -> None:
    with SimulatedCuda():
        x, pageable = torch.ones(8, device="cuda"), torch.empty(8)
        with watch_host_syncs("cuda") as watch:
            with region("step"):
                pageable.copy_(x, non_blocking=True)
            with region("other"):
                x.add_(1)
    report = watch.report()
    assert [doubt.kind for doubt in doubts(report, "step")] == ["held"]
    assert "test_copies_rules.py" in doubts(report, "step")[0].text
    assert doubts(report, "other") == ()
    assert [(site.region, site.count) for site in report.held_in("step")] == [("step", 1)]
    assert report.held_in("other") == ()
