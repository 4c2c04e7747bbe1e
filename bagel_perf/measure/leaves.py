"""Takes an output apart: leaves with values, and marks that say how they were nested.

Two outputs are equal to the bit exactly where their marks and leaves are. The order is the output's own; dicts go by
their keys, whatever the order in which they were filled. Reading copies to the host; large arrays are read piece by
piece, so that no second copy of them is made.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bagel_perf.records.errors import UsageError, one_line
from bagel_perf.simulated.tensor import hidden, is_simulated, to_plain

CHUNK = 2**20

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What is true of all numbers of an array; ``spread`` is their standard deviation, None without any."""

    num_values: int
    spread: float | None
    is_flat: bool
    is_finite: bool


def numbers_of(values: Array, *, num_per_value: int = 1) -> Numbers:
    """Looks at all numbers of an array; with ``num_per_value`` it is flat where all such groups, as pixels, are equal.

    Two passes: the standard deviation is taken around the mean, as the difference of two large sums says nothing.
    """
    groups = values.reshape(-1, num_per_value)
    mean = _sum(values) / values.size if values.size else 0.0
    squares, is_finite, is_flat = 0.0, True, True
    with np.errstate(all="ignore"):
        for chunk in _chunks(values):
            is_finite = is_finite and bool(np.isfinite(chunk).all())
            squares += float(np.square(np.abs(_wide(chunk) - mean)).sum())
        for start in range(0, len(groups), CHUNK):
            is_flat = is_flat and bool((groups[start : start + CHUNK] == groups[0]).all())
    spread = math.sqrt(squares / values.size) if values.size else None
    return Numbers(num_values=len(groups), spread=spread, is_flat=is_flat, is_finite=is_finite)


def num_unlike(ours: Array, theirs: Array) -> int:
    """Counts the rows that are not the same; a NaN is like another one."""
    total = 0
    for start in range(0, len(ours), CHUNK):
        a, b = ours[start : start + CHUNK], theirs[start : start + CHUNK]
        unlike = (a != b) & ~((a != a) & (b != b))
        total += int((unlike if unlike.ndim == 1 else unlike.any(axis=-1)).sum())
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Sums of squares of the differences of two arrays and of the second, and the largest difference."""

    of_differences: float
    of_reference: float
    largest: float

    @property
    def rel_l2(self) -> float:
        """The norm of the differences as a share of the reference's; infinite where that is 0 or nothing is known."""
        if self.of_differences == 0:
            return 0.0
        share = math.sqrt(self.of_differences / self.of_reference) if self.of_reference > 0 else math.inf
        return math.inf if math.isnan(share) else share


def gap_of(ours: Array, theirs: Array) -> Gap:
    """Sets two arrays of one shape against each other; what is NaN or infinite in one of them is infinitely far."""
    of_differences = of_reference = largest = 0.0
    with np.errstate(all="ignore"):
        for a, b in zip(_chunks(ours), _chunks(theirs), strict=True):
            a, b = _wide(a), _wide(b)
            differences = np.abs(a - b)
            differences[(a == b) | ((a != a) & (b != b))] = 0.0
            differences[differences != differences] = math.inf
            of_differences += float(np.square(differences).sum())
            of_reference += float(np.square(np.abs(b)).sum())
            largest = max(largest, float(differences.max(initial=0.0)))
    return Gap(of_differences=of_differences, of_reference=of_reference, largest=largest)


def _chunks(values: Array) -> Iterator[Array]:
    flat = values.reshape(-1)
    for start in range(0, len(flat), CHUNK):
        yield flat[start : start + CHUNK]


def _wide(chunk: Array) -> Array:
    return chunk.astype(np.complex128 if chunk.dtype.kind == "c" else np.float64)


def _sum(values: Array) -> Any:
    with np.errstate(all="ignore"):
        return sum(_wide(chunk).sum() for chunk in _chunks(values))


ALLOWED = "allowed: tensors, arrays, pictures, bytes, str, numbers; lists, tuples, dicts, dataclasses, sets of these"
MAX_DEPTH = 100
SCALARS = (str, bytes, bool, int, float, complex, type(None))

LeafKind = Literal["picture", "tensor", "number", "text", "bytes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One value of an output.

    ``head`` and ``bits`` are all of it, as bytes. ``values`` are its numbers, pixels [H, W, C] of a picture, and None
    of what has none or, as an int, has to be exact; floats that numpy does not have are wider there. ``content`` are
    the bytes of a text or file.
    """

    path: str
    kind: LeafKind
    head: bytes
    bits: bytes | memoryview
    values: NDArray[Any] | None = None
    content: bytes = b""

    @property
    def num_values(self) -> int:
        """Its pixels or elements; 1 of anything else."""
        if self.values is None:
            return 1
        return int(self.values.size) // (self.values.shape[-1] if self.kind == "picture" else 1)

    @property
    def is_inexact(self) -> bool:
        """Whether it may be near another one without being equal."""
        return self.values is not None and (self.kind == "picture" or self.values.dtype.kind in "fc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The fields of a dataclass whose own class another process may not have."""

    fields: dict[str, Any]


Node = Leaf | bytes
"""A leaf, or a mark."""


def nodes_of(value: Any) -> list[Node]:
    """Takes an output apart; ``UsageError`` names the part that nothing can be said of."""
    if value is None:
        raise UsageError("the run returned nothing", allowed=ALLOWED, remedy="return what it computes")
    with hidden():
        return list(_walk(value, "output", ()))


def _walk(value: Any, path: str, around: tuple[int, ...]) -> Iterator[Node]:
    leaf = _leaf(value, path)
    if leaf is not None:
        yield leaf
        return
    if id(value) in around:
        raise UsageError(f"{path} is inside itself", allowed="an output without cycles")
    if len(around) >= MAX_DEPTH:
        raise UsageError("output is nested too deeply", value=path, allowed=f"{MAX_DEPTH} levels")
    mark, children = _children(value, path)
    yield mark
    for inner, child in children:
        yield from _walk(child, inner, (*around, id(value)))


def _children(value: Any, path: str) -> tuple[bytes, list[tuple[str, Any]]]:
    """The mark of a nest, and its parts with their paths."""
    if isinstance(value, Mapping):
        keys = sorted(value, key=lambda key: _key(key, path))
        mark = _tagged(b"M", *(_key(key, path) for key in keys))
        return mark, [(f"{path}[{_shown(key)}]", value[key]) for key in keys]
    if isinstance(value, (list, tuple)):
        mark = b"%c%d;" % (b"L" if isinstance(value, list) else b"T", len(value))
        return mark, [(f"{path}[{place}]", child) for place, child in enumerate(value)]
    fields = fields_of(value)
    if fields is not None:
        mark = _tagged(b"D", *(name.encode() for name in fields))
        return mark, [(f"{path}.{name}", child) for name, child in fields.items()]
    raise _unknown(value, path)


def fields_of(value: Any) -> dict[str, Any] | None:
    """The fields of a dataclass by name, None of anything else."""
    if isinstance(value, Record):
        return value.fields
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return None
    return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}


def _leaf(value: Any, path: str) -> Leaf | None:
    """The leaf that a value is; None for a nest."""
    if isinstance(value, torch.Tensor):
        return _of_tensor(value, path)
    if isinstance(value, Image.Image):
        return _of_picture(value, path)
    if isinstance(value, np.ndarray) or (isinstance(value, np.generic) and not isinstance(value, (str, bytes))):
        return _of_array(value, path)
    if isinstance(value, (bytes, bytearray, memoryview)):
        content = bytes(value)
        picture = _picture_in(content)
        return _opaque(path, "bytes", b"Y", content) if picture is None else _of_picture(picture, path, content)
    if isinstance(value, str):
        return _opaque(path, "text", b"S", value.encode("utf-8", "surrogatepass"))
    if isinstance(value, (set, frozenset)):
        content = b"".join(sorted(hashlib.sha256(_key(each, path)).digest() for each in value))
        return _opaque(path, "number", b"Z", content)
    return _of_number(value, path) if isinstance(value, SCALARS) else None


def _of_number(value: Any, path: str) -> Leaf:
    if isinstance(value, (float, complex)):
        parts = (value,) if isinstance(value, float) else (value.real, value.imag)
        head, bits = (b"F" if len(parts) == 1 else b"C"), struct.pack(f"<{len(parts)}d", *parts)
        return Leaf(path=path, kind="number", head=head, bits=bits, values=np.asarray(value))
    head = b"N" if value is None else b"B" if isinstance(value, bool) else b"I"
    return _opaque(path, "number", head, b"" if value is None else b"%x" % int(value))


def _opaque(path: str, kind: LeafKind, tag: bytes, content: bytes) -> Leaf:
    return Leaf(path=path, kind=kind, head=b"%b%d;" % (tag, len(content)), bits=content, content=content)


def _key(key: Any, path: str) -> bytes:
    """A key of a dict or an element of a set as bytes."""
    if isinstance(key, tuple):
        return _tagged(b"T", *(_key(each, path) for each in key))
    if not isinstance(key, SCALARS):
        raise UsageError(
            f"{path} has a key that {is_what(key)}", allowed="keys and elements: str, numbers, None, tuples"
        )
    text = f"{key:x}" if isinstance(key, int) else repr(key)
    return _tagged(type(key).__name__.encode(), text.encode("utf-8", "surrogatepass"))


def _shown(key: object) -> str:
    return one_line(json.dumps(key, ensure_ascii=False) if isinstance(key, str) else repr(key))[:40]


def _tagged(tag: bytes, *parts: bytes) -> bytes:
    """Parts that cannot be taken for others, whatever is in them."""
    return b"%b%d;" % (tag, len(parts)) + b"".join(b"%d:%b" % (len(part), part) for part in parts)


def _array_leaf(path: str, kind: LeafKind, dtype: str, bits: NDArray[np.uint8], values: NDArray[Any]) -> Leaf:
    head = b"A%b%b;" % (dtype.encode(), repr(values.shape).encode())
    return Leaf(path=path, kind=kind, head=head, bits=bits.data, values=values)


def _of_array(array: Any, path: str) -> Leaf:
    kind: LeafKind = "tensor" if isinstance(array, np.ndarray) else "number"
    if isinstance(array, np.ma.MaskedArray):
        raise UsageError(f"{path} is a masked array", allowed="arrays; return .filled() and the mask")
    values = np.asarray(array, order="C")
    if values.dtype.kind not in "biufc" or values.dtype in (np.longdouble, np.clongdouble):
        raise UsageError(
            f"{path} is an array of {values.dtype}", allowed="arrays of bools, ints, floats, complex numbers"
        )
    values = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return _array_leaf(path, kind, values.dtype.name, values.reshape(-1).view(np.uint8), values)


def _of_tensor(tensor: torch.Tensor, path: str) -> Leaf:
    host = host_copy(tensor, path)
    if host.dtype == torch.complex32:
        raise UsageError(f"{path} is a tensor of complex32", allowed="complex64 and complex128")
    bits = host.reshape(-1).view(torch.uint8).numpy()
    is_narrow = host.dtype.is_floating_point and host.dtype not in (torch.float16, torch.float32, torch.float64)
    values = (host.float() if is_narrow else host).numpy()
    return _array_leaf(path, "tensor", str(host.dtype).removeprefix("torch."), bits, values)


def host_copy(tensor: torch.Tensor, path: str) -> torch.Tensor:
    """The values of any tensor as a plain, contiguous one on the host, which may share its memory."""
    with hidden(), torch.no_grad():
        plain = (to_plain(tensor) if is_simulated(tensor) else tensor).detach()
        if plain.layout != torch.strided or plain.is_quantized or plain.is_nested or plain.is_meta:
            kinds = {"is_quantized": "quantized", "is_nested": "nested", "is_meta": "meta"}
            kind = next((kind for name, kind in kinds.items() if getattr(plain, name)), "sparse")
            raise UsageError(f"{path} is a {kind} tensor", allowed="dense tensors with values")
        try:
            if type(plain) is not torch.Tensor:
                plain = torch.empty(plain.shape, dtype=plain.dtype).copy_(plain)
            return plain.cpu().resolve_conj().resolve_neg().contiguous()
        except (RuntimeError, TypeError, NotImplementedError) as problem:
            what = f"{path} is a tensor that cannot be read"
            raise UsageError(what, value=type(tensor).__name__, allowed=str(problem).split("\n")[0]) from problem


def _picture_in(content: bytes) -> Image.Image | None:
    """The picture that bytes of a PNG, JPEG or WebP are; None for other bytes, and for broken ones."""
    is_webp = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    if not (is_webp or content.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))):
        return None
    try:
        picture = Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP"))
        picture.load()
    except Exception:  # whatever a broken file may raise
        return None
    return picture


def _of_picture(picture: Image.Image, path: str, content: bytes = b"") -> Leaf:
    if getattr(picture, "n_frames", 1) > 1:
        raise UsageError(f"{path} is a picture of several frames", allowed="a list of pictures, one a frame")
    if 0 in picture.size:
        raise UsageError(f"{path} is a picture without pixels", value=f"{picture.width}x{picture.height}")
    if picture.mode == "F" or picture.mode.startswith("I"):  # more than 8 bits a value
        return _of_array(np.asarray(picture), path)
    pixels = np.ascontiguousarray(_eight_bits(picture))
    head = b"P%b;" % repr(pixels.shape).encode()
    if picture.mode not in PLAIN_MODES:  # what other modes hold is not all in the colours that are seen
        head += _tagged(picture.mode.encode(), picture.tobytes(), repr(picture.getpalette()).encode())
    return Leaf(path=path, kind="picture", head=head, bits=pixels.reshape(-1).data, values=pixels, content=content)


PLAIN_MODES = ("RGB", "RGBA")


def _eight_bits(picture: Image.Image) -> NDArray[np.uint8]:
    """Pixels [H, W, 3], or [H, W, 4] where some may be transparent."""
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    return np.asarray(picture if picture.mode == mode else picture.convert(mode))


def _unknown(value: Any, path: str) -> UsageError:
    return UsageError(f"{path} {is_what(value)}", allowed=ALLOWED)


def is_what(value: object) -> str:
    """What a value is, in words: ``is a generator``."""
    name = f"class ({value.__name__})" if isinstance(value, type) else one_line(type(value).__name__)
    return f"is {'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
