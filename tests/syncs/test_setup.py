"""The uploads of a model that is loaded are told from those of its work."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bagel_perf.records.syncs import SyncReport
from bagel_perf.simulated.cuda import SimulatedCuda
from bagel_perf.syncs import SyncBudgetExceeded, SyncCollector, allow_sync, count_host_syncs, watch_host_syncs


@pytest.fixture(autouse=True)
def device() -> Iterator[None]:
    with SimulatedCuda():
        yield


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


NUM_TENSORS = 4 + 5
"""Parameters of two linears; weight, bias, and three buffers of a batch norm."""


def counts(run: Callable[[], object]) -> tuple[int, int]:
    """(waits of set-up, others)."""
    with count_host_syncs("cuda") as collector:
        run()
    return split(collector)


def split(collector: SyncCollector) -> tuple[int, int]:
    setup = sum(site.count for site in collector.sites() if site.is_setup)
    assert collector.total() == sum(site.count for site in collector.sites())
    return setup, collector.total() - setup


@pytest.mark.parametrize("move", [lambda m: m.to("cuda"), lambda m: m.cuda(), lambda m: m.to("cuda", torch.float64)])
def test_moving_a_model_is_set_up(move: Callable[[nn.Module], object]) -> None:
    assert counts(lambda: move(net())) == (NUM_TENSORS, 0)


def test_a_models_own_way_to_move_is_set_up_as_well() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 2)

        def to(self, *args: Any, **kwargs: Any) -> Any:
            return super().to(*args, **kwargs)

    assert counts(lambda: Own().to("cuda")) == (2, 0)


def test_each_of_several_models_is_set_up_and_the_same_one_again_is_work() -> None:
    model = net()

    def offload() -> None:
        for _ in range(3):
            model.to("cuda")
            model.to("cpu")

    assert counts(lambda: [net().to("cuda") for _ in range(3)]) == (3 * NUM_TENSORS, 0)
    setup, others = counts(offload)
    assert setup == NUM_TENSORS
    assert others == 2 * NUM_TENSORS + 3 * NUM_TENSORS, "two more uploads, and three downloads"


def test_set_up_and_work_of_one_line_are_two_sites() -> None:
    model = net()
    with count_host_syncs("cuda") as collector:
        for _ in range(2):
            model.to("cuda")
            for parameter in [*model.parameters(), *model.buffers()]:
                parameter.data = parameter.data.cpu()
    uploads = [(site.is_setup, site.count) for site in collector.sites() if site.kind == "pageable_upload"]
    assert sorted(uploads) == [(False, NUM_TENSORS), (True, NUM_TENSORS)]


def test_loading_a_state_is_set_up_once() -> None:
    model, state = net().to("cuda"), net().state_dict()
    assert counts(lambda: model.load_state_dict(state)) == (NUM_TENSORS, 0)

    def swap() -> None:
        for _ in range(2):
            model.load_state_dict(state)

    assert counts(swap) == (NUM_TENSORS, NUM_TENSORS)


def test_a_file_that_is_loaded_onto_the_device_and_an_optimizers_state_are_set_up() -> None:
    file = io.BytesIO()
    torch.save(net().state_dict(), file)
    file.seek(0)
    setup, others = counts(lambda: torch.load(file, map_location="cuda"))
    assert setup > 0 and others == 0
    model = net()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(3, 4)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    fresh = torch.optim.AdamW(net().to("cuda").parameters())
    setup, others = counts(lambda: fresh.load_state_dict(state))
    assert setup > 0 and others == 0


def test_what_a_model_uploads_while_it_works_is_work() -> None:
    class Offloaded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            self.inner.to("cuda")
            return x + torch.tensor([1.0, 2.0]).to("cuda")

    x = torch.ones(2, device="cuda")
    assert counts(lambda: Offloaded()(x)) == (0, 3)


def test_uploads_of_the_program_itself_are_work() -> None:
    host = torch.ones(3)
    assert counts(lambda: (host.to("cuda"), torch.tensor([1, 2], device="cuda"), host.cuda().sum().item())) == (0, 4)


def module_in(path: Path, text: str) -> ModuleType:
    module = ModuleType(path.stem)
    exec(compile(text, str(path), "exec"), module.__dict__)
    return module


def test_what_an_installed_package_loads_is_set_up_and_a_function_of_that_name_alone_is_not(tmp_path: Path) -> None:
    text = "def from_pretrained(host):\n    return host.to('cuda')\n\ndef embed(host):\n    return host.to('cuda')\n"
    host = torch.ones(3)
    installed = module_in(tmp_path / "lib" / "site-packages" / "pkg" / "loading.py", text)
    assert counts(lambda: installed.from_pretrained(host)) == (1, 0)
    assert counts(lambda: installed.embed(host)) == (0, 1)
    own = module_in(Path.cwd() / "loading.py", text)
    assert counts(lambda: own.from_pretrained(host)) == (0, 1)


def test_reads_are_no_set_up_whoever_makes_them() -> None:
    model = net().to("cuda")

    class Reading(nn.Module):
        def _apply(self, fn: Any, recurse: bool = True) -> Any:
            next(model.parameters())[0, 0].item()
            return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    assert counts(lambda: Reading().to("cuda")) == (0, 1)


def test_a_budget_counts_the_set_up_unless_it_is_allowed() -> None:
    with pytest.raises(SyncBudgetExceeded, match="9 times"), watch_host_syncs("cuda", budgets={"": 0}):
        net().to("cuda")
    with watch_host_syncs("cuda", budgets={"": 0}) as watch, allow_sync("set-up"):
        net().to("cuda")
    report = watch.report()
    assert report.host_syncs == NUM_TENSORS
    assert {(site["is_setup"], site["allowed"]) for site in report.to_json()["sites"]} == {(True, "set-up")}
    assert SyncReport.from_json(report.to_json()) == report
