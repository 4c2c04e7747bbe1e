"""Pictures of results as people look at them: opened with care, and set against each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image as Pixels

MAX_SOURCE_PIXELS = 4096 * 4096
MAX_SIDE = 512
"""Of a picture in a page."""
AMPLIFIED = 16


def decoded(path: Path) -> Pixels | None:
    """The picture of a PNG or JPEG as RGB; None where it is no such file, or a huge one."""
    from PIL import Image as pillow

    try:
        with pillow.open(path, formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MAX_SOURCE_PIXELS:
                return None
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError):
        return None


def small(pixels: Pixels) -> Pixels:
    """As large as a page shows it."""
    copy = pixels.copy()
    copy.thumbnail((MAX_SIDE, MAX_SIDE))
    return copy


def amplified_difference(a: Pixels, b: Pixels) -> Pixels:
    """Difference of the grey levels of two pictures of one size, times ``AMPLIFIED``; black where they are equal."""
    from PIL import ImageChops

    levels = [min(255, AMPLIFIED * level) for level in range(256)]
    return ImageChops.difference(a, b).point(levels * 3)
