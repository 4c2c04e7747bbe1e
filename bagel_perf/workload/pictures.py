"""Pictures as PNG bytes: written, read, described, set against each other."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from bagel_perf.schema.runs import Picture


def encode_png(pixels_HW3: Tensor) -> bytes:
    """PNG bytes of host pixels uint8 [H, W, 3]; lightly compressed, because the encoder is part of the timed stage."""
    buffer = io.BytesIO()
    Image.fromarray(pixels_HW3.numpy()).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def describe_picture(png: bytes) -> Picture:
    """Hashes and spread (standard deviation in grey levels) of a PNG."""
    pixels = read_pixels(png)
    return Picture(
        width=pixels.shape[1],
        height=pixels.shape[0],
        md5=hashlib.md5(png).hexdigest(),
        pixels_sha256=hashlib.sha256(pixels.tobytes()).hexdigest(),
        spread=float(pixels.std()),
    )


def read_pixels(png: bytes) -> NDArray[np.uint8]:
    """Pixels [H, W, 3] of a PNG."""
    return np.asarray(Image.open(io.BytesIO(png)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """Mean squared difference of grey levels, and the number of pixels of which any color differs."""

    mse: float
    differing_pixels: int


def distance(png: bytes, reference: bytes) -> Distance:
    """Of two PNGs of one size."""
    ours, theirs = (read_pixels(each).astype(np.float64) for each in (png, reference))
    return Distance(
        mse=float(np.square(ours - theirs).mean()), differing_pixels=int((ours != theirs).any(axis=-1).sum())
    )
