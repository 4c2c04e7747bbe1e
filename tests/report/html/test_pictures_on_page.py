"""Pictures are shown once each, small, from the result's own folder and nowhere else."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image as Pillow

from bagel_perf.records.results import CaseInput, Result
from bagel_perf.report.html import pictures
from bagel_perf.report.html.content import Bullets, Photo, Photos
from bagel_perf.report.html.pictures import pictures_section
from bagel_perf.report.tables import identity_table
from gated_results import make_result, with_picture

SIZES = ((1024, 1024),)


def save(path: Path, seed: int = 0, side: int = 1024) -> None:
    Pillow.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)).save(path)


def result_with(*names: str | None, differ: bool = False) -> Result:
    """Two variants whose pictures lie in these files."""
    result = make_result({"pr3987": {}}, sizes=SIZES, edit=lambda run: with_picture(run, "pr3987") if differ else run)
    images = tuple(replace(image, path=name) for image, name in zip(result.outputs, names, strict=True))
    return replace(result, outputs=images)


def photos_of(result: Result, folder: Path) -> tuple[Photo, ...]:
    blocks = pictures_section(result, folder).blocks
    return next((block.photos for block in blocks if isinstance(block, Photos)), ())


def missing_of(result: Result, folder: Path) -> str:
    blocks = pictures_section(result, folder).blocks
    return "\n".join(item for block in blocks if isinstance(block, Bullets) for item in block.items)


def test_equal_pictures_are_shown_once_and_small(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (photo,) = photos_of(result_with("a.png", "a.png"), tmp_path)
    assert photo.caption.startswith("baseline, pr3987: md5 ")
    kind, _, data = photo.uri.partition(";base64,")
    assert kind == "data:image/jpeg"
    with Pillow.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (photo.width, photo.height) == (512, 512)


def test_different_pictures_have_a_difference(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 1, 32)
    save(tmp_path / "b.png", 2, 32)
    shown = photos_of(result_with("a.png", "b.png", differ=True), tmp_path)
    assert [photo.alt for photo in shown][2:] == ["Difference of pr3987 from baseline"]
    assert shown[1].caption.endswith(", differs")


def test_previews_have_no_difference(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 1, 32)
    save(tmp_path / "b.jpg", 2, 32)
    result = result_with("a.png", "b.jpg", differ=True)
    assert len(photos_of(result, tmp_path)) == 2
    assert "it takes both as PNG" in missing_of(result, tmp_path)


def test_a_difference_that_was_kept_beside_previews_is_shown(tmp_path: Path) -> None:
    for seed, name in enumerate(("a.jpg", "b.jpg", "b.difference.jpg")):
        save(tmp_path / name, seed, 32)
    result = result_with("a.jpg", "b.jpg", differ=True)
    first, second = result.outputs
    result = replace(result, outputs=(first, replace(second, difference_path="b.difference.jpg")))
    assert [photo.alt for photo in photos_of(result, tmp_path)][2:] == ["Difference of pr3987 from baseline"]
    assert missing_of(result, tmp_path) == ""


def test_the_number_of_differing_pixels_stands_below_the_picture_and_in_the_table(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 1, 32)
    save(tmp_path / "b.png", 2, 32)
    result = result_with("a.png", "b.png", differ=True)
    (check,) = result.identity
    result = replace(result, identity=(replace(check, num_differing=262144),))
    assert photos_of(result, tmp_path)[1].caption.endswith(
        ", differs, at most 262,144 of 1,048,576 pixels differ (25.0%)"
    )
    table = identity_table(result)
    column = [each.header for each in table.columns].index("differing pixels")
    assert [row[column] for row in table.rows] == ["-", "262,144"]
    assert "differing pixels" not in {each.header for each in identity_table(result_with(None, None)).columns}


def test_the_input_comes_first(tmp_path: Path) -> None:
    save(tmp_path / "in.png", 1, 32)
    save(tmp_path / "a.png", 2, 32)
    result = result_with("a.png", "a.png")
    picture = replace(result.runs[0].output, md5="0123", path="in.png")
    shown = photos_of(replace(result, inputs=(CaseInput(case="1024x1024", output=picture),)), tmp_path)
    assert [photo.caption[:16] for photo in shown] == ["input: md5 0123", "baseline, pr3987"]


@pytest.mark.parametrize("name", ["../a.png", "link.png", "{absolute}"])
def test_pictures_outside_of_the_folder_are_not_read(tmp_path: Path, name: str) -> None:
    save(tmp_path / "a.png", 1, 32)
    folder = tmp_path / "result"
    folder.mkdir()
    (folder / "link.png").symlink_to(tmp_path / "a.png")
    name = name.format(absolute=tmp_path / "a.png")
    result = result_with(name, name)
    assert photos_of(result, folder) == ()
    assert f"{name} is outside of the result's folder" in missing_of(result, folder)


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "x.png is not there"), (b"<svg onload=1>", "x.png cannot be read as a picture")]
)
def test_what_cannot_be_shown_has_a_sentence(tmp_path: Path, content: bytes | None, problem: str) -> None:
    if content is not None:
        (tmp_path / "x.png").write_bytes(content)
    assert problem in missing_of(result_with("x.png", "x.png"), tmp_path)
    assert "its file was not kept" in missing_of(result_with(None, None), tmp_path)


def test_pictures_that_would_swell_the_page_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.png")
    monkeypatch.setattr(pictures, "MAX_SOURCE_PIXELS", 1000)
    assert "cannot be read" in missing_of(result_with("a.png", "a.png"), tmp_path)
    monkeypatch.undo()
    album = pictures.Album(folder=tmp_path, bytes_left=10)
    opened = album.opened("a.png", "A")
    assert opened is not None
    assert album.photo(opened, "A", "") is None
    assert album.missing == ["A: left out to keep the page under 3 MB."]
