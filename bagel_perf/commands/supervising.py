"""Runs a program on this terminal: signals sent to this process reach it, and it does not outlive this process.

Signals that another process sends are passed on at once; those of the terminal have reached the program already.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from bagel_perf.launch import dying_with_parent

GRACE_S = 2.0
"""For a program to end after Ctrl-C, before it is asked again."""
FINISH_S = 120.0
"""For it to end then, and for the profile of a long run to be read."""
POLL_S = 0.5
"""A child that ended before its signal could be waited for is found so much later."""
PASSED_ON = {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT}


def run_supervised(arguments: Sequence[str], stdout: TextIO | None, descriptors: Sequence[int]) -> int:
    """Runs a command to its end; gives its exit code, or minus the signal that ended it.

    Raises ``OSError`` where it cannot be started.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*PASSED_ON, signal.SIGCHLD})
    try:
        prepare = _preparation(before)
        process = subprocess.Popen(arguments, stdout=stdout, pass_fds=descriptors, preexec_fn=prepare)
        try:
            _wait(process)
        except KeyboardInterrupt:
            _end(process)
        return process.wait()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _preparation(mask: set[signal.Signals | int]) -> Callable[[], None]:
    """What the child does before it becomes the program."""
    die = dying_with_parent()

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        die()

    return prepare


def _wait(process: subprocess.Popen[bytes], patience_s: float = float("inf")) -> bool:
    """Passes signals on until the program ends, or patience does; gives whether it has ended."""
    end = time.monotonic() + patience_s
    while process.poll() is None and time.monotonic() < end:
        info = signal.sigtimedwait({*PASSED_ON, signal.SIGCHLD}, min(POLL_S, patience_s))
        if info is not None and info.si_signo in PASSED_ON and info.si_code <= 0:  # else it is the kernel's
            process.send_signal(info.si_signo)
    return process.returncode is not None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Lets the program end and its report be written; a second Ctrl-C ends both at once.

    Ctrl-C has reached the program from the terminal, a signal to this process alone has not.
    """
    with contextlib.suppress(KeyboardInterrupt):
        if _wait(process, GRACE_S):
            return
        process.send_signal(signal.SIGINT)
        if _wait(process, FINISH_S):
            return
    process.kill()
