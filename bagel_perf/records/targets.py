"""What a user names to be run: a Python file, or a function of one.

The grammar of a target is ``[LABEL[@DIR]=]FILE.py[:NAME]``: ``loop.py``, ``loop.py:fast``, ``before=loop.py``,
``new@/venvs/new=edit.py``. DIR is a virtual environment, whose Python runs the file. A label has no ``/``, so that a
file whose path holds a ``=`` or ``@`` can be named with a folder in front: ``./a=b.py``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from bagel_perf.records.errors import UsageError, one_line

DEFAULT_SEED = 42
UNKNOWN_CASE = "unknown case"
"""What the error says of a case that a file does not have."""


class TargetRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a target: its case, None for the first one, and seed."""

    target: Target
    case: str | None = None
    seed: int = DEFAULT_SEED


def others_note(cases: Sequence[str]) -> str:
    """What is said where the first of a file's cases ran alone."""
    return f"case {cases[0]}; the others with --case: {one_line(', '.join(cases[1:]))}"


GRAMMAR = "FILE.py, FILE.py:NAME, LABEL=TARGET or LABEL@DIR=FILE.py"
MAX_LABEL = 80
SUFFIX = ".py"
FORBIDDEN_IN_NAMES = "/:,=@"
"""In names of a user's: what separates them from others on a command line."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A file, or the function of it that is called, under its label.

    ``function`` is None for the file's own ``run`` or ``stages``, ``environment`` for the Python that runs bagel-perf.
    """

    label: str
    file: str
    function: str | None = None
    environment: str | None = None

    @property
    def place(self) -> str:
        """The target as it is named, without its label: ``loop.py:fast``."""
        return self.file if self.function is None else f"{self.file}:{self.function}"


def is_target(text: str) -> bool:
    """Whether a text names a file or a function of one, and so no variant of BAGEL."""
    return text.strip().endswith(SUFFIX) or f"{SUFFIX}:" in text


def parse_target(text: str) -> Target:
    """The target that a text names; ``UsageError`` where it names none."""
    return parse_targets([text])[0]


def parse_targets(texts: Iterable[str]) -> tuple[Target, ...]:
    """The targets that texts name, in their order, each with a label of its own.

    Without one it is the file's name without ``.py``, or the function's; where these are equal, with as much in front
    as tells them apart. Raises ``UsageError`` for a text that is no target, and for two of one label.
    """
    parts = [_parts(text.strip()) for text in texts]
    given = [target for target in parts if target.label]
    for label, times in Counter(target.label for target in given).items():
        if times > 1:
            raise UsageError("label is given twice", value=label, remedy="name each target once")
    return _labelled(parts)


def _parts(text: str) -> Target:
    """The target without a label, unless it was given one."""
    head, equals, rest = text.partition("=")
    label, at, folder = head.partition("@")
    if not equals or "/" in label:
        label, at, folder, rest = "", "", "", text
    elif problem := name_problem(label):
        remedy = f"./{text} names a file of that name" if is_target(text) else ""
        raise UsageError(f"label {problem}", value=text, allowed=GRAMMAR, remedy=remedy)
    elif at and not folder:
        raise UsageError("label names no environment", value=text, allowed="LABEL@DIR=FILE.py")
    file, function = _place(rest, text)
    return Target(label=label, file=file, function=function, environment=folder or None)


def _place(rest: str, text: str) -> tuple[str, str | None]:
    """(file, function) of ``FILE.py[:NAME]``."""
    path, colon, name = rest.rpartition(f"{SUFFIX}:")
    file, function = (path + SUFFIX, name) if colon else (rest, None)
    if "://" in file or "\0" in file or not file.endswith(SUFFIX) or os.path.basename(file) == SUFFIX:
        remedy = f"did you mean {rest}{SUFFIX}" if rest and "." not in rest and ":" not in rest else ""
        raise UsageError("target is not understood", value=text or "''", allowed=GRAMMAR, remedy=remedy)
    if function is not None and not function.isidentifier():
        raise UsageError("target names no function", value=text, allowed="FILE.py:NAME, NAME as after def")
    return file, function


def name_problem(name: str) -> str:
    """Why a user's name cannot be one in tables and on command lines; "" where it can."""
    if not name.strip():
        return "is empty"
    if name != one_line(name):
        return "is not plain text on one line"
    if len(name) > MAX_LABEL:
        return f"has more than {MAX_LABEL} characters"
    found = [char for char in FORBIDDEN_IN_NAMES if char in name]
    if found:
        return f"may not contain {found[0]}"
    return "may not begin with a dash" if name.startswith("-") else ""


def _labelled(parts: list[Target]) -> tuple[Target, ...]:
    """Each target with its label: those without get ever longer ones until no two are the same."""
    depths = [0 if target.label else 1 for target in parts]
    while True:
        labels = [_label(target, depth) for target, depth in zip(parts, depths, strict=True)]
        counts = Counter(labels)
        longer = [
            depth + 1 if depth and counts[label] > 1 and _label(target, depth + 1) != label else depth
            for target, label, depth in zip(parts, labels, depths, strict=True)
        ]
        if longer == depths:
            break
        depths = longer
    double = next((label for label, times in counts.items() if times > 1), None)
    if double is not None:
        place = next(target.place for target, label in zip(parts, labels, strict=True) if label == double)
        remedy = f"give them labels: before={place} after={place}"
        raise UsageError("two targets have one name", value=double, remedy=remedy)
    return tuple(replace(target, label=label) for target, label in zip(parts, labels, strict=True))


def _label(target: Target, depth: int) -> str:
    """The label that was given, or the last ``depth`` parts of the name: ``fast``, ``loop.fast``, ``old/loop.fast``."""
    if not depth:
        return target.label
    path = os.path.normpath(target.file.removesuffix(SUFFIX)).strip("/").split("/")
    if target.function is None:
        return one_line("/".join(path[-depth:])) or "_"
    return target.function if depth == 1 else one_line("/".join(path[-(depth - 1) :]) + f".{target.function}")
