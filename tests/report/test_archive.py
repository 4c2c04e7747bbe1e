"""A result is archived whole, under 2 MB, with its hashes untouched."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from PIL import Image

from bagel_perf.analysis.compare import Session, build_result
from bagel_perf.report import archive
from bagel_perf.schema.results import Result, load
from bagel_perf.schema.store import write_json_atomic
from scripted import ENVIRONMENT, make_plan, make_runs


def write_result(folder: Path, picture_sides: dict[str, int]) -> Result:
    """A result whose pictures are noise, which does not compress."""
    folder.mkdir()
    plan = make_plan()
    session = Session(command="bagel-perf compare", created="2026-01-02T03:04:05+00:00", pairs=5, warmup=1)
    result = build_result(plan, ENVIRONMENT, list(make_runs(plan)), session)
    for name, side in picture_sides.items():
        Image.effect_noise((side, side), 90).convert("RGB").save(folder / name, compress_level=0)
    names = iter(picture_sides)
    images = tuple(dataclasses.replace(image, path=next(names, None)) for image in result.images)
    result = dataclasses.replace(result, images=images)
    write_json_atomic(folder / "result.json", result.to_json())
    return result


def test_small_results_are_copied_as_they_are(tmp_path: Path) -> None:
    result = write_result(tmp_path / "out", {"256_baseline.png": 64})
    folder = archive.archive(tmp_path / "out", tmp_path / "reports")
    assert load(folder / "result.json") == result
    assert (folder / "256_baseline.png").read_bytes() == (tmp_path / "out" / "256_baseline.png").read_bytes()


def test_only_the_largest_picture_becomes_a_preview_and_keeps_its_hash(tmp_path: Path) -> None:
    result = write_result(tmp_path / "out", {"small.png": 64, "large.png": 1024})
    folder = archive.archive(tmp_path / "out" / "result.json", tmp_path / "reports")
    archived = load(folder / "result.json")
    assert sum(path.stat().st_size for path in folder.iterdir()) < archive.MAX_COMMITTED_BYTES
    assert [image.path for image in archived.images][:2] == ["small.png", "large.preview.jpg"]
    assert [image.md5 for image in archived.images] == [image.md5 for image in result.images]
    assert archived.warnings == ("large.preview.jpg is a preview; the hashes are those of the picture measured",)
    assert sorted(path.name for path in folder.iterdir()) == [
        "large.preview.jpg",
        "result.json",
        "small.png",
        "summary.md",
    ]


def test_archiving_twice_overwrites_nothing(tmp_path: Path) -> None:
    write_result(tmp_path / "out", {"256_baseline.png": 64})
    folders = {archive.archive(tmp_path / "out", tmp_path / "reports") for _ in range(2)}
    assert len(folders) == 2


def test_a_result_without_its_pictures_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_result(tmp_path / "out", {"256_baseline.png": 64})
    (tmp_path / "out" / "256_baseline.png").unlink()
    assert archive.main([str(tmp_path / "out"), "--into", str(tmp_path / "reports")]) == 2
    assert capsys.readouterr().err.startswith("error: picture of the result is missing (")
