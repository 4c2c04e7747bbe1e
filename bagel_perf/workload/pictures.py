"""Pictures as PNG bytes: written, read, described, set against each other."""

from __future__ import annotations

import hashlib
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from bagel_perf.schema.runs import Output
from bagel_perf.subjects.outputs import Distance


def encode_png(pixels_HW3: Tensor) -> bytes:
    """PNG bytes of host pixels uint8 [H, W, 3]; lightly compressed, because the encoder is part of the timed stage."""
    buffer = io.BytesIO()
    Image.fromarray(pixels_HW3.numpy()).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def describe_picture(png: bytes) -> Output:
    """Describes a PNG: hashes, size, and spread (standard deviation in grey levels)."""
    pixels = read_pixels(png)
    return Output(
        kind="picture",
        md5=hashlib.md5(png).hexdigest(),
        sha256=hashlib.sha256(pixels.tobytes()).hexdigest(),
        shape=pixels.shape,
        num_values=pixels.shape[0] * pixels.shape[1],
        spread=float(pixels.std()),
        is_flat=bool((pixels == pixels[0, 0]).all()),
    )


def read_pixels(png: bytes) -> NDArray[np.uint8]:
    """Pixels [H, W, 3] of a PNG."""
    return np.asarray(Image.open(io.BytesIO(png)))


def distance(png: bytes, reference: bytes) -> Distance:
    """Of two PNGs of one size."""
    ours, theirs = (read_pixels(each).astype(np.float64) for each in (png, reference))
    return Distance(raw=float(np.square(ours - theirs).mean()), num_differing=int((ours != theirs).any(axis=-1).sum()))
