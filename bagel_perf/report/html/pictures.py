"""The outputs of a result, each once: pictures small enough for a page, and their difference; what all others are."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bagel_perf.records.results import Result, ShownOutput
from bagel_perf.records.runs import Output
from bagel_perf.report.html.content import Block, Bullets, Heading, Photo, Photos, Section, Text, tables
from bagel_perf.report.table import counted
from bagel_perf.report.tables import distance_text, identity_table, tolerance_lines

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


MAX_PNG_BYTES = 150_000
MAX_BYTES = 1_600_000
"""Of all pictures of a page; base64 makes four of three, and the page has to stay under 3 MB."""
SMALLER = f"Shown at {MAX_SIDE} pixels at most, large ones as JPEG; every hash is that of the picture measured."


@dataclass(slots=True)
class Album:
    """What is left of the bytes of a page, and sentences on what could not be shown."""

    folder: Path
    bytes_left: int = MAX_BYTES
    missing: list[str] = field(default_factory=list)
    alts: dict[bytes, str] = field(default_factory=dict)
    """By the bytes of each picture of the page what it is of."""

    def opened(self, name: str | None, what: str) -> Pixels | None:
        """The picture in the result's own folder; None, and a sentence, where there is none that can be shown."""
        if name is None:
            self.missing.append(f"{what}: its file was not kept.")
            return None
        path = self.folder / name
        try:
            is_inside, is_there = path.resolve().is_relative_to(self.folder.resolve()), path.is_file()
        except (OSError, ValueError, RuntimeError):  # no file can have this name, or its links go round
            is_inside, is_there = True, False
        if not is_inside:
            self.missing.append(f"{what}: {name} is outside of the result's folder.")
        elif not is_there:
            self.missing.append(f"{what}: {name} is not there.")
        else:
            pixels = decoded(path)
            if pixels is None:
                self.missing.append(f"{what}: {name} cannot be read as a picture.")
            return pixels
        return None

    def photo(self, pixels: Pixels, alt: str, caption: str, name: str = "") -> Photo | None:
        """The picture made small; None, and a sentence, where the page has it already or would become too large."""
        shown = small(pixels)
        kind, data = _encoded(shown)
        if (first := self.alts.setdefault(data, alt)) != alt:
            self.missing.append(f"{alt}: at this size the same as {first}, shown once.")
            return None
        if len(data) > self.bytes_left:
            self.missing.append(f"{alt}: left out to keep the page under 3 MB.")
            return None
        self.bytes_left -= len(data)
        uri = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
        return Photo(uri=uri, width=shown.width, height=shown.height, alt=alt, caption=caption, name=name)


def _encoded(pixels: Pixels) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    pixels.save(buffer, format="PNG", optimize=True)
    if buffer.tell() <= MAX_PNG_BYTES:
        return "png", buffer.getvalue()
    buffer = io.BytesIO()
    pixels.save(buffer, format="JPEG", quality=82)
    return "jpeg", buffer.getvalue()


def pictures_section(result: Result, folder: Path) -> Section:
    """Each distinct picture of each case, what other outputs are, and the table of their hashes."""
    album = Album(folder=folder)
    blocks = [*_photo_blocks(result, album)]
    has_photos = any(isinstance(block, Photos) for block in blocks)
    notes: list[Block] = [Text(text=SMALLER, style="note")] if has_photos else []
    notes += [Bullets(items=tuple(dict.fromkeys(album.missing)))] if album.missing else []
    apart = tuple(line.removeprefix("- ") for line in tolerance_lines(result))
    table: list[Block] = [*tables(identity_table(result)), *([Bullets(items=apart)] if apart else [])]
    title = f"{result.outline.noun}s".capitalize()
    return Section(anchor="pictures", title=title, blocks=(*blocks, *notes, *table))


def _photo_blocks(result: Result, album: Album) -> Iterator[Block]:
    for case in dict.fromkeys(image.case for image in result.outputs):
        inputs = tuple(_input_photos(result, case, album))
        groups: dict[str, list[ShownOutput]] = {}
        for image in (each for each in result.outputs if each.case == case):
            groups.setdefault(image.md5, []).append(image)
        shown = [group for group in groups.values() if group[0].kind == "picture"]
        photos = (*inputs, *_photos(result, case, shown, album))
        told = (*_input_texts(result, case), *_texts(result, case, [*groups.values()]))
        if photos or told:
            yield Heading(text=case)
        if photos:
            yield Photos(photos=photos)
        if told:
            yield Bullets(items=told)


def _input_texts(result: Result, case: str) -> Iterator[str]:
    for each in result.inputs:
        if each.case == case and each.output.kind != "picture":
            yield f"input: {_described(each.output)}, md5 {each.output.md5}"


def _texts(result: Result, case: str, groups: list[list[ShownOutput]]) -> Iterator[str]:
    """What each output is that is no picture."""
    known = {(run.output.kind, run.output.md5): run.output for run in result.runs if run.case == case}
    for group in groups:
        first = group[0]
        if first.kind != "picture":
            output = known.get((first.kind, first.md5))
            what = first.kind if output is None else _described(output)
            names = ", ".join(each.variant for each in group)
            yield f"{names}: {what}, md5 {first.md5}{_distance(result, group)}"


def _described(output: Output) -> str:
    """Kind and shape, as ``tensor of shape 2 x 3``."""
    if output.shape:
        return f"{output.kind} of shape {' x '.join(map(str, output.shape))}"
    return f"{output.kind} of {counted(output.num_values, 'value')}" if output.kind == "nest" else output.kind


def _input_photos(result: Result, case: str, album: Album) -> Iterator[Photo]:
    """The picture to edit, which files from before 2026-11-28 do not have."""
    for picture in (each.output for each in result.inputs if each.case == case):
        if picture.kind == "picture":
            alt = f"Input at {case}"
            pixels = album.opened(picture.path, alt)
            photo = None if pixels is None else album.photo(pixels, alt, f"input: md5 {picture.md5}", "input")
            if photo is not None:
                yield photo


def _photos(result: Result, case: str, groups: list[list[ShownOutput]], album: Album) -> Iterator[Photo]:
    reference: Shown | None = None
    for group in groups:
        names = ", ".join(image.variant for image in group)
        alt = f"Picture of {names} at {case}"
        path = next((image.path for image in group if image.path), None)
        pixels = album.opened(path, alt)
        if pixels is None:
            continue
        photo = album.photo(pixels, alt, f"{names}: md5 {group[0].md5}{_distance(result, group)}", names)
        if photo is not None:
            yield photo
        kept = next((image.difference_path for image in group if image.difference_path), None)
        shown = Shown(names=names, pixels=pixels, is_exact=str(path).endswith(".png"), difference_path=kept)
        if reference is None:
            reference = dataclasses.replace(shown, names=group[0].variant)
        else:
            yield from _difference(reference, shown, album)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A picture, whether it is the one measured to the bit, and the file of its difference from the reference."""

    names: str
    pixels: Pixels
    is_exact: bool
    difference_path: str | None


def _difference(reference: Shown, other: Shown, album: Album) -> Iterator[Photo]:
    what = f"Difference of {other.names} from {reference.names}"
    if reference.is_exact and other.is_exact and reference.pixels.size == other.pixels.size:
        found: Pixels | None = amplified_difference(reference.pixels, other.pixels)
    elif other.difference_path is not None:
        found = album.opened(other.difference_path, what)
    else:
        found = None
        album.missing.append(f"{what}: not shown, it takes both as PNG in one size.")
    photo = None if found is None else album.photo(found, what, f"{what}: grey levels times {AMPLIFIED}, black: equal")
    if photo is not None:
        yield photo


def _distance(result: Result, group: list[ShownOutput]) -> str:
    """What the result says of the first variant of a group."""
    first = group[0]
    check = next((each for each in result.identity if (each.case, each.candidate) == (first.case, first.variant)), None)
    if check is None:
        return "" if first.variant != result.named[0] else ", the reference"
    if check.identical:
        return ", identical"
    values = "" if check.num_differing is None else f", {_differing_text(result, check.case, check.num_differing)}"
    distance = distance_text(check)
    if not distance:
        return ", same values in other bytes" if check.is_ok else f", differs{values}"
    return f"{values}, {distance} at worst"


def _differing_text(result: Result, case: str, number: int) -> str:
    """Of all pixels or elements, how many differ in the run in which most do."""
    first = next(run.output for run in result.runs if run.case == case)
    total, what = first.num_values, "pixels" if first.kind == "picture" else "values"
    return f"at most {number:,} of {total:,} {what} differ ({100 * number / max(total, 1):.1f}%)"
