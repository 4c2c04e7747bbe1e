"""What the commands share: where JSON and text for people go, paths that have to exist or to differ, BAGEL's requests.

Output that nobody takes is lost, and nothing else is: a closed pipe or a full disk ends no measurement. Where no size
is named, BAGEL's request is small without a GPU, as a CPU takes minutes for what a GPU does in seconds.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO, cast

from bagel_perf.records.bagel import Request, parse_resolution
from bagel_perf.records.errors import RunFailed, UsageError
from bagel_perf.records.plans import FIRST_LOOK, ROUNDS_PER_PROCESS
from bagel_perf.records.results import is_result, result_file
from bagel_perf.records.store import write_json_atomic, writing
from bagel_perf.report.inert import json_line, print_line


class LenientStream:
    """A text stream that goes on after it failed, without a word; ``problem`` is the first failure."""

    def __init__(self, stream: TextIO | None) -> None:
        self.problem: Exception | None = None if stream is not None else OSError(errno.EBADF, "it is closed")
        self._stream: TextIO = open(os.devnull, "w", encoding="utf-8") if stream is None else stream  # noqa: SIM115

    def write(self, text: str) -> int:
        """As of a text stream."""
        self._try(self._stream.write, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """As of a text stream."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """As of a text stream."""
        self._try(self._stream.flush)

    def _try(self, function: Any, *args: Any) -> None:
        if self.problem is not None:
            return
        try:
            function(*args)
        except UnicodeError:
            raise
        except (OSError, ValueError) as problem:
            self.problem = problem
            self._silence()

    def _silence(self) -> None:
        """What is left in its buffer goes nowhere when Python ends, which would say so otherwise, and exit with 120."""
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def lenient_streams() -> Iterator[None]:
    """Lends ``sys.stdout`` and ``sys.stderr`` to lenient ones; takes 0, 1 and 2 where they are closed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free, which no file of ours should get
    before = sys.stdout, sys.stderr
    lent = LenientStream(sys.stdout), LenientStream(sys.stderr)
    sys.stdout, sys.stderr = cast(TextIO, lent[0]), cast(TextIO, lent[1])
    try:
        yield
    finally:
        for stream in lent:
            stream.flush()
        sys.stdout, sys.stderr = before


def print_error(error: Exception) -> None:
    """One line on stderr."""
    print_line(f"error: {error}", sys.stderr)


def check_stdout() -> None:
    """Raises ``RunFailed`` where stdout is known to take nothing."""
    problem = getattr(sys.stdout, "problem", None)
    if problem is not None:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise RunFailed("stdout cannot be written", allowed=reason, remedy="--json FILE keeps what was measured")


def given_options(context: Any) -> frozenset[str]:
    """Options that stand on the command line, as ``--check-saving``; ``context`` is typer's."""
    given = (name for name in context.params if context.get_parameter_source(name).name == "COMMANDLINE")
    names = {parameter.name: parameter.opts for parameter in context.command.params}
    return frozenset(option for name in given for option in names.get(name, ()) if option.startswith("--"))


def existing(path: Path, what: str, *, folder: bool) -> Path:
    """``path`` if it is there; ``UsageError`` names what is missing."""
    if not (path.is_dir() if folder else path.is_file()):
        raise UsageError(f"{what} does not exist", value=path)
    return path


def parse_pairs(pairs: str | None, resolve: float | None, default_pct: float) -> tuple[int | None, float | None]:
    """Number of rounds to begin with, and what as many more as it takes are to resolve."""
    if pairs == "auto":
        return FIRST_LOOK * ROUNDS_PER_PROCESS, default_pct if resolve is None else resolve
    if resolve is not None:
        raise UsageError("--resolve says when --pairs auto stops", value=resolve, remedy="add --pairs auto")
    if pairs is None:
        return None, None
    if not pairs.removeprefix("-").isdecimal():
        raise UsageError("number of pairs is not understood", value=pairs, allowed="a number, or auto")
    return int(pairs), None


def listed(texts: Iterable[str]) -> list[str]:
    """The members of a list that was given with commas, repeated, or both."""
    parts = [part.strip() for text in texts for part in text.split(",")]
    if not all(parts):
        raise UsageError("a list has an empty member", value=",".join(texts), allowed="one comma between two names")
    return parts


def only_one(resolutions: list[str]) -> str:
    """The resolution that was given; ``UsageError`` for more than one."""
    if len(resolutions) > 1:
        given = ", ".join(resolutions)
        raise UsageError("syncs watches one resolution", value=given, remedy="run it once for each --res")
    return resolutions[0]


def stream_for_people(json_path: str | None) -> TextIO:
    """stdout, or stderr where stdout carries the JSON."""
    return sys.stderr if json_path == "-" else sys.stdout


def write_json(json_path: str | None, data: dict[str, Any]) -> None:
    """Writes JSON where ``--json`` says: nowhere, stdout, or a file, which is replaced in one step."""
    if json_path == "-":
        print(json_line(json.dumps(data, indent=1)), flush=True)
        check_stdout()
    elif json_path is not None:
        path = Path(json_path)
        if path.is_symlink() or (path.exists() and not path.is_file()):  # a device or pipe is written, never replaced
            with writing(path):
                path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        else:
            write_json_atomic(path, data)


def check_json_path(json_path: str | None) -> None:
    """Raises ``UsageError`` before anything runs if the JSON could not be written in the end."""
    if json_path == "-":
        check_stdout()
    elif json_path is not None:
        path = writable(Path(json_path), "--json", empty=not json_path)
        if path.is_file() and not _may_be_replaced(path):
            allowed = "JSON of ours that is no result of a measurement"
            raise UsageError(
                "a file is in the way of the JSON", value=path, allowed=allowed, remedy="choose another --json"
            )


def _may_be_replaced(path: Path) -> bool:
    """Whether a file is empty, or a report of ours that can be had again."""
    with writing(path), path.open("rb") as file:
        begin = file.read(1000)
        return not begin.strip() or (b'"schema": "bagel-perf.' in begin and not is_result(path))


def writable(path: Path, option: str, *, empty: bool = False) -> Path:
    """``path`` if a file can be written there; ``UsageError`` names the option."""
    what = {"--json": "JSON", "--keep-trace": "trace"}.get(option, option) + " cannot be written there"
    remedy = f"choose another {option}"
    if not empty and (problem := _impossible(path)):
        raise UsageError(what, value=path, allowed=problem, remedy=remedy)
    if empty or path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        allowed = "a file in an existing folder that may be written" + (", or - for stdout" * (option == "--json"))
        raise UsageError(what, value="" if empty else path, allowed=allowed, remedy=remedy)
    return path


def _impossible(path: Path) -> str:
    """Why no file can have this name: it is too long, or its links go round."""
    try:
        os.stat(path)
    except OSError as problem:
        if problem.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            return problem.strerror or str(problem)
    return ""


def check_outputs(outputs: Mapping[str, Path | None], inputs: Iterable[Path] = ()) -> None:
    """Raises ``UsageError`` where an output, by its option, would replace an input or another output.

    An input that is a folder stands for its result. Links are followed; a device or pipe may be written twice.
    """
    read = {_identity(_input_file(path)) for path in inputs}
    options: dict[object, str] = {}
    for option, path in outputs.items():
        if path is None or (path.exists() and not path.is_file()):
            continue
        found = _identity(path)
        if found in read:
            remedy = "choose another path"
            raise UsageError("output would replace what is read", value=f"{option} {path}", remedy=remedy)
        if found in options:
            value, remedy = f"{options[found]} and {option} {path}", "choose another path for one of them"
            raise UsageError("two outputs go to one file", value=value, remedy=remedy)
        options[found] = option


def json_file(json_path: str | None) -> Path | None:
    """The file that ``--json`` names, None for none and for stdout."""
    return None if json_path in (None, "-") else Path(json_path or "")


def _input_file(path: Path) -> Path:
    try:
        return result_file(path)
    except OSError:  # its reader says why
        return path


def _identity(path: Path) -> object:
    """Equal for all names of one file."""
    try:
        found = path.stat()
    except OSError:
        return os.path.realpath(path)
    return found.st_dev, found.st_ino


ON_GPU = ((1024, 1024),)
ON_CPU = ((256, 256),)


def requests_of(resolutions: Sequence[str], device: str, **asked: Any) -> tuple[Request, ...]:
    """Gives one of each resolution, or of the size that the device is for; ``asked`` are other fields of a request."""
    sizes = tuple(map(parse_resolution, resolutions)) or default_sizes(device)
    return tuple(Request(width=width, height=height, **asked) for width, height in sizes)


def default_sizes(device: str) -> tuple[tuple[int, int], ...]:
    """Gives (width, height) of the default request on ``auto``, ``cuda`` or ``cpu``."""
    return ON_CPU if device == "cpu" or (device == "auto" and not has_gpu()) else ON_GPU


def has_gpu() -> bool:
    """Says whether the driver knows a GPU, without torch, which takes seconds to import."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount()) > 0
    except Exception:  # no library, no driver, no permission: for torch that is no GPU either
        return False
