"""Copies a result into the folder of committed ones, under 2 MB: ``python -m bagel_perf.report.archive RESULT``.

The largest pictures become previews until the rest fits; hashes stay those of the pictures that were measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bagel_perf.report.markdown import write_summary
from bagel_perf.schema.errors import BagelPerfError, UsageError
from bagel_perf.schema.results import RESULT_FILE, Result, load, result_file
from bagel_perf.schema.store import device_slug, make_out_dir, write_json_atomic, writing

MAX_COMMITTED_BYTES = 2_000_000
PREVIEW_QUALITY = 80


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the new folder; exit code 0, or 2 on wrong input and 6 on a full disk."""
    parser = argparse.ArgumentParser(prog="python -m bagel_perf.report.archive", description=__doc__)
    parser.add_argument("result", type=Path, help="result.json or its folder")
    parser.add_argument("--into", type=Path, default=Path("reports"), help="folder of committed results")
    options = parser.parse_args(argv)
    try:
        print(archive(options.result, options.into))
    except BagelPerfError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def archive(result_path: Path, into: Path) -> Path:
    """The new folder ``into/<date>_<device>_<commit>``, with the result and its pictures or previews of them."""
    path = result_file(result_path)
    result = load(path)
    environment = result.environment
    device = "cpu" if environment.device_kind == "cpu" else device_slug(environment.device_name)
    folder = make_out_dir(into, device, environment.commit or "nogit", result.created[:10])
    names = sorted({image.path for image in result.images if image.path is not None})
    new_names = {name: _copy(path.parent / name, folder) for name in names}
    for name in _too_large(folder, path.stat().st_size):
        new_names[name] = _preview(folder / name)
    archived = _renamed(result, new_names)
    write_json_atomic(folder / RESULT_FILE, archived.to_json())
    write_summary(archived, folder)
    return folder


def _copy(picture: Path, folder: Path) -> str:
    if not picture.is_file():
        raise UsageError("picture of the result is missing", value=picture, remedy="archive the whole folder")
    with writing(folder):
        shutil.copyfile(picture, folder / picture.name)
    return picture.name


def _too_large(folder: Path, other_bytes: int) -> list[str]:
    """The largest pictures, as few as bring the folder and ``other_bytes`` under the limit."""
    sizes = sorted(((path.stat().st_size, path.name) for path in folder.iterdir()), reverse=True)
    excess = sum(size for size, _ in sizes) + other_bytes - MAX_COMMITTED_BYTES
    chosen = []
    for size, name in sizes:
        if excess <= 0:
            break
        chosen.append(name)
        excess -= size
    return chosen


def _preview(picture: Path) -> str:
    from PIL import Image

    preview = picture.with_suffix(".preview.jpg")
    with writing(preview), Image.open(picture) as image:
        image.save(preview, quality=PREVIEW_QUALITY)
    picture.unlink()
    return preview.name


def _renamed(result: Result, new_names: dict[str, str]) -> Result:
    """The result with pictures under their new names, and a warning for each that became a preview."""

    def new(name: str | None) -> str | None:
        return None if name is None else new_names.get(name, name)

    images = tuple(dataclasses.replace(image, path=new(image.path)) for image in result.images)
    runs = tuple(
        dataclasses.replace(run, picture=dataclasses.replace(run.picture, path=new(run.picture.path)))
        for run in result.runs
    )
    previews = sorted(to for name, to in new_names.items() if to != name)
    warnings = tuple(f"{name} is a preview; the hashes are those of the picture measured" for name in previews)
    return dataclasses.replace(result, images=images, runs=runs, warnings=result.warnings + warnings)


if __name__ == "__main__":
    sys.exit(main())
