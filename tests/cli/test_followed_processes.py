"""``syncs -- COMMAND`` counts in every Python process that the command starts, however it starts and ends."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bagel_perf.cli import main
from bagel_perf.records.syncs import Process, SyncReport

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

SERVER = """
import multiprocessing, os, signal, subprocess, sys, time

def wait(times):
    import torch
    with torch.cuda.nvtx.range("request"):
        x = torch.ones(3, device="cuda")
        for _ in range(times):
            x.sum().item()

def stage(times, pipe):
    wait(times)
    pipe.send("done")

def killed(times, pipe):
    wait(times)
    os.kill(os.getpid(), signal.SIGKILL)

def looping(times, pipe):
    wait(times)
    pipe.send("done")
    time.sleep(60)

def start(method, target, times, name):
    context = multiprocessing.get_context(method)
    here, there = context.Pipe()
    process = context.Process(target=target, args=(times, there), name=name)
    process.start()
    return process, here
"""
STAGES = """
if __name__ == "__main__":
    stages = [start("spawn", stage, times, name) for name, times in (("AR", 2), ("DiT", 3), ("DiffusionWorker-1", 5))]
    print([pipe.recv() for _, pipe in stages])
    for process, _ in stages:
        process.join()
"""
ALL_KINDS = """
if __name__ == "__main__":
    others = [
        start("fork", stage, 1, "forked"),
        start("forkserver", stage, 2, "of a server"),
        start("spawn", killed, 3, "killed"),
        start("fork", killed, 4, "killed fork"),
        start("spawn", looping, 5, "terminated"),
    ]
    text = "import torch; x = torch.ones(3, device='cuda'); x.tolist()"
    subprocess.run([sys.executable, "-c", text], check=True)
    os.system(f'{sys.executable} -c "{text}" && true')
    for process, pipe in others:
        if "killed" not in process.name:
            pipe.recv()
        if process.name == "terminated":
            process.terminate()
        process.join()
"""


class Seen(NamedTuple):
    """A report, and what the command printed."""

    code: int
    report: SyncReport
    err: str

    @property
    def counts(self) -> dict[str, int | None]:
        """Waits by process, of those that used the device or may have."""
        return {each.name: each.host_syncs for each in self.report.processes if each.used_device is not False}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")


Syncs = Callable[..., Seen]


@pytest.fixture
def syncs(capfd: Capture) -> Syncs:
    """Counts in this process what others do that a command starts."""

    def run(*arguments: str) -> Seen:
        code = main(["syncs", "--device", "cpu", "--json", "out.json", *arguments])
        err = capfd.readouterr().err
        assert Path("out.json").exists(), err
        return Seen(code, SyncReport.from_json(json.loads(Path("out.json").read_text())), err)

    return run


def of(process: str, report: SyncReport) -> Process:
    (found,) = (each for each in report.processes if each.name == process)
    return found


def test_the_stages_of_a_server_are_counted_each_by_itself_and_held_to_budgets_where_they_wait(syncs: Syncs) -> None:
    Path("server.py").write_text(SERVER + STAGES)
    seen = syncs("--quiet", "--budget", "request=2", "--budget", "10", "--", "python", "server.py")
    assert (seen.code, seen.counts) == (7, {"AR": 2, "DiT": 3, "DiffusionWorker-1": 5})
    assert "region request waited for the device 5 times (2 of 3 entries over budget)" in seen.err
    assert seen.report.host_syncs == 10 and seen.report.unwatched == ()
    assert {(site.process, site.count, site.region, site.expressions) for site in seen.report.sites} == {
        (name, count, "request", ("x.sum().item()",)) for name, count in seen.counts.items()
    }
    whole, request = sorted(seen.report.budgets, key=lambda check: check.region)
    assert (whole.worst, whole.ok) == (10, True)
    assert (request.num_entries, request.worst, request.num_exceeded, request.ok) == (3, 5, 2, False)


def test_however_a_process_starts_and_ends_nothing_is_lost(syncs: Syncs) -> None:
    Path("all.py").write_text(SERVER + ALL_KINDS)
    seen = syncs("--budget", "99", "--", "python", "all.py")
    others = {name: count for name, count in seen.counts.items() if name and name.startswith("-c")}
    named = {"forked": 1, "of a server": 2, "killed": 3, "killed fork": 4, "terminated": 5}
    assert seen.code == 0 and {name: count for name, count in seen.counts.items() if name in named} == named
    assert list(others.values()) == [1, 1] and seen.report.host_syncs == 17 and seen.report.unwatched == ()
    for name in ("killed", "killed fork", "terminated"):
        assert "killed or ended at once" in of(name, seen.report).why
    texts = {site.process: site.expressions for site in seen.report.sites}
    assert texts["killed"] == texts["terminated"] == ("x.sum().item()",)


BLIND = """
import subprocess, sys, torch
torch.ones(3, device="cuda").sum().item()
wait = ["-c", "import time; time.sleep(0.2)"]
subprocess.run([sys.executable, "-I", *wait], check=True)
subprocess.run([sys.executable, "-uS", *wait], check=True)
subprocess.run([sys.executable, *wait], check=True, env={})
subprocess.run(["./native", "0.2"])
"""


def test_a_process_that_cannot_be_watched_is_named_and_leaves_budgets_open(syncs: Syncs) -> None:
    shutil.copy(shutil.which("sleep") or "/bin/sleep", "native")
    Path("run.py").write_text(BLIND)
    seen = syncs("--budget", "1", "--", "python", "run.py")
    reasons = (
        "it was started with -I",
        "it was started with -S",
        "started without the environment of its parent",
        "it is no Python",
    )
    assert len(seen.report.unwatched) == len(reasons)
    assert all(why in blind.why for why, blind in zip(reasons, seen.report.unwatched, strict=True))
    assert seen.code == 4 and "budgets are open" in seen.err and seen.report.host_syncs == 1


def test_what_a_shell_script_starts_is_followed_and_the_shell_itself_uses_no_device(syncs: Syncs) -> None:
    Path("loop.py").write_text(f"{SERVER}\nwait(2)\n")
    Path("run.sh").write_text("python loop.py\nRANK=1 python loop.py | cat\nuname >/dev/null\nexit 3\n")
    seen = syncs("--budget", "4", "--", "bash", "run.sh")
    assert (seen.code, seen.counts, seen.report.unwatched) == (3, {"loop": 2, "rank 1": 2}, ())
    assert of("rank 1", seen.report).rank == 1 and of("main", seen.report).exit_code == 3


def test_a_fork_after_the_device_was_used_fails_as_on_cuda(syncs: Syncs) -> None:
    Path("loop.py").write_text(f"{SERVER}\nwait(1)\nprocess, _ = start('fork', stage, 1, 'late')\nprocess.join()\n"
                               "sys.exit(process.exitcode)\n")  # fmt: skip
    seen = syncs("--", "python", "loop.py")
    assert seen.code == 1 and "Cannot re-initialize CUDA in forked subprocess" in seen.err
    assert seen.counts == {"main": 1}


def test_a_budget_is_open_where_nothing_was_watched_or_it_was_never_started_or_something_runs_on(syncs: Syncs) -> None:
    Path("one.py").write_text("import torch\ntorch.ones(2, device='cuda').sum().item()\n")
    late = "sleep 0.1; (sleep 6; true) & exit 0"
    for message, *arguments in (
        ("nothing ran on the device", "--", "true"),
        ("nobody watched these processes", "--", "sh", "-c", "python -I -c 'import time; time.sleep(0.2)'; exit 0"),
        ("counting was never started", "--paused", "--", "python", "one.py"),
        ("still running when the command had ended", "--", "sh", "-c", f"python one.py; {late}"),
    ):
        seen = syncs("--quiet", "--budget", "9", *arguments)
        assert (seen.code, message in seen.err) == (4, True), seen.err


def test_descriptors_that_a_command_inherits_stay_open_and_pipes_are_of_the_system() -> None:
    Path("one.py").write_text("import torch\ntorch.ones(2, device='cuda').sum().item()\n")
    line = "python one.py | tee log | sed s/a/b/ | awk 1; cat <&3; sleep 0.2"
    options = ["--device", "cpu", "--quiet", "--budget", "1", "--json", "out.json"]
    with open("given", "w+", encoding="utf-8") as given:
        given.write("hi")
        given.flush()
        command = [sys.executable, "-m", "bagel_perf", "syncs", *options, "--", "bash", "-c", line]
        wrapped = ["bash", "-c", 'exec "$@" 3<given', "bash", *command]
        done = subprocess.run(wrapped, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "hi"), done.stderr


RANKS = f"""{SERVER}
import torch, torch.distributed as dist
dist.init_process_group("gloo")
wait(3 + dist.get_rank())
total = torch.ones(2)
dist.all_reduce(total)
assert total.tolist() == [2, 2]
dist.destroy_process_group()
"""


def test_the_ranks_of_torchrun_are_told_apart(syncs: Syncs) -> None:
    Path("ranks.py").write_text(RANKS)
    seen = syncs("--", "torchrun", "--nproc-per-node", "2", "ranks.py")
    assert (seen.code, seen.counts) == (0, {"rank 0": 3, "rank 1": 4})


TESTS = f"""{SERVER}
import pytest
@pytest.mark.parametrize("times", range(4))
def test_waits(times):
    wait(times)
"""


def test_the_workers_of_pytest_are_told_apart(syncs: Syncs) -> None:
    Path("test_waits.py").write_text(TESTS)
    seen = syncs("--", "python", "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", "test_waits.py")
    assert seen.code == 0 and set(seen.counts) <= {"gw0", "gw1"} and seen.report.host_syncs == 6


LOADING = f"""{SERVER}
import torch
data = torch.utils.data.TensorDataset(torch.arange(8.0))
if __name__ == "__main__":
    for method, workers in (("fork", 2), ("spawn", 1)):
        for (batch,) in torch.utils.data.DataLoader(data, 2, num_workers=workers, multiprocessing_context=method):
            batch.to("cuda").sum().item()
"""


def test_workers_that_load_data_are_watched_and_wait_for_nothing(syncs: Syncs) -> None:
    Path("load.py").write_text(LOADING)
    seen = syncs("--budget", "16", "--", "python", "load.py")
    assert (seen.code, seen.counts, seen.report.unwatched) == (0, {"main": 16}, ())
    assert sum(each.watched and each.used_device is False for each in seen.report.processes) >= 3


APP = f"""{SERVER}
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({{"type": f"{{kind}}.complete"}})
            if kind == "lifespan.shutdown":
                return
    wait(2)
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"ok"}})
"""
CLIENT = """
import subprocess, sys, time, urllib.request
server = subprocess.Popen([sys.executable, "-m", "uvicorn", "app:app", "--workers", "2", "--port", sys.argv[1]])
answered = 0
while answered < 6:
    try:
        answered += urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/").read() == b"ok"
    except OSError:
        time.sleep(0.1)
server.terminate()
server.wait()
"""
HAS_UVICORN = importlib.util.find_spec("uvicorn") is not None
HAS_RAY = importlib.util.find_spec("ray") is not None


@pytest.mark.skipif(not HAS_UVICORN, reason="needs uvicorn")
def test_the_workers_of_a_web_server_are_counted_when_it_is_told_to_end(unused_port: int, syncs: Syncs) -> None:
    Path("app.py").write_text(APP)
    Path("client.py").write_text(CLIENT)
    seen = syncs("--", "python", "client.py", str(unused_port))
    assert seen.report.host_syncs == 12 and set(seen.counts) <= {"SpawnProcess-1", "SpawnProcess-2"}


ACTORS = """
import ray
ray.init(num_cpus=2, include_dashboard=False)

@ray.remote(num_cpus=1)
class Stage:
    def run(self, times):
        import torch
        x = torch.ones(3, device="cuda")
        for _ in range(times):
            x.sum().item()
        return times

first, second = Stage.remote(), Stage.remote()
assert ray.get([first.run.remote(3), second.run.remote(4)]) == [3, 4]
ray.shutdown()
"""


@pytest.mark.skipif(not HAS_RAY, reason="needs ray")
def test_the_actors_of_ray_are_counted_each_by_itself(syncs: Syncs) -> None:
    Path("actors.py").write_text(ACTORS)
    seen = syncs("--budget", "7", "--", "python", "actors.py")
    assert seen.report.host_syncs == 7 and sorted(seen.counts.values(), key=str) == [3, 4]
    assert seen.code == 0 and all(name.startswith("ray::Stage") for name in seen.counts)


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: Any = free.getsockname()[1]
    return int(port)
