"""A process that nobody started under ``syncs`` gives the order of its own watch where its environment asks for one."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bagel_perf import watch_orders
from bagel_perf.records.following import ORDER, ROOT, VARIABLE
from bagel_perf.records.syncs import SyncReport
from bagel_perf.watch_orders import ARMING, watch_where_asked
from served import attach, counts, serving
from sources import ROOT as TREE

SERVER = """
import multiprocessing, os, subprocess, sys, torch
from bagel_perf.vllm_plugin import register

def wait(times):
    x = torch.ones(3, device="cuda")
    for _ in range(times):
        x.sum().item()

def stage(times, pipe):
    while True:
        wait(times)
        pipe.send("done")
        if pipe.recv() == "end":
            return

LATE = "import sys; sys.argv = ['late']; from server import register, wait; register(); wait(7)"

def main():
    register()
    register()
    context = multiprocessing.get_context("spawn")
    pipes = []
    stages = {"StageEngineCoreProc": 2, "StageDiffusionProc": 3}
    for name, times in [*stages.items()][: int(sys.argv[1])]:
        here, there = context.Pipe()
        context.Process(target=stage, args=(times, there), name=name).start()
        pipes.append(here)
    only = {name: os.environ[name] for name in ("BAGEL_PERF_WATCH", "PATH")}
    subprocess.run([sys.executable, "-c", LATE], env={**only, "PYTHONPATH": os.environ["TREE"]}, check=True)
    while True:
        wait(1)
        for pipe in pipes:
            pipe.recv()
        print("ready", flush=True)
        line = sys.stdin.readline()
        for pipe in pipes:
            pipe.send("more" if line else "end")
        if not line:
            return

if __name__ == "__main__":
    main()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(TREE))
    monkeypatch.setenv("TREE", os.pathsep.join([str(TREE), str(tmp_path)]))
    monkeypatch.delenv(VARIABLE, raising=False)


def test_one_variable_has_a_server_watched_with_all_that_it_starts_and_attach_reads_it(tmp_path: Path) -> None:
    Path("server.py").write_text(SERVER)
    watch = tmp_path / "made" / "watch"
    of_stages = {"StageEngineCoreProc": 2, "StageDiffusionProc": 3}
    with serving("server.py", "2", **{VARIABLE: str(watch)}) as (pid, hears, says):
        assert says.readline() == "ready\n"
        assert counts(attach(pid, "report")) == {"main": 1, "late": 7, **of_stages}
        attach(pid, "start")
        hears.write("go on\n")
        hears.flush()
        assert says.readline() == "ready\n"
        assert counts(attach(pid, "report")) == {"main": 1, "late": 0, **of_stages}
    assert len(list(watch.glob("*.report"))) == 4


def test_under_a_command_that_watches_nothing_is_counted_twice() -> None:
    Path("server.py").write_text(SERVER)
    command = ["-m", "bagel_perf", "syncs", "--device", "cpu", "--quiet", "--json", "out.json", "--"]
    with serving(*command, "python", "server.py", "1") as (_, _, says):
        assert says.readline() == "ready\n"
    report = SyncReport.from_json(json.loads(Path("out.json").read_text()))
    assert counts(report) == {"main": 1, "late": 7, "StageEngineCoreProc": 2}


BEGUN = """
import contextlib, json, sys, torch
torch.version.cuda, torch.cuda.is_initialized = "13.0", lambda: True
from bagel_perf import followed, watch_orders
followed.Followed.watching = contextlib.contextmanager(lambda self: iter(["watched"]))
watch_orders.has_gpu = lambda: True
assert watch_orders.watch_where_asked()
print(followed.followed().watch, flush=True)
import os; os.kill(os.getpid(), 9)
"""


def test_a_process_that_uses_the_gpu_already_is_watched_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "watch"))
    done = subprocess.run([sys.executable, "-c", BEGUN], capture_output=True, text=True, check=False)
    assert done.stdout == "watched\n", done.stderr


def ended(folder: Path) -> None:
    folder.mkdir()
    (folder / ROOT).write_text("4194305")  # above any number that a process has
    (folder / ORDER).write_text("{}")


def of_somebody_else(folder: Path) -> None:
    folder.mkdir()
    (folder / "weights").touch()


def begun_and_left(folder: Path) -> None:
    folder.mkdir()
    (folder / ROOT).write_text("1")


@pytest.mark.parametrize(
    ("prepare", "name", "said"),
    [
        (ended, "{}/watch", "that watch has ended"),
        (of_somebody_else, "{}/watch", "a folder of something else"),
        (begun_and_left, "{}/watch", "nobody gave an order"),
        (Path.touch, "{}/watch", "File exists"),
        (Path.mkdir, "watch", "no absolute path"),
    ],
)
def test_what_hinders_a_watch_is_logged_and_hinders_nobody_else(
    prepare: object,
    name: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    prepare(tmp_path / "watch")  # type: ignore[operator]
    monkeypatch.setenv(VARIABLE, name.format(tmp_path))
    monkeypatch.setattr(watch_orders, "PATIENCE_S", 0.0)
    before = dict(os.environ)
    with caplog.at_level(logging.WARNING):
        assert watch_where_asked() == ""
    assert said in caplog.text and dict(os.environ) == before


def test_where_a_watch_has_ended_no_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone"))
    monkeypatch.setenv("PYTHONPATH", ARMING)
    assert watch_where_asked() == "" and not (tmp_path / "gone").exists()
