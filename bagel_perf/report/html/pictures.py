"""The pictures of a result, each once, small enough for a page; where two differ, also their difference, amplified."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bagel_perf.analysis.tolerances import psnr_text
from bagel_perf.report.html.content import Block, Bullets, Heading, Photo, Photos, Section, Text, tables
from bagel_perf.report.table import res_text
from bagel_perf.report.tables import identity_table
from bagel_perf.schema.results import Image, Result

if TYPE_CHECKING:
    from PIL.Image import Image as Pixels

MAX_SIDE = 512
MAX_SOURCE_PIXELS = 4096 * 4096
MAX_PNG_BYTES = 150_000
MAX_BYTES = 1_600_000
"""Of all pictures of a page; base64 makes four of three, and the page has to stay under 3 MB."""
AMPLIFIED = 16
SMALLER = f"Shown at {MAX_SIDE} pixels at most, large ones as JPEG; every hash is that of the picture measured."


@dataclass(slots=True)
class Album:
    """What is left of the bytes of a page, and sentences on what could not be shown."""

    folder: Path
    bytes_left: int = MAX_BYTES
    missing: list[str] = field(default_factory=list)

    def opened(self, name: str | None, what: str) -> Pixels | None:
        """The picture in the result's own folder; None, and a sentence, where there is none that can be shown."""
        if name is None:
            self.missing.append(f"{what}: its file was not kept.")
            return None
        path = self.folder / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            self.missing.append(f"{what}: {name} is outside of the result's folder.")
        elif not path.is_file():
            self.missing.append(f"{what}: {name} is not there.")
        else:
            pixels = _decoded(path)
            if pixels is None:
                self.missing.append(f"{what}: {name} cannot be read as a picture.")
            return pixels
        return None

    def photo(self, pixels: Pixels, alt: str, caption: str) -> Photo | None:
        """The picture made small; None, and a sentence, where the page would become too large."""
        small = pixels.copy()
        small.thumbnail((MAX_SIDE, MAX_SIDE))
        kind, data = _encoded(small)
        if len(data) > self.bytes_left:
            self.missing.append(f"{alt}: left out to keep the page under 3 MB.")
            return None
        self.bytes_left -= len(data)
        uri = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
        return Photo(uri=uri, width=small.width, height=small.height, alt=alt, caption=caption)


def _decoded(path: Path) -> Pixels | None:
    from PIL import Image as pillow

    try:
        with pillow.open(path, formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MAX_SOURCE_PIXELS:
                return None
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError):
        return None


def _encoded(small: Pixels) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    small.save(buffer, format="PNG", optimize=True)
    if buffer.tell() <= MAX_PNG_BYTES:
        return "png", buffer.getvalue()
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=82)
    return "jpeg", buffer.getvalue()


def pictures_section(result: Result, folder: Path) -> Section:
    """Each distinct picture of each resolution, and the table of their hashes."""
    album = Album(folder=folder)
    blocks = [*_photo_blocks(result, album)]
    notes: list[Block] = [Text(text=SMALLER, style="note")] if blocks else []
    notes += [Bullets(items=tuple(dict.fromkeys(album.missing)))] if album.missing else []
    return Section(anchor="pictures", title="Pictures", blocks=(*blocks, *notes, *tables(identity_table(result))))


def _photo_blocks(result: Result, album: Album) -> Iterator[Block]:
    for res in dict.fromkeys(image.res for image in result.images):
        groups: dict[str, list[Image]] = {}
        for image in (each for each in result.images if each.res == res):
            groups.setdefault(image.md5, []).append(image)
        photos = tuple(_photos(result, res, list(groups.values()), album))
        if photos:
            yield Heading(text=res_text(res))
            yield Photos(photos=photos)


def _photos(result: Result, res: int | str, groups: list[list[Image]], album: Album) -> Iterator[Photo]:
    reference: tuple[str, Pixels, bool] | None = None
    for group in groups:
        names = ", ".join(image.variant for image in group)
        alt = f"Picture of {names} at {res_text(res)}"
        path = next((image.path for image in group if image.path), None)
        pixels = album.opened(path, alt)
        if pixels is None:
            continue
        photo = album.photo(pixels, alt, f"{names}: md5 {group[0].md5}{_distance(result, group)}")
        if photo is not None:
            yield photo
        is_exact = path is not None and path.endswith(".png")
        if reference is None:
            reference = group[0].variant, pixels, is_exact
        else:
            yield from _difference(reference, (names, pixels, is_exact), album)


def _difference(reference: tuple[str, Pixels, bool], other: tuple[str, Pixels, bool], album: Album) -> Iterator[Photo]:
    from PIL import ImageChops

    (before, a, a_exact), (after, b, b_exact) = reference, other
    what = f"Difference of {after} from {before}"
    if not (a_exact and b_exact) or a.size != b.size:
        album.missing.append(f"{what}: not shown, it takes both as PNG in one size.")
        return
    amplified = ImageChops.difference(a, b).point([min(255, AMPLIFIED * level) for level in range(256)] * 3)
    photo = album.photo(amplified, what, f"{what}: grey levels times {AMPLIFIED}, black where equal")
    if photo is not None:
        yield photo


def _distance(result: Result, group: list[Image]) -> str:
    """What the result says of the first variant of a group."""
    first = group[0]
    check = next((each for each in result.identity if (each.res, each.candidate) == (first.res, first.variant)), None)
    if check is None:
        return "" if first.variant != result.variants[0] else ", the reference"
    if check.identical:
        return ", identical"
    if check.psnr_db is None or check.min_psnr_db is None:
        return ", same pixels in other bytes" if check.is_ok else ", differs"
    return f", PSNR {psnr_text(check.psnr_db, check.min_psnr_db)} dB at worst"
