"""Finds the frames that a report names, tells the program's own code from code that it imports, and names their files.

Whose a file is, first match:

* installed: Python's own library; what lies under a ``site-packages`` or ``dist-packages`` (the environment's, the
  user's, the system's); a distribution that was installed into any other folder, by the record it left there; and what
  runs programs for this package.
* elsewhere: what the program imports from outside of it: under a folder of PYTHONPATH, in an archive, in a folder of
  foreign code (``third_party``, ``vendor``, ...), in a project of its own (``pyproject.toml``, ``setup.py`` or
  ``.git``) inside the program's folders, or outside of these, as an editable install is; and generated code.
* own: under the folder of the script, the folder that the process started in, or the project around the script; and
  what was typed in.

"The user's own line" is the innermost one of the program; where none is on the stack, the innermost from elsewhere.
Names of files hold no folders of the machine.
"""

from __future__ import annotations

import functools
import linecache
import os
import sys
import sysconfig
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path
from types import CodeType, FrameType, TracebackType

import torch

from bagel_perf.rules.own_folders import MEASURING_FOLDERS

OWN, ELSEWHERE, INSTALLED = range(3)

_PACKAGE = Path(__file__).parents[1]
_MEASURING = (
    *MEASURING_FOLDERS,
    *(str(_PACKAGE / "subjects" / name) for name in ("file_bench.py", "files.py")),
)
"""What measures somebody's program; BAGEL, which is measured like any other, is none of it."""
_PROCESSES = tuple(
    str(_PACKAGE / name) for name in ("arming/sitecustomize.py", "followed.py", "watched.py", "worker.py")
)
_RUNNERS = (*_MEASURING, *_PROCESSES, *(str(_PACKAGE / name) for name in ("pytest_plugin.py", "__main__.py")))
_STANDARD = tuple(
    f"{folder.rstrip(os.sep)}{os.sep}"
    for folder in dict.fromkeys((*map(sysconfig.get_path, ("stdlib", "platstdlib")), os.path.dirname(os.__file__)))
)
_PACKAGES = ("site-packages", "dist-packages")
_FOREIGN = frozenset(
    ("vendor", "_vendor", "vendored", "third_party", "thirdparty", "third-party", "3rdparty", "external", "extern")
)
_PROJECT = ("pyproject.toml", "setup.py", ".git")
_TYPED = ("<stdin", "<ipython-input", "<python-input", "<console")
_ARCHIVES = (".zip", ".whl", ".egg", ".pyz")


def _absolute(start: str, path: str) -> str:
    """A path from the folder of the start; nothing where that is gone and the path depends on it."""
    whole = os.path.join(start, path)
    return os.path.normpath(whole) if os.path.isabs(whole) else ""


class Ownership:
    """Sorts files by whose they are, each once; made when watching begins, for the program that runs then."""

    def __init__(self) -> None:
        self.start = current_folder()
        self._script = _absolute(self.start, sys.argv[0]) if sys.argv and sys.argv[0] else ""
        folders = (self._script_folder(), self.start)
        project = _project_around(folders[0])
        self._roots = tuple(dict.fromkeys(each for each in (*folders, project) if each.strip(os.sep)))
        imported = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        paths = (_absolute(self.start, each) for each in imported if each)
        self._imported = tuple(each for each in paths if each and each not in self._roots)
        self._known: dict[str, int] = {}

    def of(self, file: str) -> int:
        """OWN, ELSEWHERE or INSTALLED."""
        found = self._known.get(file)
        if found is None:
            found = self._known[file] = self._sort(file)
        return found

    def _script_folder(self) -> str:
        is_folder = os.path.isdir(self._script) or self._script.endswith(_ARCHIVES)
        return self._script if is_folder else os.path.dirname(self._script)

    def _sort(self, file: str) -> int:
        if file.startswith("<"):
            if file.startswith("<frozen "):
                return INSTALLED
            return OWN if file.startswith(_TYPED) else ELSEWHERE
        file = os.path.normpath(os.path.join(self.start, file))
        if file.startswith(_RUNNERS) or is_installed(file):
            return INSTALLED
        if file in linecache.cache and not os.path.exists(file):  # typed into a notebook
            return OWN if _archive_of(file) is None else ELSEWHERE
        root = max((each for each in self._roots if is_under(file, each)), key=len, default=None)
        if _is_distributions(file):
            return INSTALLED
        if root is None or self._is_foreign(file, root):
            return ELSEWHERE
        return OWN

    def _is_foreign(self, file: str, root: str) -> bool:
        """Whether a file under a root of the program is somebody else's."""
        if any(is_under(file, each) and is_under(each, root) for each in self._imported):
            return True
        if _archive_of(file) not in (None, self._script):
            return True
        inner = Path(os.path.relpath(file, root)).parts[:-1]
        folders = (os.path.join(root, *inner[: i + 1]) for i in range(len(inner)))
        return not _FOREIGN.isdisjoint(inner) or any(map(_is_project, folders))


class FileNames:
    """Names files as a report may: a module's from its package, others from the current folder or ``sys.path``."""

    def __init__(self) -> None:
        self._start = current_folder()
        self._known: dict[str, str] = {}

    def of(self, file: str) -> str:
        """The name of a file, without a folder of the machine."""
        found = self._known.get(file)
        if found is None:
            found = self._known[file] = self._name(file)
        return found

    def _name(self, file: str) -> str:
        if file.startswith("<"):
            return file if os.sep not in file else f"<{os.path.basename(file)}"
        if not os.path.isabs(file):
            if not file.startswith(os.pardir):
                return os.path.normpath(file)
            file = os.path.normpath(os.path.join(self._start, file))
        for folder in self._folders(file):
            if folder.strip(os.sep) and is_under(file, folder):
                return os.path.relpath(file, folder)
        return _name_of_module(file) or os.path.basename(file)

    def _folders(self, file: str) -> Iterator[str]:
        yield _packages_of(file)
        yield from _STANDARD
        yield self._start
        yield current_folder()
        yield from sorted(filter(os.path.isabs, sys.path), key=len, reverse=True)


def current_folder() -> str:
    """The current folder, "" where it was deleted."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def is_under(file: str, folder: str) -> bool:
    """Whether a path lies in a folder, or is it."""
    return file == folder or file.startswith(folder.rstrip(os.sep) + os.sep)


def is_installed(file: str) -> bool:
    """Whether a file is of Python's own library or in a folder for packages."""
    return bool(_packages_of(file)) or file.startswith(_STANDARD)


def _packages_of(file: str) -> str:
    """The innermost folder for packages around a file, "" for none."""
    parts = file.split(os.sep)[:-1]
    last = max((i for i, part in enumerate(parts) if part in _PACKAGES), default=-1)
    return os.sep.join(parts[: last + 1])


def _archive_of(file: str) -> str | None:
    """The archive that a file is in."""
    parts = file.split(os.sep)[:-1]
    for i, part in enumerate(parts):
        path = os.sep.join(parts[: i + 1])
        if part.endswith(_ARCHIVES) and os.path.isfile(path):
            return path
    return None


@functools.cache
def _is_project(folder: str) -> bool:
    return any(os.path.exists(os.path.join(folder, name)) for name in _PROJECT)


def _project_around(folder: str) -> str:
    """The project that a folder is in, not above the user's home; "" for none."""
    home = os.path.expanduser("~")
    while folder.strip(os.sep) and folder != home and not is_installed(os.path.join(folder, "x")):
        if _is_project(folder):
            return folder
        folder = os.path.dirname(folder)
    return ""


def _is_distributions(file: str) -> bool:
    """Whether the folder on ``sys.path`` that a file was imported from has a distribution that records it."""
    entries = [each for each in sys.path if os.path.isabs(each) and is_under(file, each)]
    if not entries:
        return False
    entry = max(entries, key=len)
    top = os.path.relpath(file, entry).split(os.sep)[0]
    return top in _recorded(entry)


@functools.cache
def _recorded(folder: str) -> frozenset[str]:
    """Top folders and modules of the distributions that were installed into a folder; not those linked from it."""
    found: set[str] = set()
    with suppress(Exception):  # a record of a form that nobody foresaw
        for distribution in distributions(path=[folder]):
            record = distribution.read_text("RECORD") or ""
            found.update(line.split(",")[0].split("/")[0] for line in record.splitlines() if line)
    return frozenset(found)


def _name_of_module(file: str) -> str:
    """From the name under which a file was imported; "" where it was not."""
    for name, module in list(sys.modules.items()):
        if getattr(module, "__file__", None) == file and name != "__main__":
            depth = name.count(".") + (os.path.basename(file) == "__init__.py") + 1
            return os.path.join(*file.split(os.sep)[-depth:])
    return ""


def entries_of(traceback: TracebackType | None) -> Iterator[TracebackType]:
    """The entries of a traceback, innermost last."""
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


INNER_FOLDERS = (
    f"{Path(torch.__file__).parent}{os.sep}",
    *_MEASURING,
)
_BOTTOMS = tuple(str(_PACKAGE / name) for name in ("watched.py", "worker.py"))
"""What calls the stages of a target, and BAGEL; below it there is nobody's program."""


class Folders:
    """Sorts frames by the folder of their code; remembers code objects, so keep it no longer than it is of use."""

    def __init__(self) -> None:
        # By the identity of code objects, which are kept alive so that it stays theirs.
        self._inner: dict[int, tuple[CodeType, bool]] = {}
        self._owners: dict[int, tuple[CodeType, int]] = {}
        self._ownership = Ownership()

    def user_frame(self, frame: FrameType | None) -> FrameType | None:
        """The innermost frame outside torch, what measures in this package, and what calls a user's stages."""
        while frame is not None:
            code = frame.f_code
            found = self._inner.get(id(code))
            if found is None:
                name = code.co_filename
                found = self._inner[id(code)] = (code, name.startswith(INNER_FOLDERS) or name.startswith("<frozen "))
            if not found[1]:
                return None if code.co_filename in _BOTTOMS else frame
            frame = frame.f_back
        return None

    def caller_of(self, frame: FrameType | None) -> FrameType | None:
        """The innermost frame of the program; else of what it imports from elsewhere; see ``ownership``."""
        elsewhere = None
        while frame is not None:
            owner = self._owner_of(frame.f_code)
            if owner == OWN:
                return frame
            if owner == ELSEWHERE and elsewhere is None:
                elsewhere = frame
            if owner == INSTALLED and frame.f_code.co_filename in _BOTTOMS:
                break
            frame = frame.f_back
        return elsewhere

    def is_installed(self, code: CodeType) -> bool:
        """Whether code is an installed package's."""
        return self._owner_of(code) == INSTALLED

    def _owner_of(self, code: CodeType) -> int:
        found = self._owners.get(id(code))
        if found is None:
            found = self._owners[id(code)] = (code, self._ownership.of(code.co_filename))
        return found[1]


class Lines:
    """Knows the lines of frames; Python's own ``f_lineno`` reads all of a function up to there each time."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[CodeType, list[int], list[int]]] = {}

    def of(self, frame: FrameType) -> int:
        """The line that a frame is at."""
        code = frame.f_code
        known = self._known.get(id(code))
        if known is None:
            lines = list(code.co_lines())
            known = (code, [start for start, _, _ in lines], [line or 0 for _, _, line in lines])
            self._known[id(code)] = known
        _, starts, numbers = known
        return numbers[max(bisect_right(starts, frame.f_lasti) - 1, 0)]


def line_of(frame: FrameType) -> str:
    """FILE:LINE that a frame is at."""
    return f"{readable_path(frame.f_code.co_filename)}:{frame.f_lineno}"


def readable_path(path: str) -> str:
    """``path`` as ``FileNames`` has it: a report names no folder of the machine that made it."""
    return FileNames().of(path)
