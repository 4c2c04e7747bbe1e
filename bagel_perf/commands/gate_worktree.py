"""A revision of the repository that we stand in, checked out into a folder of its own for a while."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bagel_perf.schema.errors import UsageError

WORKER_FILE = Path("bagel_perf/workload/worker.py")
LOCAL_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")
"""Set where git runs us as a hook: they would name another tree than the folder that we ask about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A checkout, by the folder on top of it."""

    root: Path

    @classmethod
    def around(cls, folder: Path) -> Repository:
        """The checkout that a folder is part of; ``UsageError`` where it is part of none."""
        try:
            return cls(root=Path(_git(folder, "rev-parse", "--show-toplevel")))
        except subprocess.CalledProcessError as problem:
            remedy = "a revision is measured from inside a checkout; gate result RESULT judges what was measured before"
            raise UsageError("no git repository here", value=folder, remedy=remedy) from problem

    def commit(self, revision: str) -> str:
        """The hash of the commit that a revision names; ``UsageError`` where there is none."""
        try:
            return _git(self.root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        except subprocess.CalledProcessError as problem:
            remedy = "a shallow clone lacks older ones: git fetch --unshallow"
            allowed = "what git rev-parse knows"
            raise UsageError("unknown revision", value=revision, allowed=allowed, remedy=remedy) from problem

    @contextlib.contextmanager
    def worktree(self, commit: str) -> Iterator[Path]:
        """A folder with the tree of a commit, which is gone in the end, whatever ends it."""
        folder = Path(tempfile.mkdtemp(prefix="bagel-perf-"))
        tree = folder / commit[:7]
        try:
            self._check_out(tree, commit)
            yield tree
        finally:
            with _undisturbed():
                self._remove(tree)
                shutil.rmtree(folder, ignore_errors=True)

    def _remove(self, tree: Path) -> None:
        try:
            _git(self.root, "worktree", "remove", "--force", "--force", str(tree))
        except subprocess.CalledProcessError:  # it is there in part, or not at all
            shutil.rmtree(tree, ignore_errors=True)
            with contextlib.suppress(subprocess.CalledProcessError):
                _git(self.root, "worktree", "prune")

    def _check_out(self, tree: Path, commit: str) -> None:
        try:
            _git(
                self.root, "-c", "core.hooksPath=/dev/null", "worktree", "add", "--detach", "--quiet", str(tree), commit
            )
        except subprocess.CalledProcessError as problem:
            lines = str(problem.stderr).strip().splitlines()
            raise UsageError(
                "revision cannot be checked out", value=commit, allowed=lines[-1] if lines else ""
            ) from None


def check_has_worker(tree: Path, name: str) -> None:
    """``UsageError`` where a tree holds nothing that could be measured."""
    if not (tree / WORKER_FILE).is_file():
        raise UsageError("tree cannot be measured", value=name, allowed=f"it has no {WORKER_FILE}")


def _git(folder: Path, *arguments: str) -> str:
    """What git says; in a session of its own, so that Ctrl-C does not end it halfway."""
    environment = {name: value for name, value in os.environ.items() if name not in LOCAL_VARIABLES}
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            env=environment,
            start_new_session=True,
        )
    except OSError as problem:
        raise UsageError("git cannot be run", value=command[0], allowed=problem.strerror or "") from problem
    return done.stdout.strip()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Signals that would end us wait until the end."""
    ours = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ours)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
