"""Pictures without torch: the one that is edited where none is named, and those that somebody else's server sends."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bagel_perf.records.errors import RunFailed
from bagel_perf.records.runs import Output

FORMATS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}
MAX_PIXELS = 4096 * 4096
MODES = ("RGB", "RGBA", "L", "LA", "I;16")
"""Whose values are taken as they are; a picture in another mode is taken in RGB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture file that was read; ``values`` are its decoded pixels [H, W] or [H, W, C]."""

    content: bytes
    suffix: str
    values: NDArray[Any]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return int(self.values.shape[1]), int(self.values.shape[0])

    @property
    def output(self) -> Output:
        """Describes the decoded pixels, with the md5 of the file beside them."""
        values = self.values if self.values.ndim == 3 else self.values[:, :, None]
        pixels = values.reshape(-1, values.shape[2])
        content = np.ascontiguousarray(values).tobytes()
        return Output(
            kind="picture",
            md5=hashlib.md5(content).hexdigest(),
            sha256=hashlib.sha256(content).hexdigest(),
            shape=tuple(map(int, values.shape)),
            num_values=len(pixels),
            spread=float(values.std()),
            is_flat=bool((pixels == pixels[0]).all()),
            file_md5=hashlib.md5(self.content).hexdigest(),
        )

    def num_differing(self, other: Picture) -> int | None:
        """Counts the pixels that are not those of another picture; None where their shapes differ."""
        if self.values.shape != other.values.shape:
            return None
        unlike = self.values != other.values
        return int(np.count_nonzero(unlike if unlike.ndim == 2 else unlike.any(axis=-1)))


def read_picture(content: bytes) -> Picture:
    """Decodes a PNG, JPEG or WebP file of at most 16 megapixels. Raises ``RunFailed`` where it is none, or cut off."""
    allowed = f"{', '.join(FORMATS)} of at most {MAX_PIXELS:,} pixels"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=[*FORMATS]) as image:
                if image.width * image.height > MAX_PIXELS:
                    size = f"{image.width}x{image.height}"
                    raise RunFailed("a picture is too large", value=size, allowed=allowed)
                values = np.asarray(image if image.mode in MODES else image.convert("RGB"))
                return Picture(content=content, suffix=FORMATS[image.format or ""], values=values)
    except RunFailed:
        raise
    except (OSError, SyntaxError, ValueError, KeyError, Image.DecompressionBombError, Warning) as problem:
        what = "a picture is no picture, or cut off"
        raise RunFailed(what, value=f"{len(content)} bytes", allowed=allowed, remedy=str(problem)) from problem


def png_of(image: Image.Image) -> bytes:
    """Encodes a picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def draw_default_picture(width: int, height: int) -> Image.Image:
    """A red house on hills under a sun: gradients, edges, curves and texture, the same on every machine."""
    # Only sums, products and comparisons, so that no math library decides on a pixel.
    x = (np.arange(width) + 0.5)[None, :] / width
    y = (np.arange(height) + 0.5)[:, None] / height
    picture = np.empty((height, width, 3))
    picture[:] = np.stack([80 + 130 * y + 30 * x, 150 + 75 * y - 25 * x, 235 - 20 * y - 35 * x], axis=-1)

    def paint(mask: np.ndarray, red: float, green: float, blue: float, *, shade: np.ndarray | float = 1.0) -> None:
        color = np.stack(np.broadcast_arrays(red * shade, green * shade, blue * shade), axis=-1)
        picture[mask] = np.broadcast_to(color, picture.shape)[mask]

    paint((x - 0.78) ** 2 + (y - 0.2) ** 2 < 0.008, 255, 225, 90)
    paint(y > 0.52 + 0.9 * (x - 0.25) ** 2, 95, 140, 110)
    checks = ((x * 24).astype(np.int64) + (y * 24).astype(np.int64)) % 2
    paint(y > 0.72 - 0.5 * (x - 0.3) * (x - 0.9), 80, 160, 60, shade=0.75 + 0.25 * checks)
    paint((abs(x - 0.42) < 0.17) & (abs(y - 0.62) < 0.15), 205, 45, 40, shade=1.15 - 0.4 * (x + 0 * y))
    paint((y > 0.29) & (y < 0.47) & (abs(x - 0.42) < 1.2 * (y - 0.29)), 70, 55, 60)
    paint((abs(x - 0.36) < 0.035) & (abs(y - 0.59) < 0.045), 250, 240, 200)
    paint((abs(x - 0.49) < 0.03) & (abs(y - 0.69) < 0.08), 90, 60, 40)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))
