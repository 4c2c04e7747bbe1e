"""A result is archived whole, under 2 MB, with its hashes untouched."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from PIL import Image

import archive
from archive import without_folder
from bagel_perf.records.errors import UsageError
from bagel_perf.records.results import CaseInput, Result, load
from bagel_perf.records.store import write_json_atomic
from bagel_perf.verdicts.compare import Session, build_result
from bagel_perf.verdicts.reading import rebuilt
from scripted import ENVIRONMENT, make_outline, make_plan, make_runs


def write_result(folder: Path, picture_sides: dict[str, int]) -> Result:
    """A result whose pictures are noise, which does not compress."""
    folder.mkdir()
    plan = make_plan()
    session = Session(
        command="bagel-perf compare", created="2026-01-02T03:04:05+00:00", pairs=5, warmup=1, order_seed=0, processes=5
    )
    result = build_result(make_outline(plan), ENVIRONMENT, list(make_runs(plan)), session)
    for name, side in picture_sides.items():
        Image.effect_noise((side, side), 90).convert("RGB").save(folder / name, compress_level=0)
    names = iter(picture_sides)
    images = tuple(replace(image, path=next(names, None)) for image in result.outputs)
    result = replace(result, outputs=images)
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
    assert [image.path for image in archived.outputs][:2] == ["small.png", "large.preview.jpg"]
    assert [image.md5 for image in archived.outputs] == [image.md5 for image in result.outputs]
    assert archived.warnings == ("large.preview.jpg is a preview; the hashes are those of the picture measured",)
    assert sorted(path.name for path in folder.iterdir()) == [
        "large.preview.jpg",
        "result.json",
        "small.png",
        "summary.md",
    ]


def test_what_differs_keeps_its_difference_when_it_becomes_a_preview(tmp_path: Path) -> None:
    result = write_result(tmp_path / "out", {"large.png": 1024, "other.png": 1024})
    other = result.outputs[1].variant
    runs = [
        replace(run, output=replace(run.output, md5=run.output.md5[::-1])) if run.variant == other else run
        for run in result.runs
    ]
    result = rebuilt(replace(result, runs=tuple(runs)))
    write_json_atomic(tmp_path / "out" / "result.json", result.to_json())
    folder = archive.archive(tmp_path / "out", tmp_path / "reports")
    images = load(folder / "result.json").outputs
    assert [image.difference_path for image in images[:2]] == [None, "other.difference.jpg"]
    with Image.open(folder / "other.difference.jpg") as difference:
        assert difference.size == (512, 512)
        assert max(difference.tobytes()) > 200, "amplified"


def test_the_input_is_archived_too(tmp_path: Path) -> None:
    result = write_result(tmp_path / "out", {"256_baseline.png": 64})
    picture = replace(result.runs[0].output, path="256_input.png")
    result = replace(result, inputs=(CaseInput(case="256x256", output=picture),))
    write_json_atomic(tmp_path / "out" / "result.json", result.to_json())
    Image.new("RGB", (64, 64)).save(tmp_path / "out" / "256_input.png")
    folder = archive.archive(tmp_path / "out", tmp_path / "reports")
    assert (folder / "256_input.png").is_file()
    assert load(folder / "result.json") == result


def test_archiving_twice_overwrites_nothing(tmp_path: Path) -> None:
    write_result(tmp_path / "out", {"256_baseline.png": 64})
    folders = {archive.archive(tmp_path / "out", tmp_path / "reports") for _ in range(2)}
    assert len(folders) == 2


def with_picture_of_a_run(folder: Path, name: str) -> Result:
    """A result whose last run gave a picture of its own, which no image shows."""
    result = load(folder / "result.json")
    *others, last = result.runs
    last = replace(last, output=replace(last.output, path=name))
    result = replace(result, runs=(*others, last))
    write_json_atomic(folder / "result.json", result.to_json())
    return result


def test_a_picture_that_only_a_run_gave_is_kept_too(tmp_path: Path) -> None:
    write_result(tmp_path / "out", {"256_baseline.png": 64})
    Image.new("RGB", (64, 64)).save(tmp_path / "out" / "256_other.png")
    result = with_picture_of_a_run(tmp_path / "out", "256_other.png")
    folder = archive.archive(tmp_path / "out", tmp_path / "reports")
    assert (folder / "256_other.png").is_file()
    assert load(folder / "result.json") == result


def test_a_missing_picture_of_a_run_is_noticed_before_there_is_a_folder(tmp_path: Path) -> None:
    write_result(tmp_path / "out", {"256_baseline.png": 64})
    with_picture_of_a_run(tmp_path / "out", "256_other.png")
    with pytest.raises(UsageError, match=r"picture of the result is missing \(.*256_other.png\)"):
        archive.archive(tmp_path / "out", tmp_path / "reports")
    assert not (tmp_path / "reports").exists()


def test_previews_count_towards_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_result(tmp_path / "out", {"small.png": 300, "middle.png": 310, "large.png": 400})
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    # Without the largest picture everything fits, with its preview instead it does not.
    limit = sum(sizes.values()) - sizes["large.png"] + 20_000
    monkeypatch.setattr(archive, "MAX_COMMITTED_BYTES", limit)
    folder = archive.archive(tmp_path / "out", tmp_path / "reports")
    assert sum(path.stat().st_size for path in folder.iterdir()) <= limit
    assert {path.name for path in folder.glob("*.*g")} == {"large.preview.jpg", "middle.preview.jpg", "small.png"}


@pytest.mark.parametrize("reason", ["too large", "no room"])
def test_what_fails_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    write_result(tmp_path / "out", {"256_baseline.png": 64})
    if reason == "too large":
        monkeypatch.setattr(archive, "MAX_COMMITTED_BYTES", 1000)
    else:
        monkeypatch.setattr(archive, "write_summary", lambda *_: (_ for _ in ()).throw(UsageError("no room")))
    with pytest.raises(UsageError, match="bytes are too many to commit" if reason == "too large" else "no room"):
        archive.archive(tmp_path / "out", tmp_path / "reports")
    assert [*(tmp_path / "reports").iterdir()] == []


@pytest.mark.parametrize("kind", ["file", "broken link"])
def test_a_file_in_place_of_the_folder_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    write_result(tmp_path / "out", {"256_baseline.png": 64})
    into = tmp_path / "reports"
    into.write_text("a file") if kind == "file" else into.symlink_to(tmp_path / "nowhere")
    assert archive.main([str(tmp_path / "out"), "--into", str(into)]) == 2
    assert capsys.readouterr().err == f"error: no folder of results ({into}); choose another with --into\n"


def test_the_folder_is_named_by_the_day_in_utc(tmp_path: Path) -> None:
    result = write_result(tmp_path / "out", {})
    early = replace(result, created="2026-01-02T01:00:00+02:00")
    write_json_atomic(tmp_path / "out" / "result.json", early.to_json())
    assert archive.archive(tmp_path / "out", tmp_path / "reports").name == "2026-01-01_h200_abc1234"


def test_a_result_without_its_pictures_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_result(tmp_path / "out", {"256_baseline.png": 64})
    (tmp_path / "out" / "256_baseline.png").unlink()
    assert archive.main([str(tmp_path / "out"), "--into", str(tmp_path / "reports")]) == 2
    assert capsys.readouterr().err.startswith("error: picture of the result is missing (")


@pytest.mark.parametrize(
    ("command", "archived"),
    [
        ("bagel-perf compare --res 64 --out /somewhere/else", "bagel-perf compare --res 64"),
        ("bagel-perf compare --out=x --pairs 6", "bagel-perf compare --pairs 6"),
        ("bagel-perf compare --prompt 'not --out x'", "bagel-perf compare --prompt 'not --out x'"),
        ("bagel-perf compare 'unfinished", "bagel-perf compare 'unfinished"),
    ],
)
def test_the_folder_that_it_came_from_is_left_out(command: str, archived: str) -> None:
    assert without_folder(command) == archived


@pytest.mark.parametrize("kind", ["above", "absolute", "link", "no picture"])
def test_what_lies_elsewhere_or_is_no_picture_is_not_committed(tmp_path: Path, kind: str) -> None:
    result = write_result(tmp_path / "out", {"256_baseline.png": 64})
    secret, picture = tmp_path / "secret.png", tmp_path / "out" / "256_baseline.png"
    secret.write_bytes(picture.read_bytes())
    if kind == "link":
        picture.unlink()
        picture.symlink_to(secret)
    elif kind == "no picture":
        picture.write_text("a key")
    else:
        path = "../secret.png" if kind == "above" else str(secret)
        images = (replace(result.outputs[0], path=path), *result.outputs[1:])
        write_json_atomic(tmp_path / "out" / "result.json", replace(result, outputs=images).to_json())
    with pytest.raises(UsageError, match=r"elsewhere|is none"):
        archive.archive(tmp_path / "out", tmp_path / "reports")
    assert not (tmp_path / "reports").exists()
