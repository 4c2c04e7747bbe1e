"""Notes what one entry of a region does: its operators in their order, with shapes, numbers and tensors from outside.

Which tensors come from outside is told by storages: one that is read and was not made by an operator of the same entry.
A storage is known by its object, which a weak reference keeps from being used for another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bagel_perf.rules import torch_names
from bagel_perf.rules.copies import is_asynchronous
from bagel_perf.rules.operators import Args, Kwargs
from bagel_perf.syncs.frames import Folders, Lines
from bagel_perf.syncs.sites import Texts

OnDevice = Callable[[Any], bool]
Form = tuple[Any, ...]
"""Shape, strides and type of a tensor, as they decide which kernel is launched."""
Key = tuple[int, int]
"""A storage and an address in it."""
MAX_NUMBERS = 64
"""Of one call; longer lists are data."""
_WeakRef: Any = torch_names.STORAGE_REF.find()
_COPIES = ("to", "cuda", "copy_", "_to_copy")
_FRESH = "lift_fresh"
"""Called on what ``torch.tensor`` has made of data, which no mode sees it make."""
_DATA = frozenset((*_COPIES, _FRESH, "tensor", "as_tensor", "asarray", "new_tensor"))
"""What takes data, which a copy brings: a number there is none of a kernel's."""


@dataclass(frozen=True, slots=True, eq=False)
class Spot:
    """A place in the source; code is None where no frame outside torch was on the stack."""

    number: int
    code: CodeType | None
    line: int
    offset: int
    caller: CodeType | None
    caller_line: int
    region: str


class Spots:
    """Places in the source, each once; one for the whole watch."""

    def __init__(self) -> None:
        self.texts = Texts()
        self._known: dict[tuple[Any, ...], Spot] = {}
        self._folders = Folders()
        self._lines = Lines()

    def of(self, innermost: FrameType | None, region: str) -> Spot:
        """The place of the user's frame at or around a frame."""
        frame = self._folders.user_frame(innermost)
        if frame is None:
            return self._take((None, "", 0, 0, region), None, None, region)
        code = frame.f_code
        key = (code.co_filename, code.co_qualname, self._lines.of(frame), frame.f_lasti, region)
        return self._known.get(key) or self._take(key, frame, self._folders.caller_of(frame), region)

    def _take(self, key: tuple[Any, ...], frame: FrameType | None, caller: FrameType | None, region: str) -> Spot:
        found = self._known.get(key)
        if found is not None:
            return found
        code, line, offset = (frame.f_code, self._lines.of(frame), frame.f_lasti) if frame else (None, 0, 0)
        outer, outer_line = (caller.f_code, self._lines.of(caller)) if caller else (None, 0)
        return self._known.setdefault(key, Spot(len(self._known), code, line, offset, outer, outer_line, region))


class Step(NamedTuple):
    """One operator of an entry; ``inputs`` are the tensors from outside that it is the first to read."""

    name: str
    spot: Spot
    forms: tuple[Form, ...]
    numbers: tuple[Any, ...]
    inputs: tuple[tuple[Key, Form], ...]


class Entry:
    """What an entry does; it keeps no tensor."""

    def __init__(self, number: int, on_device: OnDevice) -> None:
        self.number = number
        self.steps: list[Step] = []
        self._on_device = on_device
        self._made: set[int] = set()
        self._outside: dict[int, Any] = {}
        self._read: set[Key] = set()

    def take(self, name: str, args: Args, kwargs: Kwargs, result: Any, find_spot: Callable[[], Spot]) -> bool:
        """Notes a call that has ended; gives whether it takes or gives a tensor of the device."""
        given = [value for value in leaves((*args, *kwargs.values())) if isinstance(value, Tensor)]
        results = [value for value in leaves((result,)) if isinstance(value, Tensor)]
        if name == _FRESH:
            self._make((), given)
        inputs = tuple(self._inputs(given, reads_host=name in _COPIES and is_asynchronous(args, kwargs)))
        self._make(given, results)
        if not any(map(self._on_device, (*given, *results))):
            return False
        read = tuple((key, form_of(tensor)) for key, tensor in inputs)
        self._read.update(key for key, _ in read)
        forms = tuple(map(form_of, (*given, *results)))
        numbers = () if name in _DATA else tuple(self._numbers((*args, *kwargs.values())))
        self.steps.append(Step(name, find_spot(), forms, numbers, read))
        return True

    def made(self, tensor: Tensor) -> bool:
        """Whether an operator of the entry allocated the memory of a tensor."""
        key = key_of(tensor)
        return key is not None and key[0] in self._made

    def _inputs(self, given: Iterable[Tensor], *, reads_host: bool) -> Iterator[tuple[Key, Tensor]]:
        """Tensors from outside that nothing has read yet; a graph reads host memory in asynchronous copies alone."""
        for tensor in given:
            if not reads_host and not self._on_device(tensor):
                continue
            key = key_of(tensor)
            if key is None or key[0] in self._made or key in self._read:
                continue
            self._outside.setdefault(key[0], _WeakRef(tensor.untyped_storage()))
            yield key, tensor

    def _make(self, given: Iterable[Tensor], results: Iterable[Tensor]) -> None:
        taken = {key[0] for key in map(key_of, given) if key is not None}
        for key in map(key_of, results):
            if key is not None and key[0] not in taken and key[0] not in self._outside:
                self._made.add(key[0])

    def _numbers(self, values: Iterable[Any]) -> Iterator[Any]:
        found = 0
        for value in leaves(values):
            if isinstance(value, slice):
                parts: tuple[Any, ...] = (value.start, value.stop, value.step)
            elif isinstance(value, Tensor):
                parts = () if self._on_device(value) else _number_in(value)
            else:
                parts = (value,)
            for part in parts:
                if type(part) in (int, float, bool, complex):
                    found += 1
                    yield part
            if found > MAX_NUMBERS:
                return


def _number_in(tensor: Tensor) -> tuple[Any, ...]:
    """What a host tensor without dimensions holds, which a kernel gets as its argument."""
    if tensor.dim() or tensor.device.type != "cpu":
        return ()
    with suppress(RuntimeError):  # fake tensors hold nothing
        return (tensor.item(),)
    return ()


def leaves(values: Iterable[Any]) -> Iterator[Any]:
    """Yields what is in nested lists, tuples and dicts."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from leaves(value)
        elif isinstance(value, dict):
            yield from leaves(value.values())
        else:
            yield value


def form_of(tensor: Tensor) -> Form:
    """Shape, strides and type; of a tensor without strides its layout."""
    try:
        if tensor.layout is torch.strided:
            return tuple(tensor.shape), tensor.stride(), tensor.dtype
        return tuple(tensor.shape), tensor.layout, tensor.dtype
    except RuntimeError:  # nested tensors have no shape
        return "?", tensor.layout, tensor.dtype


def key_of(tensor: Tensor) -> Key | None:
    """Where a tensor's values are; None for one that has no storage of its own."""
    try:
        return tensor.untyped_storage()._cdata, tensor.data_ptr()
    except (RuntimeError, NotImplementedError):
        return None


_SWITCHES = ("p", "dropout_p", "dropout", "train", "training")
"""Arguments that turn random numbers off where they are 0 or False."""


def draws(name: str, args: Args, kwargs: Kwargs) -> bool:
    """Whether a function of this name draws random numbers with these arguments, as torch's own tags have it."""
    arguments = _arguments_of(name)
    if arguments is None:
        return False
    given = {**dict(arguments), **dict(zip((each for each, _ in arguments), args, strict=False)), **kwargs}
    return all(given[switch] for switch in _SWITCHES if type(given.get(switch)) in (bool, int, float))


@lru_cache(maxsize=4096)
def _arguments_of(name: str) -> tuple[tuple[str, Any], ...] | None:
    """Names and defaults of the arguments of an operator that draws; None for any other."""
    packet = getattr(torch.ops.aten, name, None) if name.isidentifier() and not name.startswith("__") else None
    if packet is None:
        return None
    for overload in packet.overloads():
        operator = getattr(packet, overload)
        if torch.Tag.nondeterministic_seeded in operator.tags:
            return tuple((each.name, each.default_value) for each in operator._schema.arguments)
    return None
