"""A user's Python file as a subject; it imports nothing of ours.

    def setup(device): ...                  # optional; once per process; what it returns is ``state``
    CASES = {"256": {...}, "1024": {...}}   # optional
    def run(state, case, seed): ...         # returns the output; or
    def stages(state, case, seed):          # yields (name, function of the previous stage's value)
        yield "encode", lambda _: ...
        yield "denoise", lambda x: ...
    TOLERANCE = "psnr:40"                   # optional; without it: equal to the bit

Any other function with the arguments of ``run`` is one, too, and a generator function is one like ``stages``.
"""

from __future__ import annotations

import difflib
import functools
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any, NoReturn

import torch

from bagel_perf.measure.stages import Stage, Subject
from bagel_perf.records.errors import BagelPerfError, RunFailed, UsageError, one_line
from bagel_perf.records.outlines import TOGETHER, WHOLE, Tolerance
from bagel_perf.records.targets import SUFFIX, UNKNOWN_CASE, name_problem

DEFAULT_CASE = "default"
ARGUMENTS = ("state", "case", "seed")
MAX_MESSAGE = 300
NO_CUDA = ("not compiled with CUDA", "Found no NVIDIA driver", "No CUDA GPUs are available")
DEVICE = "take the device from setup(device): only the counted run has a cuda device without a GPU"
_MARK = "__bagel_perf_file__"
"""In modules that were loaded here, the path of the file."""


class UserFile:
    """A file that was executed; what it declares was looked at, what it calls was not called yet."""

    def __init__(self, path: Path, module: ModuleType) -> None:
        self.path = path
        self._module = module
        self._cases = self._read_cases()
        self._tolerance = self._read_tolerance()
        self._stage_names: dict[tuple[str, str], tuple[str, ...]] = {}
        if (setup := self._named("setup")) is not None:
            self._check_callable("setup", setup, ("device",))

    @classmethod
    def load(cls, path: str | Path) -> UserFile:
        """Executes the file, as the module of its name, and with its own folder as the first to import from.

        Raises ``UsageError`` for a file that is missing, empty or no Python, or declares something wrong, ``RunFailed``
        where executing it fails.
        """
        path = Path(path)
        code, module = _compiled(path), _new_module(path.absolute())
        folder = str(path.absolute().parent)
        if sys.path[:1] != [folder]:
            sys.path.insert(0, folder)
        sys.modules[module.__name__] = module
        try:
            with _naming_line(path, "file fails"):
                exec(code, module.__dict__)
        except BaseException:
            del sys.modules[module.__name__]
            raise
        return cls(path, module)

    @property
    def cases(self) -> tuple[str, ...]:
        """Names of CASES, in their order; ``default`` alone where there is none."""
        return (DEFAULT_CASE,) if self._cases is None else tuple(self._cases)

    @property
    def tolerance(self) -> Tolerance | None:
        """How far outputs may be from the reference's; None: equal to the bit."""
        return self._tolerance

    def asked(self, case: str) -> dict[str, str | bool | int | float | None]:
        """Names and plain values of a case, as far as it has such; of anything else its type."""
        value = self._case(case)
        if value is None:
            return {}
        named = value if isinstance(value, Mapping) else {"value": value}
        return {one_line(str(name)): _plain(each) for name, each in named.items()}

    def set_up(self, device: torch.device) -> Any:
        """Calls the file's ``setup`` and gives what it returns; None without one."""
        setup = self._named("setup")
        if setup is None:
            return None
        with _naming_line(self.path, "setup fails"):
            return setup(device)

    def check(self, function: str | None) -> None:
        """Raises ``UsageError`` where the file has no such function, None for its own, or one that cannot be called."""
        self._function(function)

    def subject(self, function: str | None, state: Any, case: str, seed: int) -> Subject:
        """A case under a function, None for the file's own ``run`` or ``stages``.

        What a stage raises becomes ``RunFailed`` with its line. The names of stages are learned once a case, by running
        through the generator; after that its body runs inside the stage that it leads to, so that work in front of a
        ``yield`` is counted and timed.
        """
        name, found = self._function(function)
        value = self._case(case)
        if not _is_generator(found):
            stage = Stage(name=TOGETHER[0], run=self._guarded(name, lambda _: found(state, value, seed)))
            return Subject(stages=(stage,))
        names = self._stage_names.get((name, case))
        if names is None:
            with _naming_line(self.path, f"{name} fails"):
                names = self._stage_names[name, case] = tuple(self._named_stages(name, found(state, value, seed)))
        steps = _Steps(self, name, names, lambda: found(state, value, seed))
        return Subject(stages=tuple(Stage(name=stage, run=steps.runner(stage)) for stage in names))

    def stage(self, name: str, place: int, each: object) -> tuple[str, Callable[[Any], Any]]:
        """The name and the function that are yielded in a place; ``UsageError`` where something else is."""
        if not (isinstance(each, tuple) and len(each) == 2 and isinstance(each[0], str) and callable(each[1])):
            allowed = f'as: yield "encode", lambda value: ...; number {place} is {_shown(each)}'
            raise UsageError(f"{name} yields (name, function)", value=self.path, allowed=allowed)
        return each

    def _named_stages(self, name: str, yielded: Iterable[object]) -> Iterator[str]:
        names: list[str] = []
        for place, each in enumerate(yielded, start=1):
            stage, _ = self.stage(name, place, each)
            problem = name_problem(stage) or ("is yielded twice" if stage in names else "")
            problem = problem or (f"is the name of all stages together ({WHOLE})" if stage == WHOLE else "")
            if problem:
                raise UsageError(f"name of a stage {problem}", value=f"{name} of {self.path}: {stage!r}")
            names.append(stage)
            yield stage
        if not names:
            allowed = 'at least one stage, as: yield "encode", lambda value: ...'
            raise UsageError(f"{name} yields nothing", value=self.path, allowed=allowed)

    def _guarded(self, name: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @functools.wraps(function, assigned=(), updated=())
        def run(value: Any) -> Any:
            with _naming_line(self.path, f"{name} fails"):
                return function(value)

        return run

    def _case(self, name: str) -> Any:
        if self._cases is None and name == DEFAULT_CASE:
            return None
        if self._cases is None or name not in self._cases:
            remedy = f"name one of {self.path} with --case"
            raise UsageError(UNKNOWN_CASE, value=name, allowed=_or_nearest(name, self.cases), remedy=remedy)
        return self._cases[name]

    def _named(self, name: str) -> Any:
        return self._module.__dict__.get(name)

    def _function(self, name: str | None) -> tuple[str, Callable[..., Any]]:
        """(name, function) of what is to be called."""
        if name is None:
            name = self._own()
        found = self._named(name)
        if found is None:
            names = [key for key, value in self._module.__dict__.items() if inspect.isfunction(value)]
            allowed = _or_nearest(name, [key for key in names if not key.startswith("_")])
            raise UsageError(f"{self.path} has no such function", value=name, allowed=allowed)
        self._check_callable(name, found, ARGUMENTS)
        return name, found

    def _own(self) -> str:
        names = [name for name in ("run", "stages") if self._named(name) is not None]
        if len(names) != 1:
            what = "file has run and stages" if names else "file has neither run nor stages"
            remedy = f"leave one out, or name the function: {self.path}:{names[0] if names else 'NAME'}"
            remedy += "" if names else f"; a program is counted by syncs -- python {self.path}"
            raise UsageError(what, value=self.path, allowed="def run(state, case, seed), or stages", remedy=remedy)
        if _is_generator(self._named(names[0])) != (names == ["stages"]):
            what, other = ("run yields", "stages") if names == ["run"] else ("stages yields nothing", "run")
            raise UsageError(what, value=self.path, remedy=f"call it {other}, or name it: {self.path}:{names[0]}")
        return names[0]

    def _check_callable(self, name: str, found: object, arguments: tuple[str, ...]) -> None:
        value = f"{name} of {self.path}"
        needed = f"def {name}({', '.join(arguments)})"
        if inspect.isclass(found) or isinstance(found, torch.nn.Module) or not callable(found):
            raise UsageError(f"{_shown(found)} is no function", value=value, allowed=needed)
        if inspect.iscoroutinefunction(found) or inspect.isasyncgenfunction(found):
            raise UsageError("an async function cannot be run", value=value, allowed=needed)
        if arguments != ARGUMENTS and _is_generator(found):
            raise UsageError(f"{name} may not yield", value=value, allowed=needed)
        try:
            inspect.signature(found).bind(*arguments)
        except TypeError:
            given = f"it is def {name}{_signature(found)}"
            raise UsageError("a function has the wrong arguments", value=value, allowed=needed, remedy=given) from None
        except ValueError:  # of a function in C, which has none to look at
            return

    def _read_cases(self) -> dict[str, Any] | None:
        found = self._named("CASES")
        if found is None:
            return None
        if not isinstance(found, Mapping) or not found:
            allowed = 'names and values, as {"256": {...}}'
            is_empty = isinstance(found, Mapping)
            what = "CASES is empty" if is_empty else f"CASES is {_shown(found)}"
            raise UsageError(what, value=self.path, allowed=allowed, remedy="or leave it out" if is_empty else "")
        for name in found:
            problem = "is no str" if not isinstance(name, str) else name_problem(name)
            if problem:
                raise UsageError(f"name of a case {problem}", value=f"CASES of {self.path}: {name!r}")
        return dict(found)

    def _read_tolerance(self) -> Tolerance | None:
        found = self._named("TOLERANCE")
        try:
            return None if found is None else Tolerance.parse(found)
        except UsageError as problem:
            raise UsageError(f"TOLERANCE of {self.path}: {problem}") from None


class _Steps:
    """One run through a generator of stages, a step for each stage; each run of the first stage begins anew."""

    def __init__(
        self, file: UserFile, name: str, names: tuple[str, ...], begin: Callable[[], Iterator[object]]
    ) -> None:
        self._file = file
        self._name = name
        self._names = names
        self._begin = begin
        self._steps: Iterator[object] = iter(())

    def runner(self, stage: str) -> Callable[[Any], Any]:
        """The function of a stage."""
        return lambda value: self._run(stage, value)

    def _run(self, stage: str, value: Any) -> Any:
        place = self._names.index(stage)
        with _naming_line(self._file.path, f"stage {stage} fails"):
            if place == 0:
                self._steps = iter(self._begin())
            self._check(next(self._steps, None), place)
            output = self._function(value)
            if place == len(self._names) - 1 and next(self._steps, None) is not None:
                raise self._other(place + 2)
            return output

    def _check(self, each: object, place: int) -> None:
        if each is None:
            raise self._other(place)
        found, self._function = self._file.stage(self._name, place + 1, each)
        if found != self._names[place]:
            raise self._other(place + 1)

    def _other(self, number: int) -> UsageError:
        allowed = f"in one case always {', '.join(self._names)}"
        value = f"{self._name} of {self._file.path}, number {number}"
        return UsageError("stages differ from run to run", value=value, allowed=allowed)


def _compiled(path: Path) -> CodeType:
    """The code of a file; ``UsageError`` where it is no Python."""
    if path.suffix != SUFFIX:
        raise UsageError("file is no Python file", value=path, allowed="a name that ends in .py")
    try:
        source = path.read_bytes()
        if not source.strip():
            raise UsageError("file is empty", value=path, allowed="def run(state, case, seed), or stages")
        return compile(source, str(path.absolute()), "exec", dont_inherit=True)
    except OSError as problem:
        what = "file does not exist" if isinstance(problem, FileNotFoundError) else "file cannot be read"
        reason = "" if isinstance(problem, FileNotFoundError) else problem.strerror or str(problem)
        raise UsageError(what, value=path, allowed=reason) from None
    except (SyntaxError, ValueError, RecursionError) as problem:
        if isinstance(problem, BagelPerfError):
            raise
        line = getattr(problem, "lineno", None)
        place = f"{path}:{line}" if line else path
        raise UsageError("file is no Python", value=place, allowed=getattr(problem, "msg", str(problem))) from None


def _new_module(path: Path) -> ModuleType:
    """An empty module of the file's name, where pickle and dataclasses find it."""
    name = path.stem
    taken = sys.modules.get(name)
    if taken is not None and not hasattr(taken, _MARK):
        allowed = f"{name} is a module that this process uses"
        raise UsageError("file has the name of another module", value=path, allowed=allowed, remedy="rename it")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    setattr(module, _MARK, str(path))
    return module


@contextmanager
def _naming_line(path: Path, what: str) -> Iterator[None]:
    """Turns what the file raises into one line with its place; errors of ours and Ctrl-C pass."""
    try:
        yield
    except BagelPerfError:
        raise
    except (Exception, SystemExit) as problem:
        _fail(path, what, problem)


def _fail(path: Path, what: str, problem: BaseException) -> NoReturn:
    own = str(path.absolute())
    frames = [frame for frame in _frames(problem) if frame.tb_frame.f_code.co_filename != __file__]
    in_file = [frame for frame in frames if frame.tb_frame.f_code.co_filename == own]
    place = f"{path}:{in_file[-1].tb_lineno}" if in_file else path
    message = _message(problem)
    remedy = DEVICE if any(sign in message for sign in NO_CUDA) else ""
    error = RunFailed(what, value=place, allowed=message, remedy=remedy)
    error.add_note("".join(traceback.format_exception(type(problem), problem, _chained(frames))).rstrip())
    raise error from problem


def _frames(problem: BaseException) -> Iterator[TracebackType]:
    link = problem.__traceback__
    while link is not None:
        yield link
        link = link.tb_next


def _chained(frames: list[TracebackType]) -> TracebackType | None:
    rebuilt: TracebackType | None = None
    for link in reversed(frames):
        rebuilt = TracebackType(rebuilt, link.tb_frame, link.tb_lasti, link.tb_lineno)
    return rebuilt


def _message(problem: BaseException) -> str:
    """The exception on one line, not longer than a line should be."""
    if isinstance(problem, SystemExit):
        return f"it ends the process with {problem.code!r}"
    try:
        text = one_line(f"{type(problem).__name__}: {problem}".removesuffix(": "))
    except Exception:  # its own __str__ fails
        text = type(problem).__name__
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 3]}..."


def _is_generator(function: Any) -> bool:
    """Whether calling a function gives stages, also where a decorator is around it."""
    return inspect.isgeneratorfunction(function) or inspect.isgeneratorfunction(inspect.unwrap(function))


def _signature(function: Callable[..., Any]) -> str:
    return one_line(str(inspect.signature(function)))[:80]


def _shown(value: object) -> str:
    """What a value is, in words."""
    if inspect.isclass(value):
        return f"a class ({value.__name__})"
    return "None" if value is None else f"of type {type(value).__name__}"


def _plain(value: object) -> str | bool | int | float | None:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return one_line(value)[:MAX_MESSAGE] if isinstance(value, str) else _shown(value)


def _or_nearest(name: str, names: Iterable[str]) -> str:
    """What a misspelt name may have meant, else what there is."""
    names = list(names)
    nearest = difflib.get_close_matches(name, names, n=1)
    if nearest:
        return f"did you mean {nearest[0]}"
    return f"there are {', '.join(names[:8])}" if names else "there are none"
