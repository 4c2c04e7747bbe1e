"""Outputs of any kind have an identity to the bit, a distance within a tolerance, and a file that gives them back."""

from __future__ import annotations

import hashlib
import io
import math
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bagel_perf.measure.outputs import decode, describe, distance, encode
from bagel_perf.records.errors import OutputsDiffer, RunFailed, UsageError
from bagel_perf.records.outlines import Tolerance
from bagel_perf.simulated import SimulatedCuda

Point = namedtuple("Point", ["x", "y"])
NARROW = [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float16]


@dataclass
class Latents:
    values: torch.Tensor
    note: str = ""


@dataclass
class Renamed:
    values: torch.Tensor
    note: str = ""


def picture(side: int = 8, seed: int = 0, mode: str = "RGB") -> Image.Image:
    channels = {"RGB": 3, "RGBA": 4, "L": 1}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, channels), np.uint8)
    return Image.fromarray(pixels[..., 0] if mode == "L" else pixels)


def file_of(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return buffer.getvalue()


def same(a: Any, b: Any) -> bool:
    return describe(a).identity == describe(b).identity


def test_a_tensor_is_its_type_shape_and_values_wherever_they_lie() -> None:
    x = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    assert same(x, x.t().contiguous().t()) and same(x, x.clone().requires_grad_()) and same(x, torch.nn.Parameter(x))
    assert same(x, x.numpy()) and same(x, x.numpy().astype(">f4")) and same(torch.tensor(2.0), np.float32(2)) is False
    assert same(torch.view_as_complex(torch.ones(2, 2)).conj(), torch.tensor([1 - 1j, 1 - 1j]))
    for other in (x.double(), x.reshape(3, 2), x.flatten(), x + 1, x.bool(), x.int()):
        assert not same(x, other)
    found = describe(x)
    assert (found.kind, found.shape, found.num_values) == ("tensor", (2, 3), 6)
    assert found.spread == pytest.approx(float(x.numpy().std()))


def test_bits_count_and_not_what_compares_equal() -> None:
    assert not same(torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0])) and not same(0.0, -0.0)
    plain, other = (np.array([pattern, 0], np.uint32).view(np.float32) for pattern in (0x7FC00000, 0x7FC00001))
    assert np.isnan(plain[0]) and np.isnan(other[0])
    assert same(plain, plain.copy()) and not same(plain, other)


@pytest.mark.parametrize("dtype", NARROW)
def test_narrow_floats_are_described_and_kept(dtype: torch.dtype) -> None:
    x = torch.tensor([1.0, -2.0, 0.5, 0.0]).to(dtype)
    found = describe(x)
    assert found.is_finite and not found.is_flat
    assert found.spread == pytest.approx(float(x.double().numpy().std()))
    assert describe(torch.full((2,), math.nan).to(dtype)).is_finite is False
    assert same(x, decode(*encode(x)))


def test_a_simulated_tensor_is_that_of_the_host_and_reading_it_is_no_wait() -> None:
    waits: list[str] = []
    with SimulatedCuda(waits.append) as device:
        x = torch.arange(4.0, device="cuda")
        inside = describe({"x": x, "p": torch.nn.Parameter(x)})
        kept = encode([x])
        assert waits == [] and not device.unjudged
        assert x.sum().item() == 6.0 and waits == ["scalar_read"]
    assert inside.identity == describe({"x": torch.arange(4.0), "p": torch.arange(4.0)}).identity
    assert describe(x).identity == describe(torch.arange(4.0)).identity, "after the device is closed, too"
    assert type(decode(*kept)[0]) is torch.Tensor


class Wrapped(torch.Tensor):
    """A tensor without memory of its own, as quantized ones of libraries are."""

    inside: torch.Tensor

    @staticmethod
    def __new__(cls, inside: torch.Tensor) -> Wrapped:
        wrapped: Wrapped = torch.Tensor._make_wrapper_subclass(cls, inside.shape, dtype=inside.dtype)
        wrapped.inside = inside
        return wrapped

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        plain = [each.inside if isinstance(each, Wrapped) else each for each in args]
        return func(*plain, **(kwargs or {}))


def test_a_wrapper_around_a_tensor_is_what_is_inside() -> None:
    assert same(Wrapped(torch.arange(3.0)), torch.arange(3.0))


def test_a_picture_is_its_file_and_its_pixels() -> None:
    image = picture()
    png = file_of(image)
    found = describe(png)
    pixels = np.asarray(image)
    assert (found.kind, found.shape, found.num_values) == ("picture", (8, 8, 3), 64)
    assert found.md5 == hashlib.md5(png).hexdigest() and found.sha256 == hashlib.sha256(pixels.tobytes()).hexdigest()
    assert found.spread == pytest.approx(float(pixels.std()))
    light = io.BytesIO()
    image.save(light, format="PNG", compress_level=1)
    assert describe(image).identity == describe(light.getvalue()).identity
    assert describe(image).sha256 == found.sha256


@pytest.mark.parametrize(("kind", "suffix"), [("PNG", ".png"), ("JPEG", ".jpg"), ("WEBP", ".webp")])
def test_a_file_of_a_picture_is_kept_as_it_is(kind: str, suffix: str) -> None:
    content = file_of(picture(), kind)
    assert describe(content).kind == "picture"
    assert encode(content) == (content, suffix) and decode(content, suffix) == content
    assert describe(content[:60]).kind == "bytes", "a broken one is bytes"


def test_pictures_have_three_channels_or_four_where_they_are_transparent() -> None:
    assert describe(picture(mode="RGBA")).shape == (8, 8, 4)
    for image in (picture(mode="L"), picture().convert("P"), picture().convert("CMYK")):
        assert describe(image).shape == (8, 8, 3)
        assert distance(decode(*encode(image)), image, Tolerance.parse("psnr:40")).raw == 0
    for mode in ("F", "I", "I;16"):  # more than 8 bits a value
        assert describe(Image.new(mode, (3, 2))).kind == "tensor"


@pytest.mark.parametrize(
    ("value", "kind", "is_flat", "is_finite"),
    [
        ("text", "text", False, True),
        ("", "text", True, True),
        (b"", "bytes", True, True),
        (bytearray(b"ab"), "bytes", False, True),
        (3, "number", False, True),
        (True, "number", False, True),
        (math.inf, "number", False, False),
        (1 + 2j, "number", False, True),
        (np.float64(2.0), "number", False, True),
        (torch.ones(3), "tensor", True, True),
        (torch.ones(1), "tensor", False, True),
        (torch.empty(0, 3), "tensor", True, True),
        (torch.tensor([1.0, math.nan]), "tensor", False, False),
        (np.array([1, 1]), "tensor", True, True),
        ([], "nest", True, True),
        ({"a": torch.ones(3), "b": 4, "c": "x"}, "nest", True, True),
        ({"a": torch.ones(3), "b": torch.arange(3)}, "nest", False, True),
        ([torch.ones(1), "x"], "nest", False, True),
        ((None, 1.5, math.nan), "nest", False, False),
        (Image.new("RGB", (4, 4), (1, 2, 3)), "picture", True, True),
        ({1, 2}, "number", False, True),
    ],
)
def test_what_an_output_is_is_told(value: Any, kind: str, is_flat: bool, is_finite: bool) -> None:
    found = describe(value)
    assert (found.kind, found.is_flat, found.is_finite) == (kind, is_flat, is_finite)


def test_a_number_may_have_any_size() -> None:
    huge = 10**5000
    assert same([huge], [huge]) and not same([huge], [huge + 1])


def test_the_nest_counts_and_the_order_of_a_dict_does_not() -> None:
    assert same({"a": 1, "b": 2}, {"b": 2, "a": 1}) and same({"a": 1}, OrderedDict(a=1)) and same({1, 2}, {2, 1})
    assert same(Latents(torch.ones(2)), Renamed(torch.ones(2))), "a class may have another name in another file"
    unlike: list[Any] = [
        [1, 2],
        (1, 2),
        {1: 2},
        {"1": 2},
        [[1], 2],
        [1, [2]],
        [1, 2, None],
        ["1", 2],
        [True, 2],
        {1, 2},
    ]
    unlike += [["ab", "c"], ["a", "bc"], [b"ab"], {"a": {"b": 1}}, {"a": 1, "b": 1}, [1.0, 2], Latents(torch.ones(2))]
    hashes = [describe(each).sha256 for each in unlike]
    assert len(set(hashes)) == len(hashes)
    assert same(Point(1, 2), (1, 2))


def the_generator() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "the run returned nothing; allowed: tensors"),
        ({"latents": [1, 2, the_generator()]}, 'output["latents"][2] is a generator; allowed: tensors'),
        (Latents(torch.nn.Linear(1, 1)), "output.values is a Linear"),  # type: ignore[arg-type]
        ([torch.ones], "output[0] is a builtin_function_or_method"),
        ([Path("x")], "output[0] is a PosixPath"),
        (object, "output is an class (object)"),
        ({object(): 1}, "output has a key that is an object"),
        ({"a": {Path("x")}}, 'output["a"] has a key that is a PosixPath'),
        (np.array([object()]), "output is an array of object"),
        (torch.ones(2, 2).to_sparse(), "output is a sparse tensor"),
        (torch.ones(2, device="meta"), "output is a meta tensor"),
    ],
)
def test_what_nothing_can_be_said_of_is_named_with_its_place(value: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        describe(value)
    assert str(caught.value).startswith(message.replace("an class", "a class"))


def test_cycles_and_deep_nests_are_refused() -> None:
    cycle: list[Any] = [1]
    cycle.append({"again": cycle})
    with pytest.raises(UsageError, match=r'output\[1\]\["again"\] is inside itself'):
        describe(cycle)
    deep: list[Any] = []
    for _ in range(101):
        deep = [deep]
    with pytest.raises(UsageError, match="nested too deeply"):
        describe(deep)
    shared = [1]
    assert describe([shared, shared]).num_values == 2


def of(kind: str, value: Any, reference: Any) -> tuple[float, int]:
    found = distance(value, reference, Tolerance.parse(f"{kind}:1"))
    return found.raw, found.num_differing


def test_psnr_is_of_all_pictures_together() -> None:
    black, grey = (Image.new("RGB", (2, 2), (level,) * 3) for level in (0, 10))
    assert of("psnr", file_of(grey), black) == (100.0, 4)
    assert of("psnr", [black, grey], [black, black]) == (50.0, 4)
    assert of("psnr", {"x": grey, "n": 1}, {"x": grey, "n": 1}) == (0.0, 0)
    assert of("psnr", {"x": grey, "n": 1}, {"x": grey, "n": 2}) == (math.inf, 1)
    assert of("psnr", [grey, torch.ones(2)], [grey, torch.zeros(2)]) == (math.inf, 2)
    with pytest.raises(OutputsDiffer, match="other shapes"):
        of("psnr", black, Image.new("RGB", (2, 3)))
    with pytest.raises(UsageError, match="PSNR is of pictures, and the output has none"):
        of("psnr", torch.ones(2), torch.ones(2))


def test_relative_l2_is_that_of_the_worst_leaf_and_the_largest_difference_of_all() -> None:
    ours = [torch.tensor([3.0, 4.0]), torch.tensor([1.0, 1.0]), 2.0]
    theirs = [torch.tensor([3.0, 5.0]), torch.tensor([1.0, 1.0]), 4.0]
    assert of("rel_l2", ours, theirs) == (0.5, 2)
    assert of("max_abs", ours, theirs) == (2.0, 2)
    assert of("max_abs", torch.ones(2, dtype=torch.bfloat16), torch.tensor([1.0, 1.5])) == (0.5, 1)
    assert of("rel_l2", torch.ones(1), torch.zeros(1)) == (math.inf, 1)


@pytest.mark.parametrize("kind", ["rel_l2", "max_abs"])
def test_what_is_exact_has_to_be_equal_and_nan_is_far_from_numbers(kind: str) -> None:
    nan = torch.tensor([1.0, math.nan])
    assert of(kind, nan, nan.clone()) == (0.0, 0)
    assert of(kind, nan, torch.ones(2)) == (math.inf, 1)
    assert of(kind, [torch.ones(1), "a"], [torch.ones(1), "b"]) == (math.inf, 1)
    assert of(kind, torch.tensor([1, 2]), torch.tensor([1, 3])) == (math.inf, 1)
    assert of(kind, torch.tensor([0.0]), torch.tensor([-0.0])) == (0.0, 1)


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        (torch.ones(2), torch.ones(3), r"outputs have other shapes \(output: \(2,\) and \(3,\)\)"),
        ([1], [1, 2], "outputs are built otherwise"),
        ({"a": 1.0}, {"b": 1.0}, "outputs are built otherwise"),
        ([1.0], 1.0, "outputs are built otherwise"),
        ("a", b"a", r"outputs are of other kinds \(output: text and bytes\)"),
        ([1.0], [1], "outputs are of other kinds"),
    ],
)
def test_outputs_that_are_built_otherwise_have_no_distance(ours: Any, theirs: Any, message: str) -> None:
    with pytest.raises(OutputsDiffer, match=message):
        of("max_abs", ours, theirs)


def test_an_output_is_kept_without_the_classes_of_its_file() -> None:
    value = {"l": Latents(torch.ones(2), "n"), "p": picture(), "s": {1, "a"}, "t": (None, 1j, np.float32(2)), "b": b"x"}
    content, suffix = encode(value)
    assert suffix == ".pt" and b"Latents" not in content
    found = decode(content, suffix)
    assert same(found, {**value, "p": found["p"]}) and describe(found["p"]).identity == describe(value["p"]).identity
    assert encode("\udce4ä") == (b"\xed\xb3\xa4\xc3\xa4", ".txt") and decode(*encode("\udce4ä")) == "\udce4ä"
    assert encode(bytearray(b"ab")) == (b"ab", ".bin")
    with pytest.raises(RunFailed, match="an output cannot be read back"):
        decode(b"broken", ".pt")


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.binary(max_size=4)
KEYS = st.text(max_size=3) | st.integers() | st.booleans()
NESTS = st.recursive(
    PLAIN | st.lists(st.floats(width=32), max_size=3).map(lambda each: np.array(each, np.float32)),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(NESTS.filter(lambda each: each is not None))
def test_whatever_is_described_comes_back_from_its_file(value: Any) -> None:
    found = decode(*encode(value))
    assert describe(found).identity == describe(value).identity
    nothing = Tolerance(kind="max_abs", limit=1.0)
    assert distance(found, value, nothing).raw == 0 and distance(found, value, nothing).num_differing == 0


MEASURES: dict[str, Callable[[Any, Any], float]] = {
    "rel_l2": lambda a, b: float(np.linalg.norm(a - b) / np.linalg.norm(b)),
    "max_abs": lambda a, b: float(np.abs(a - b).max()),
}


@pytest.mark.parametrize("kind", MEASURES)
def test_distances_of_arrays_of_several_pieces_are_those_of_numpy(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bagel_perf.measure.leaves.CHUNK", 7)
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(5, 9)), generator.normal(size=(5, 9))
    raw, num_differing = of(kind, a, b)
    assert raw == pytest.approx(MEASURES[kind](a, b)) and num_differing == 45
    found = describe(a + 1e6)
    assert found.spread == pytest.approx(float(a.std())) and not found.is_flat


@pytest.mark.parametrize("mode", ["I;16", "I", "CMYK", "L", "P", "HSV", "LA"])
def test_pictures_of_any_mode_differ_where_a_value_does(mode: str) -> None:
    one = Image.new(mode, (4, 4))
    other = one.copy()
    other.putpixel((0, 0), 1 if len(one.getbands()) == 1 else tuple(1 for _ in one.getbands()))
    assert describe(one).identity == describe(one.copy()).identity != describe(other).identity


def test_the_same_colours_in_another_mode_are_another_output() -> None:
    grey = Image.new("L", (4, 4), 7)
    assert describe(grey).identity != describe(grey.convert("RGB")).identity


@pytest.mark.parametrize(
    "value",
    [
        np.ma.masked_array([1.0, 2.0], [True, False]),
        torch.zeros(2, dtype=torch.complex32),
        Image.new("RGB", (0, 4)),
    ],
)
def test_what_cannot_be_told_to_the_bit_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match=r"^output is a"):
        describe(value)
