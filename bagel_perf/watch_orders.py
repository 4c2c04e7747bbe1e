"""Orders of watches: how one reaches the processes that are to be watched, and how a process gives one itself.

``bagel-perf syncs`` gives the order of the command that it starts. Servers that load plugins, and drivers of a running
cluster, do without: where ``BAGEL_PERF_WATCH`` names a folder that is not there yet, the first process of theirs makes
it, gives an order of counting, and has the processes that it starts armed as ``syncs`` would.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
import sysconfig
import time
from contextlib import suppress
from pathlib import Path

from bagel_perf.arming import sitecustomize
from bagel_perf.records.errors import UsageError
from bagel_perf.records.following import ORDER, ROOT, VARIABLE, WatchOrder
from bagel_perf.records.store import write_json_atomic
from bagel_perf.rules.programs import readable

ARMING = str(Path(sitecustomize.__file__).parent)
PATIENCE_S = 5.0
"""For another process, which made the folder just now, to give its order."""
_POLL_S = 0.01


def variables(folder: str, python_path: str) -> dict[str, str]:
    """The variables that arm every Python which is started with them; ``python_path`` is what it has besides."""
    # An empty entry is the current folder.
    others = [each for each in python_path.split(os.pathsep) if each != ARMING] if python_path else []
    return {"PYTHONPATH": os.pathsep.join([ARMING, *others]), VARIABLE: folder}


def packages() -> str:
    """The folder of the packages that this Python has."""
    return sysconfig.get_paths()["platlib"]


def has_gpu() -> bool:
    """Whether this machine has one, and its processes may see it; CUDA stays untouched."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    try:
        import pynvml

        pynvml.nvmlInit()
        return bool(pynvml.nvmlDeviceGetCount())
    except Exception:  # no library, no driver, no permission, or a library of another driver
        return False


def write_order(order: WatchOrder) -> None:
    """Lays an order into its folder."""
    write_json_atomic(Path(order.folder, ORDER), order.to_json())


def watch_where_asked() -> str:
    """Watches this process, and those that it will start, where the environment asks for it; gives the folder, or "".

    It may be called at any time and often. What hinders it is logged, and reaches nobody else.
    """
    folder = os.environ.get(VARIABLE, "")
    try:
        if not folder or sitecustomize.is_armed() or _find_order(folder):
            return folder
    except Exception as problem:
        logging.getLogger(__name__).warning("bagel-perf: host syncs are not watched: %s", problem)
    return ""


def _find_order(folder: str) -> bool:
    """Arms this process under the order in a folder, giving one where there is no folder; False for an ended watch."""
    python_path = os.environ.get("PYTHONPATH", "")
    if not Path(folder, ORDER).exists():
        if ARMING in python_path.split(os.pathsep):  # there was an order when this process was started
            return False
        _give_order(Path(folder))
    root = Path(folder, ROOT).read_text(encoding="utf-8")
    if not Path(f"/proc/{root}").exists():
        raise UsageError("that watch has ended", value=folder, remedy=f"name a new folder in {VARIABLE}")
    os.environ.update(variables(folder, python_path))
    sitecustomize.arm()
    return sitecustomize.is_armed()


def _give_order(folder: Path) -> None:
    if not folder.is_absolute():
        raise UsageError(f"{VARIABLE} is no absolute path", value=folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        if any(each.name != ROOT for each in folder.iterdir()) and not (folder / ROOT).exists():
            raise UsageError(f"{VARIABLE} names a folder of something else", value=folder, remedy="name a new one")
        with open(folder / ROOT, "x", encoding="utf-8") as file:
            file.write(str(os.getpid()))
        subject = readable(shlex.join(sys.orig_argv))
        is_there = has_gpu()
        write_order(
            WatchOrder(folder=str(folder), packages=packages(), subject=subject, has_gpu=is_there, profile=False)
        )
    _wait_for(folder / ORDER)


def _wait_for(path: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while not path.exists():
        if time.monotonic() > end:
            raise UsageError("nobody gave an order", value=path, remedy=f"name a new folder in {VARIABLE}")
        time.sleep(_POLL_S)
