"""Ray's hook adds what arms the workers of a job, also in a cluster that ran before anybody asked for a watch."""

from __future__ import annotations

import importlib.util
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bagel_perf.arming import sitecustomize
from bagel_perf.ray_hook import arm
from bagel_perf.records.following import VARIABLE
from bagel_perf.watch_orders import ARMING
from served import attach, counts, serving
from sources import ROOT


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def armed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """As in a driver that is watched already."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setattr(sitecustomize, "is_armed", lambda: True)
    return str(tmp_path)


@pytest.mark.parametrize("given", [None, {}, {"env_vars": None}])
def test_the_hook_of_ray_adds_what_arms_a_worker(given: dict[str, object] | None, armed: str) -> None:
    assert arm(given) == {"env_vars": {VARIABLE: armed, "PYTHONPATH": f"{ARMING}{os.pathsep}${{PYTHONPATH}}"}}


def test_the_hook_of_ray_keeps_what_the_user_gave(armed: str) -> None:
    given = {"pip": ["einops"], "env_vars": {"A": "1", "PYTHONPATH": "/mine"}}
    path = os.pathsep.join([ARMING, "/mine"])
    assert arm(given) == {"pip": ["einops"], "env_vars": {"A": "1", VARIABLE: armed, "PYTHONPATH": path}}
    assert given["env_vars"] == {"A": "1", "PYTHONPATH": "/mine"}


def test_the_hook_of_ray_changes_nothing_unasked() -> None:
    assert arm({"env_vars": {"A": "1"}}) == {"env_vars": {"A": "1"}} and arm(None) == {}


DRIVER = """
import json, ray, sys
ray.init(address="auto", namespace="n", logging_level="ERROR", runtime_env={"env_vars": {"MINE": "kept"}})

@ray.remote(num_cpus=1)
class Stage:
    def run(self, times):
        import os, torch
        x = torch.ones(3, device="cuda")
        for _ in range(times):
            x.sum().item()
        return os.environ["MINE"]

stage = Stage.remote()
assert ray.get(stage.run.remote(3)) == "kept"
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster that runs before the driver does, and knows nothing of a watch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # its sockets need a short path
        options = ["--head", f"--port={port}", "--num-cpus=1", "--include-dashboard=false", "--disable-usage-stats"]
        options += ["--node-ip-address=127.0.0.1"]
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))  # of this cluster alone
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *options, f"--temp-dir={folder}", "--block"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as head:
            try:
                yield
            finally:
                head.terminate()


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray")
@pytest.mark.usefixtures("cluster")
def test_the_hook_of_ray_has_the_workers_of_a_running_cluster_watched(tmp_path: Path) -> None:
    Path("driver.py").write_text(DRIVER)
    hook = {VARIABLE: str(tmp_path / "watch"), "RAY_RUNTIME_ENV_HOOK": "bagel_perf.ray_hook.arm"}
    with serving("driver.py", **hook) as (pid, _, says):
        assert says.readline() == "ready\n"
        found = counts(attach(pid, "report"))
    ((name, host_syncs),) = found.items()
    assert host_syncs == 3 and name.startswith("ray::Stage")
