"""Processes that a program starts are noticed, unless they cannot use the device; nothing else is said of them."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]
from typing import Any

import pytest
import torch

from bagel_perf.records.errors import Inconclusive
from bagel_perf.records.syncs import Process
from bagel_perf.rules.programs import cannot_use_device
from bagel_perf.simulated.cuda import SimulatedCuda
from bagel_perf.simulated.patches import NotSimulated
from bagel_perf.syncs import watch_host_syncs

PYTHON = sys.executable


@pytest.fixture
def cuda() -> Iterator[torch.device]:
    with SimulatedCuda() as simulated:
        yield simulated.device


def use_device() -> None:
    torch.ones(2, device="cuda").sum().item()


def child(work: Callable[[], object]) -> int:
    """A fork that does some work and ends."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fork_method(work: Callable[[], object], method: Any = "fork") -> None:
    process = multiprocessing.get_context(method).Process(target=work, name="the worker")
    process.start()
    process.join()


def unwatched(work: Callable[[], object]) -> tuple[Process, ...]:
    with watch_host_syncs("cuda") as watch:
        work()
    return watch.report().unwatched


ARGV = [PYTHON, "-c", ""]


@pytest.mark.parametrize(
    ("work", "name"),
    [
        (lambda: subprocess.run(ARGV, check=True), f"{PYTHON} -c ''"),
        (lambda: subprocess.run(f"{PYTHON} -c ''", shell=True, check=True), f"{PYTHON} -c ''"),
        (lambda: subprocess.check_output(["python3", "-c", ""], executable=PYTHON), f"{PYTHON} -c ''"),
        (lambda: subprocess.run(ARGV, close_fds=False, check=True), f"{PYTHON} -c ''"),
        (lambda: os.system(f"{PYTHON} -c ''"), f"{PYTHON} -c ''"),
        (lambda: os.popen(f"{PYTHON} -c ''").close(), f"{PYTHON} -c ''"),
        (lambda: os.waitpid(os.posix_spawn(PYTHON, ARGV, os.environ), 0), f"{PYTHON} -c ''"),
        (lambda: os.spawnv(os.P_WAIT, PYTHON, ARGV), "test_processes.py:"),
        (lambda: child(lambda: os.execv(PYTHON, ARGV)), "test_processes.py:"),
        (lambda: child(lambda: subprocess.run(ARGV, check=True)), "test_processes.py:"),
        (lambda: child(use_device), "test_processes.py:"),
        (lambda: child(lambda: child(use_device)), "test_processes.py:"),
        (lambda: fork_method(use_device), "the worker"),
        (lambda: fork_method(print, "spawn"), "the worker"),
        (lambda: fork_method(print, "forkserver"), "the worker"),
        (lambda: subprocess.run(["bash", "-c", f"exec {PYTHON} -c ''"], check=True), "bash -c"),
    ],
)
def test_a_process_that_may_use_the_device_is_named(cuda: torch.device, work: Any, name: str) -> None:
    (process,) = unwatched(work)
    assert name in process.name and not process.watched and process.host_syncs is None


def with_workers() -> None:
    data = torch.utils.data.TensorDataset(torch.arange(8.0))
    assert sum(batch.sum() for (batch,) in torch.utils.data.DataLoader(data, 2, num_workers=2)) == 28


@pytest.mark.parametrize(
    "work",
    [
        lambda: subprocess.run(["uname", "-a"], check=True),
        lambda: subprocess.run("ls | wc -l && LANG=C uname >/dev/null 2>&1", shell=True, check=True),
        lambda: os.system("true"),
        lambda: child(lambda: torch.ones(3).sum()),
        lambda: child(lambda: os.execv("/bin/true", ["true"])),
        lambda: fork_method(lambda: None),
        lambda: shutil.which("python3"),
        with_workers,
    ],
)
def test_what_cannot_or_does_not_use_the_device_is_not_named(cuda: torch.device, work: Any) -> None:
    use_device()
    assert unwatched(work) == ()


@pytest.mark.parametrize(
    ("command", "is_known"),
    [
        (["git", "status"], True),
        (["/usr/bin/gcc-12", "-c", "a.c"], True),
        (["x86_64-linux-gnu-gcc"], False),
        (["sh", "-c", "echo a; python x.py"], False),
        (["sh", "-c", "echo $(python x.py)"], False),
        (["sh", "-c", "echo 'a"], False),
        (["bash", "run.sh"], False),
        (["env", "python"], False),
        (["make"], False),
        ([], False),
        ([PYTHON, "-c", "from multiprocessing.resource_tracker import main;main(3)"], True),
        ([PYTHON, "/x/torch/_inductor/compile_worker/__main__.py", "--workers=2"], True),
        (["nvidia-smi", "-q"], True),
    ],
)
def test_commands_are_known_by_name(command: list[str], is_known: bool) -> None:
    assert cannot_use_device(command) is is_known


def test_a_budget_over_a_process_that_nobody_watched_is_open(cuda: torch.device) -> None:
    watching = watch_host_syncs("cuda", budgets={"": 1, "step": 0})
    watching.__enter__()
    use_device()
    subprocess.run(ARGV, check=True)
    with pytest.raises(
        Inconclusive, match=r"the whole, step.* step was never entered .* nobody watched .*-c"
    ) as caught:
        watching.__exit__(None, None, None)
    assert "nothing ran" not in str(caught.value)


def test_a_command_that_is_not_there_started_nothing(cuda: torch.device) -> None:
    with watch_host_syncs("cuda") as watch, pytest.raises(FileNotFoundError):
        subprocess.run(["no-such-command"], check=True)
    assert watch.report().unwatched == ()


def test_a_fork_cannot_use_a_device_that_its_parent_used_as_on_cuda(cuda: torch.device) -> None:
    x = torch.ones(2, device="cuda")

    def refused() -> None:
        for work in (lambda: x + 1, lambda: torch.ones(1, device="cuda"), x.item, torch.cuda.synchronize):
            for _ in range(2):
                with pytest.raises(RuntimeError, match="Cannot re-initialize CUDA in forked subprocess"):
                    work()
        assert torch.ones(2).sum() == 2 and x.shape == (2,)

    assert child(refused) == 0
    assert x.sum().item() == 2


@pytest.mark.parametrize(
    ("ask", "may_use"),
    [
        (torch.cuda.device_count, True),
        (torch.cuda.is_initialized, True),
        (torch.cuda.is_available, False),
        (torch.cuda.get_device_name, False),
        (torch.cuda.current_device, False),
        (torch.cuda.init, False),
    ],
)
def test_asking_for_the_device_keeps_it_from_forks_as_on_cuda(
    cuda: torch.device, ask: Callable[[], object], may_use: bool
) -> None:
    getattr(torch.cuda, ask.__name__)()
    assert (child(use_device) == 0) is may_use


def test_waits_of_a_fork_are_in_no_count_of_its_parent(cuda: torch.device) -> None:
    with watch_host_syncs("cuda") as watch:
        assert child(use_device) == 0
    assert watch.host_syncs == 0 and watch.report().used_device is False


def test_what_noticed_processes_is_gone_after_the_last_watch(cuda: torch.device) -> None:
    before = os.system, os.execv, subprocess.Popen.__init__, multiprocessing.Process.start
    with watch_host_syncs("cuda") as outer:
        with watch_host_syncs("cuda") as inner:
            subprocess.run(ARGV, check=True)
        subprocess.run(ARGV, check=True)
    assert (len(inner.report().unwatched), len(outer.report().unwatched)) == (1, 2)
    assert before == (os.system, os.execv, subprocess.Popen.__init__, multiprocessing.Process.start)


def tensor_of_device(_: object = None) -> torch.Tensor:
    return torch.ones(2, device="cuda")


@pytest.mark.parametrize(
    "nest", [lambda x: x, lambda x: [{"a": x}], lambda x: torch.nn.Parameter(x), lambda x: x.untyped_storage()]
)
def test_a_device_tensor_is_refused_by_whatever_sends_it_to_another_process(cuda: torch.device, nest: Any) -> None:
    value, context = nest(tensor_of_device()), multiprocessing.get_context("fork")
    with pytest.raises(NotSimulated, match="sent to another process"):
        context.Pipe()[0].send(value)
    for queue in (context.Queue(), context.JoinableQueue(), context.SimpleQueue(), torch.multiprocessing.Queue()):
        with pytest.raises(NotSimulated, match="sent to another process"):
            queue.put(value)
        queue.put((1, torch.ones(2)))
        assert queue.get()[1].device.type == "cpu"
    with context.Pool(1) as pool, pytest.raises(NotSimulated):
        pool.map(len, [value])
    with pytest.raises(NotSimulated):
        multiprocessing.get_context("spawn").Process(target=print, args=(value,)).start()


def test_a_device_tensor_that_a_worker_returns_is_refused_by_name(cuda: torch.device) -> None:
    context = multiprocessing.get_context("fork")
    with (
        ProcessPoolExecutor(1, mp_context=context) as pool,
        pytest.raises(NotSimulated, match="sent to another process"),
    ):
        pool.submit(tensor_of_device).result()
    with context.Pool(1) as pool, pytest.raises(MaybeEncodingError, match="NotSimulated"):
        pool.map(tensor_of_device, [1])
