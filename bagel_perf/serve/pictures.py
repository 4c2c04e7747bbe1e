"""Pictures that a request brings along: bytes in it, never a path or an address that it names."""

from __future__ import annotations

import base64
import binascii
import io
import re

from PIL import Image, UnidentifiedImageError

from bagel_perf.serve.refusals import ApiError, invalid
from bagel_perf.subjects.bagel.model.preprocess import to_rgb

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Those whose decoders start no program and read no second file."""
_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]{1,32};base64,", re.IGNORECASE)


def picture_bytes(url: object, param: str) -> bytes:
    """Bytes of a data URL; raises ``ApiError`` for any other address, none of which is opened."""
    head = _DATA_URL.match(url) if isinstance(url, str) else None
    if head is None or not isinstance(url, str):
        raise invalid("a picture has to be a data URL, data:image/png;base64,...; no address is opened", param)
    try:
        return base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise invalid("the data URL is no base64", param) from None


def read_picture(content: bytes, max_pixels: int, param: str) -> Image.Image:
    """The picture as 8-bit RGB, as ``compare`` reads it from a file; its size is judged before it is decoded."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            check_size(*image.size, max_pixels, param)
            return to_rgb(image)
    except ApiError:
        raise
    except Image.DecompressionBombError:
        raise invalid(f"the picture is too large; at most {max_pixels} pixels", param) from None
    except UnidentifiedImageError:
        raise invalid(f"no picture that is read here; allowed: {', '.join(FORMATS)}", param) from None
    except Exception as error:  # Pillow's decoders raise nearly anything on a broken file
        raise invalid(f"the picture is broken ({type(error).__name__}: {error})", param) from None


def check_size(width: int, height: int, max_pixels: int, param: str) -> None:
    """Raises ``ApiError`` for a picture of more pixels than ``max_pixels``, sent or asked for."""
    if width * height > max_pixels:
        raise invalid(f"the picture is too large ({width}x{height}); at most {max_pixels} pixels", param)
