"""vLLM's plugin and worker methods: alone, and where its sources are, under vLLM's own code that loads them.

``BAGEL_UPSTREAM_TREES`` names a folder with a folder a version, in which ``vllm`` and ``vllm_omni`` lie; else packages
that are installed are looked at.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import pickle
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

import bagel_perf as bp
from bagel_perf.records.errors import EnvironmentUnfit, UsageError
from bagel_perf.records.syncs import SyncReport
from bagel_perf.vllm_plugin import SyncWatchExtension, merged, register
from sources import ROOT


def trees() -> list[Path]:
    """Folders in which a version of vllm and vllm_omni lie."""
    folder = Path(os.environ.get("BAGEL_UPSTREAM_TREES", "/nowhere"))
    found = [each for each in sorted(folder.glob("0*")) if (each / "vllm" / "plugins" / "__init__.py").exists()]
    spec = importlib.util.find_spec("vllm")
    return found if spec is None or spec.origin is None else [*found, Path(spec.origin).parents[1]]


needs_trees = pytest.mark.skipif(not trees(), reason="needs vLLM's sources: BAGEL_UPSTREAM_TREES, or vllm installed")
of_each_version = pytest.mark.parametrize("tree", trees(), ids=lambda path: path.name)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


class Worker(SyncWatchExtension):
    """A worker as vLLM makes it, with something to run."""

    def execute(self, times: int) -> None:
        x = torch.ones(3, device="cuda")
        for _ in range(times):
            x.sum().item()


@pytest.fixture
def worker() -> Iterator[Worker]:
    with bp.open_simulated_device():
        yield Worker()


def test_a_worker_counts_between_start_and_stop_and_reports_meanwhile(worker: Worker) -> None:
    worker.execute(1)
    began = worker.start_sync_watch()
    worker.execute(3)
    so_far = worker.sync_report()
    worker.execute(2)
    ended = worker.stop_sync_watch()
    worker.execute(4)
    assert (began["pid"], began["device"]) == (os.getpid(), "simulated")
    assert (so_far["host_syncs"], ended["host_syncs"]) == (3, 5)
    assert json.loads(json.dumps(ended)) == ended and SyncReport.from_json(ended).processes[0].watched


def test_each_call_may_come_on_another_thread(worker: Worker) -> None:
    threads = [ThreadPoolExecutor(1) for _ in range(3)]
    threads[0].submit(worker.start_sync_watch).result()
    threads[1].submit(worker.execute, 3).result()
    assert threads[2].submit(worker.stop_sync_watch).result()["host_syncs"] == 3


def test_a_second_start_and_a_stop_without_one_say_what_to_do(worker: Worker) -> None:
    for call in (worker.stop_sync_watch, worker.sync_report):
        with pytest.raises(UsageError, match=r"not watched \(.*\); start_sync_watch begins that"):
            call()
    worker.start_sync_watch()
    with pytest.raises(UsageError, match="watched already") as raised:
        Worker().start_sync_watch()
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)  # as it goes between processes
    worker.stop_sync_watch()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_any_device_a_start_says_what_else_there_is() -> None:
    with pytest.raises(EnvironmentUnfit, match="bagel-perf syncs -- COMMAND"):
        Worker().start_sync_watch()


def test_budgets_are_reported_and_raise_nothing(worker: Worker) -> None:
    worker.start_sync_watch({"": 2})
    worker.execute(3)
    report = SyncReport.from_json(worker.stop_sync_watch())
    assert [(check.worst, check.ok) for check in report.budgets] == [(3, False)]
    assert "waited for the device 3 times" in str(report.budget_error())


def test_reports_of_all_workers_make_one_whatever_lists_they_come_in(worker: Worker) -> None:
    worker.start_sync_watch({"": 9})
    worker.execute(3)
    one = worker.stop_sync_watch()
    two = json.loads(json.dumps(one))
    two["processes"][0] |= {"name": "DiT", "pid": 1}
    report = SyncReport.from_json(merged([[one, one], two]))  # two workers of one process say the same
    assert report.host_syncs == 6 and report.unwatched == () and report.budgets[0].worst == 6
    assert {each.name: each.host_syncs for each in report.processes} == {one["processes"][0]["name"]: 3, "DiT": 3}
    assert {site.process for site in report.sites} == {each.name for each in report.processes}


def test_a_worker_that_answers_otherwise_leaves_budgets_open(worker: Worker) -> None:
    worker.start_sync_watch({"": 9})
    worker.execute(3)
    report = SyncReport.from_json(merged([worker.stop_sync_watch(), {"supported": False, "error": "no such method"}]))
    (silent,) = report.unwatched
    assert "no such method" in silent.why and "budgets are open" in str(report.budget_error())


def test_what_vllm_loads_costs_no_import_of_torch_and_changes_nothing_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BAGEL_PERF_WATCH", raising=False)
    before = dict(os.environ)
    register()
    assert dict(os.environ) == before
    script = "import sys; from bagel_perf.vllm_plugin import register; register(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {"torch", "msgspec", "numpy", "bagel_perf.watch_orders"}.isdisjoint(done.stdout.split())


def test_both_groups_of_plugins_lead_to_it() -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    for group in ("vllm.general_plugins", "vllm_omni.general_plugins"):
        assert points[group] == {"bagel_perf": f"{register.__module__}:{register.__name__}"}


def attributes(tree: Path) -> dict[str, set[str]]:
    """What each class of a worker has, and sets on itself, by its name; of both packages."""
    found: dict[str, set[str]] = {}
    for path in [*(tree / "vllm" / "v1" / "worker").rglob("*.py"), *(tree / "vllm_omni").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and ("Worker" in node.name or "Mixin" in node.name):
                found.setdefault(node.name, set()).update(_names(node))
    return found


def _names(cls: ast.ClassDef) -> Iterator[str]:
    for node in ast.walk(cls):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


@needs_trees
@of_each_version
def test_no_worker_has_a_name_of_the_extension(tree: Path) -> None:
    ours = {name for name in dir(SyncWatchExtension) if not name.startswith("__")}
    found = attributes(tree)
    assert ours == {"start_sync_watch", "stop_sync_watch", "sync_report"}
    assert {"Worker", "WorkerBase", "GPUARWorker", "DiffusionWorker"} <= found.keys()
    assert (
        "init_device" in found["Worker"] and {name: ours & names for name, names in found.items() if ours & names} == {}
    )


def of_source(path: Path, name: str, **given: Any) -> Any:
    """A class of upstream's, run as it is written, with some of the names that it uses."""
    (node,) = (
        each
        for each in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(each, ast.ClassDef) and each.name == name
    )
    future = ast.parse("from __future__ import annotations").body
    space: dict[str, Any] = {"__name__": name, **given}
    exec(compile(ast.Module([*future, node], []), str(path), "exec"), space)
    return space[name]


def qualified(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


class Logger:
    def info(self, *_: Any) -> None: ...

    def warning(self, message: str, *_: Any) -> None:
        pytest.fail(message)

    warning_once = info
    exception = info


EXTENSION = "bagel_perf.vllm_plugin.SyncWatchExtension"


@needs_trees
@of_each_version
def test_vllm_s_wrapper_mixes_the_methods_into_its_worker(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Base:
        pass

    class GpuWorker(Base):
        def __init__(self, vllm_config: Any) -> None:
            pass

        execute = Worker.execute

    monkeypatch.setitem(sys.modules, "gpu_worker", SimpleNamespace(GpuWorker=GpuWorker))
    monkeypatch.setitem(sys.modules, "vllm.plugins", SimpleNamespace(load_general_plugins=register))
    wrapper = of_source(
        tree / "vllm" / "v1" / "worker" / "worker_base.py",
        "WorkerWrapperBase",
        resolve_obj_by_qualname=qualified,
        logger=Logger(),
        instrument=lambda **_: lambda function: function,
        set_current_vllm_config=lambda _: bp.open_simulated_device(),
    )()
    parallel = SimpleNamespace(worker_cls="gpu_worker.GpuWorker", worker_extension_cls=EXTENSION)
    config = SimpleNamespace(
        parallel_config=parallel,
        model_config=SimpleNamespace(multimodal_config=None),
        enable_trace_function_call_for_thread=lambda: None,
    )
    wrapper.init_worker([{"vllm_config": config}])
    with bp.open_simulated_device():
        wrapper.start_sync_watch()
        wrapper.execute(3)
        assert wrapper.stop_sync_watch()["host_syncs"] == 3


@needs_trees
@of_each_version
def test_vllm_omni_s_wrapper_mixes_the_methods_into_its_diffusion_worker(tree: Path) -> None:
    class DiffusionWorker:
        def __init__(self, **_: Any) -> None:
            pass

        execute = Worker.execute

    wrapper = of_source(
        tree / "vllm_omni" / "diffusion" / "worker" / "diffusion_worker.py",
        "WorkerWrapperBase",
        resolve_obj_by_qualname=qualified,
        logger=Logger(),
        DiffusionWorker=DiffusionWorker,
        CustomPipelineWorkerExtension=None,
    )(gpu_id=0, od_config=None, worker_extension_cls=EXTENSION)
    with bp.open_simulated_device():
        wrapper.execute_method("start_sync_watch", budgets={"": 4})
        wrapper.execute_method("execute", 3)
        assert wrapper.execute_method("stop_sync_watch")["host_syncs"] == 3


def plugins_of(tree: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of upstream's that loads plugins, as it is."""
    envs = ModuleType("vllm.envs")
    envs.VLLM_PLUGINS = None  # type: ignore[attr-defined]
    vllm = ModuleType("vllm")
    vllm.envs = envs  # type: ignore[attr-defined]
    for module in (vllm, envs):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    spec = importlib.util.spec_from_file_location(f"{package}_plugins", tree / package / "plugins" / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_trees
@of_each_version
@pytest.mark.parametrize("package", ["vllm", "vllm_omni"])
def test_upstream_s_loader_finds_and_calls_it(
    tree: Path, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "bagel_perf-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: bagel-perf\nVersion: 0\n")
    (info / "entry_points.txt").write_text(
        f"[{package}.general_plugins]\nbagel_perf = bagel_perf.vllm_plugin:register\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    called: list[None] = []
    monkeypatch.setattr("bagel_perf.vllm_plugin.register", lambda: called.append(None))
    module = plugins_of(tree, package, monkeypatch)
    load = getattr(module, {"vllm": "load_general_plugins", "vllm_omni": "load_omni_general_plugins"}[package])
    load()
    load()
    assert len(called) == 1
