"""What a Python of a watched command imports first leaves imports as they are, and says what it could not watch."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bagel_perf.arming.sitecustomize import PASSED_BY, Hook
from bagel_perf.commands.following import environment
from bagel_perf.records.following import WatchOrder
from bagel_perf.watch_orders import ARMING


class Begun(Hook):
    """A hook that counts how often torch has been imported."""

    times = 0

    def begin(self) -> None:
        self.times += 1


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Begun:
    found = Begun({"folder": str(tmp_path)}, str(tmp_path / f"{os.getpid()}-0-0"))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", [found, PathFinder])
    monkeypatch.delitem(sys.modules, "torch")
    return found


def imported() -> ModuleType:
    spec = importlib.util.find_spec("torch")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_folder_that_only_looks_like_torch_is_found_as_without_us(hook: Begun, tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    spec = importlib.util.find_spec("torch")
    assert spec is not None and spec.loader is None and hook.times == 0


def test_torch_is_watched_however_often_somebody_looks_for_it(hook: Begun, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("x = 1\n")
    importlib.util.find_spec("torch")
    assert imported().x == 1 and hook.times == 1


def test_a_finder_in_front_is_asked_once(hook: Begun, tmp_path: Path) -> None:
    asked = list[str]()

    class Finder:
        def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
            asked.append(name)
            return None

    (tmp_path / "torch.py").write_text("")
    sys.meta_path.insert(0, Finder())
    imported()
    assert asked == ["torch"] and hook.times == 1


def test_a_watch_that_has_begun_does_not_begin_again(hook: Begun) -> None:
    hook.has_begun = True
    Hook.begin(hook)
    assert not Path(f"{hook.stem}.failed").exists()


def test_torch_that_was_imported_past_the_hook_is_said_at_the_end(hook: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    hook.finish()
    assert not Path(f"{hook.stem}.failed").exists()
    torch = ModuleType("torch")
    torch.Tensor = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    hook.finish()
    assert PASSED_BY in Path(f"{hook.stem}.failed").read_text()


def test_an_older_python_of_the_system_can_run_what_arms_it() -> None:
    ast.parse(Path(ARMING, "sitecustomize.py").read_text(), feature_version=(3, 7))
    assert Hook.find_spec.__annotations__["return"] == "ModuleSpec | None"  # no older Python can work that out


@pytest.mark.parametrize(("given", "rest"), [("a:", ":a:"), ("", ""), (":", "::"), ("b::c", ":b::c"), (None, "")])
def test_empty_entries_of_the_path_which_mean_the_current_folder_stay(
    monkeypatch: pytest.MonkeyPatch, given: str | None, rest: str
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if given is not None:
        monkeypatch.setenv("PYTHONPATH", given)
    order = WatchOrder(folder="/f", packages="/p", subject="x")
    assert environment(order)["PYTHONPATH"] == f"{ARMING}{rest}"
