"""What a run returned: its identity, how far it is from another one, and the bytes of a file that keeps it.

All of this copies to the host, so it is no part of what is counted or timed.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from bagel_perf.measure.leaves import (
    Leaf,
    Node,
    Numbers,
    Record,
    fields_of,
    gap_of,
    host_copy,
    nodes_of,
    num_unlike,
    numbers_of,
)
from bagel_perf.records.errors import OutputsDiffer, RunFailed, UsageError, reworded
from bagel_perf.records.outlines import Tolerance
from bagel_perf.records.runs import Output
from bagel_perf.simulated.tensor import hidden

PICTURE_SUFFIXES = {b"\x89PN": ".png", b"\xff\xd8\xff": ".jpg", b"RIF": ".webp"}
"""By the first bytes of a picture's file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """How far a value is from the reference's: raw, as ``Tolerance.reading`` takes it, and the values that differ."""

    raw: float
    num_differing: int


@contextmanager
def naming(subject: str, case: str) -> Iterator[None]:
    """Has a refused output say what gave it, and in which case."""
    try:
        yield
    except UsageError as problem:
        raise reworded(problem, what=f"{subject} at {case}: {problem.what}") from problem


def describe(value: Any) -> Output:
    """Describes an output; ``UsageError`` names the part of it that nothing can be said of."""
    nodes = nodes_of(value)
    leaves = _leaves(nodes)
    only = leaves[0] if isinstance(nodes[0], Leaf) else None
    numbers = [_numbers(leaf) for leaf in leaves if leaf.values is not None]
    md5, sha256 = _hashes(nodes) if only is None else _hashes_of(only)
    return Output(
        kind="nest" if only is None else only.kind,
        md5=md5,
        sha256=sha256,
        shape=() if only is None or only.values is None else tuple(only.values.shape),
        num_values=sum(leaf.num_values for leaf in leaves),
        spread=numbers[0].spread if numbers and only is not None else None,
        is_flat=_is_empty(only, leaves) or _is_flat(numbers),
        is_finite=all(each.is_finite for each in numbers),
    )


def _leaves(nodes: Sequence[Node]) -> list[Leaf]:
    return [node for node in nodes if isinstance(node, Leaf)]


def _numbers(leaf: Leaf) -> Numbers:
    assert leaf.values is not None
    return numbers_of(leaf.values, num_per_value=leaf.values.shape[-1] if leaf.kind == "picture" else 1)


def _is_empty(only: Leaf | None, leaves: Sequence[Leaf]) -> bool:
    """Whether an output holds nothing: no part, no element, no character."""
    if only is None:
        return not leaves
    return only.num_values == 0 or (only.kind in ("text", "bytes") and not only.content)


def _is_flat(numbers: Sequence[Numbers]) -> bool:
    """Whether in each array of more than one number all are the same; no such array proves nothing."""
    arrays = [each for each in numbers if each.num_values > 1]
    return bool(arrays) and all(each.is_flat for each in arrays)


def _hashes_of(only: Leaf) -> tuple[str, str]:
    """(md5, sha256) of an output without a nest; of a picture the first is its file's, the second its pixels'.

    Of one in another mode than RGB the second covers the mode and what it holds, which colours alone do not show.
    """
    if only.kind == "picture":
        is_plain = only.values is not None and only.head == b"P%b;" % repr(only.values.shape).encode()
        sha256 = hashlib.sha256(only.bits).hexdigest() if is_plain else _hashes([only])[1]
        return hashlib.md5(_file_of(only)).hexdigest(), sha256
    if only.kind in ("text", "bytes"):
        return hashlib.md5(only.content).hexdigest(), _hashes([only])[1]
    return _hashes([only])


def _hashes(nodes: Sequence[Node]) -> tuple[str, str]:
    """(md5, sha256) of all marks and leaves; of pictures that are files the first takes the file."""
    md5, sha256 = hashlib.md5(), hashlib.sha256()
    for node in nodes:
        if isinstance(node, Leaf):
            is_file = node.kind == "picture" and node.content
            md5.update(b"%b%d;" % (node.head, len(node.content)) if is_file else node.head)
            md5.update(node.content if is_file else node.bits)
            sha256.update(node.head)
            sha256.update(node.bits)
        else:
            md5.update(node)
            sha256.update(node)
    return md5.hexdigest(), sha256.hexdigest()


def _file_of(leaf: Leaf) -> bytes:
    """The file of a picture: as it was given, else a PNG, lightly compressed."""
    if leaf.content:
        return leaf.content
    assert leaf.values is not None
    buffer = io.BytesIO()
    Image.fromarray(leaf.values).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def distance(value: Any, reference: Any, tolerance: Tolerance) -> Distance:
    """Measures how far an output is from the reference's, in the raw unit of the tolerance's kind.

    PSNR is of all pictures together, a mean squared difference of grey levels; relative L2 that of the worst of
    floating arrays, numbers and pictures; the largest difference likewise. Anything else is infinitely far unless it is
    equal. Raises ``OutputsDiffer`` for outputs of unlike shapes, ``UsageError`` for PSNR of an output without pictures.
    """
    pairs = _pairs(nodes_of(value), nodes_of(reference))
    num_differing = sum(_num_differing(*pair) for pair in pairs)
    if tolerance.kind == "psnr" and not any(ours.kind == "picture" for ours, _ in pairs):
        remedy = "declare rel_l2 or max_abs"
        raise UsageError("PSNR is of pictures, and the output has none", value=tolerance, remedy=remedy)
    measure = MEASURES[tolerance.kind]
    near = [pair for pair in pairs if pair[0].is_inexact and (pair[0].kind == "picture" or tolerance.kind != "psnr")]
    if any(_num_differing(*pair) for pair in pairs if not any(pair is each for each in near)):
        return Distance(raw=math.inf, num_differing=num_differing)
    return Distance(raw=measure(near), num_differing=num_differing)


Pair = tuple[Leaf, Leaf]


def _pairs(ours: Sequence[Node], theirs: Sequence[Node]) -> list[Pair]:
    """Leaves that stand for each other; ``OutputsDiffer`` where two outputs are built otherwise."""
    found: list[Pair] = []
    for ours_node, theirs_node in zip(ours, theirs, strict=False):
        if isinstance(ours_node, Leaf) and isinstance(theirs_node, Leaf):
            _check_shapes(ours_node, theirs_node)
            found.append((ours_node, theirs_node))
        elif ours_node != theirs_node:
            place = next((node.path for node in (ours_node, theirs_node) if isinstance(node, Leaf)), "")
            place = place or (found[-1][0].path if found else "output")
            raise OutputsDiffer("outputs are built otherwise", value=f"near {place}", allowed="two of one structure")
    if len(ours) != len(theirs):
        raise OutputsDiffer("outputs are built otherwise", allowed="two of one structure")
    return found


def _check_shapes(ours: Leaf, theirs: Leaf) -> None:
    is_number = [leaf.values is not None for leaf in (ours, theirs)]
    if ours.kind != theirs.kind or is_number[0] != is_number[1]:
        value = f"{ours.path}: {ours.kind} and {theirs.kind}"
        raise OutputsDiffer("outputs are of other kinds", value=value, allowed="two of one structure")
    if ours.values is not None and theirs.values is not None and ours.values.shape != theirs.values.shape:
        value = f"{ours.path}: {ours.values.shape} and {theirs.values.shape}"
        raise OutputsDiffer("outputs have other shapes", value=value, allowed="two of one shape")


def _num_differing(ours: Leaf, theirs: Leaf) -> int:
    """Counts the pixels or elements that are not the same to the bit; where types are unlike, of which the values are.

    Where only the type differs, one does.
    """
    if ours.values is None or theirs.values is None:
        return int((ours.head, bytes(ours.bits)) != (theirs.head, bytes(theirs.bits)))
    if ours.head != theirs.head:
        exact = num_unlike(ours.values.reshape(-1), theirs.values.reshape(-1))
        return exact or int(ours.num_values > 0 and not (ours.is_inexact and theirs.is_inexact))
    rows = ours.num_values
    if not rows:
        return 0
    return num_unlike(*(np.frombuffer(leaf.bits, np.uint8).reshape(rows, -1) for leaf in (ours, theirs)))


def _mean_square(pairs: Sequence[Pair]) -> float:
    total = sum(leaf.values.size for leaf, _ in pairs if leaf.values is not None)
    return sum(gap_of(*_values(pair)).of_differences for pair in pairs) / total if total else 0.0


def _worst_rel_l2(pairs: Sequence[Pair]) -> float:
    return max((gap_of(*_values(pair)).rel_l2 for pair in pairs), default=0.0)


def _largest(pairs: Sequence[Pair]) -> float:
    return max((gap_of(*_values(pair)).largest for pair in pairs), default=0.0)


MEASURES: Mapping[str, Callable[[Sequence[Pair]], float]] = {
    "psnr": _mean_square,
    "rel_l2": _worst_rel_l2,
    "max_abs": _largest,
}


def _values(pair: Pair) -> tuple[Any, Any]:
    return pair[0].values, pair[1].values


def encode(value: Any) -> tuple[bytes, str]:
    """Turns an output into the bytes of a file and its suffix; ``decode`` gives one of the same identity.

    A picture is a file of its own kind, a text and bytes are what they are; all else is written by ``torch.save``, with
    tensors on the host, dataclasses as their fields, and pictures as PNGs.
    """
    nodes = nodes_of(value)
    only = nodes[0]
    if isinstance(only, Leaf) and only.kind == "picture":
        content = _file_of(only)
        return content, PICTURE_SUFFIXES[content[:3]]
    if isinstance(only, Leaf) and only.kind in ("text", "bytes"):
        return only.content, ".txt" if only.kind == "text" else ".bin"
    buffer = io.BytesIO()
    with hidden():
        torch.save(_plain(value), buffer)
    return buffer.getvalue(), ".pt"


def decode(content: bytes, suffix: str) -> Any:
    """Turns what ``encode`` gave back into an output; ``RunFailed`` where it is something else."""
    if suffix == ".txt":
        return content.decode("utf-8", "surrogatepass")
    if suffix != ".pt":
        return content
    try:
        with hidden():
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
    except Exception as problem:  # whatever a broken file may raise
        raise RunFailed("an output cannot be read back", value=f"{type(problem).__name__}: {problem}") from problem


def _plain(value: Any) -> Any:
    """The same output of nothing but plain types, which any process can read."""
    if isinstance(value, torch.Tensor):
        return host_copy(value, "output").clone()
    if isinstance(value, Image.Image):
        (leaf,) = _leaves(nodes_of(value))
        return _file_of(leaf) if leaf.kind == "picture" else leaf.values
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return (list if isinstance(value, list) else tuple)(_plain(each) for each in value)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    for kind in (bool, str, int):
        if isinstance(value, kind) and not isinstance(value, np.generic):
            return kind(value) if kind is not str else str.__str__(value)
    fields = fields_of(value)
    return value if fields is None else Record(fields={name: _plain(each) for name, each in fields.items()})
