"""What a version of torch lacks is said in every count, and a count that may be wrong for it is open."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bagel_perf.rules import torch_lacks, torch_versions
from bagel_perf.rules.torch_versions import TorchName
from bagel_perf.simulated import SimulatedCuda
from bagel_perf.simulated.patches import Patches
from bagel_perf.syncs import watch_host_syncs

LACKING = Path(__file__).parents[1] / "support" / "lacking_names.py"


def name(path: str, **more: Any) -> TorchName:
    return TorchName(paths=(path,), use="for a test", cost="little", lack="figures", sides=("simulated",), **more)


@pytest.mark.skipif(not torch_versions.is_tested(), reason="a torch that nobody has tested may lack names")
def test_a_tested_torch_has_every_name() -> None:
    assert (torch_lacks.lacking("simulated"), torch_lacks.lacking("cuda")) == ((), ())


def test_a_name_is_found_by_the_first_path_that_is_there() -> None:
    found = TorchName(
        paths=("torch._C._not_there", "torch.utils._device.CURRENT_DEVICE", "torch.ones"),
        use="",
        cost="",
        lack="rest",
        sides=(),
    )
    assert found.place() == (sys.modules["torch.utils._device"], "CURRENT_DEVICE")


@pytest.mark.parametrize("path", ["torch._not_there", "torch._not_there.at.all", "torch.ops.aten._not_there.default"])
def test_a_name_that_is_not_there_gives_its_stand_in(path: str) -> None:
    assert name(path).place() is None
    assert name(path, stand_in=len).find() is len


def test_what_is_put_there_is_not_missed() -> None:
    owner = name("torch._C._not_there", is_added=True)
    with Patches() as patches:
        patches.replace(owner, lambda native: len)
    with patches:
        assert torch._C._not_there is len  # type: ignore[attr-defined]
    assert not hasattr(torch._C, "_not_there")


def test_what_torch_lets_nobody_replace_is_said_and_no_error() -> None:
    fixed = name("torch._C.TensorBase.__slots__" if hasattr(torch._C.TensorBase, "__slots__") else "torch.Size.numel")
    patches = Patches()
    patches.replace(fixed, lambda native: len)
    with patches:
        assert patches.refused == (fixed,)
    with SimulatedCuda() as device:
        device.misses((fixed,))
        with watch_host_syncs("cuda") as watch:
            pass
    report = watch.report()
    assert list(report.unjudged) == [f"{fixed} (torch {torch.__version__} has none)"]
    assert any(f"has no {fixed}" in note and "what this costs: little" in note for note in report.notes)


@pytest.mark.parametrize("version", ["2.16.0", "3.0.0", "2.14.0a0+git1234567", "2.13.0.dev20261101", "2.10.0"])
def test_a_count_on_a_torch_that_nobody_tested_says_so(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    with SimulatedCuda(), watch_host_syncs("cuda") as watch:
        pass
    assert watch.report().notes[0].startswith(f"torch {version} was not tested")


@pytest.mark.parametrize("version", ["2.13.0+cpu", "2.14.1", "2.11.0+cu130"])
def test_a_count_on_a_torch_that_was_tested_says_nothing(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    with SimulatedCuda(), watch_host_syncs("cuda") as watch:
        pass
    assert watch.report().notes == ()


def test_without_any_one_name_a_program_runs_and_its_count_says_so_or_one_sentence_refuses() -> None:
    done = subprocess.run([sys.executable, str(LACKING)], capture_output=True, text=True, check=True)
    told = {each["name"]: each for each in map(json.loads, done.stdout.splitlines())}
    used = [each for each in torch_lacks.all_names() if "simulated" in each.sides and not each.is_added]
    assert set(told) == set(map(str, used))
    for each in used:
        outcome = told[str(each)]
        assert outcome["error"] in ("", "EnvironmentUnfit"), outcome
        assert f"has no {each}" in outcome["text"], outcome
        assert (outcome["error"] != "") == (each.lack == "all"), outcome
        assert any(str(each) in operator for operator in outcome["unjudged"]) == (each.lack == "figures"), outcome


def test_combinations_wait_as_measured_in_every_version() -> None:
    with SimulatedCuda(), watch_host_syncs("cuda") as watch:
        values = torch.arange(4, device="cuda")
        on_device = torch.combinations(values).is_cuda
        torch.combinations(values, r=3, with_replacement=True)
        torch.combinations(torch.arange(4))
    report = watch.report()
    assert (report.host_syncs, report.unjudged, on_device) == (2 + 3, {}, True)
    assert {site.kind for site in report.sites} == {"mask_gather"}


@pytest.mark.parametrize("called", ["torch.cuda.use_mem_pool", "torch.accelerator.get_device_capability"])
def test_what_hangs_on_a_function_hangs_on_what_stands_for_it(called: str) -> None:
    module, _, attribute = called.removeprefix("torch.").partition(".")
    native = getattr(getattr(torch, module), attribute)
    with SimulatedCuda():
        stands_for_it = getattr(getattr(torch, module), attribute)
        assert stands_for_it is not native
        assert stands_for_it.__wrapped__ is native.__wrapped__
        assert hasattr(stands_for_it, "cache_clear") == hasattr(native, "cache_clear")
