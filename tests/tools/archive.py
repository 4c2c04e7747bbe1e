"""Copies a result into the folder of committed ones, under 2 MB: ``python tests/tools/archive.py RESULT``.

The largest pictures become previews until the rest fits; hashes stay those of the pictures that were measured. What
differs is then kept as a small picture of its difference from the first variant's.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from bagel_perf.commands.common import print_error
from bagel_perf.records.errors import BagelPerfError, UsageError
from bagel_perf.records.results import RESULT_FILE, Result, ShownOutput, result_file
from bagel_perf.records.runs import Output
from bagel_perf.records.store import device_slug, make_out_dir, write_json_atomic, writing
from bagel_perf.report.html.pictures import amplified_difference, decoded, small
from bagel_perf.report.inert import utc_date
from bagel_perf.report.summary import write_summary
from bagel_perf.verdicts.reading import is_file_name, load_checked

MAX_COMMITTED_BYTES = 2_000_000
PREVIEW_QUALITY = 80


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the new folder; exit code 0, or 2 on wrong input and 6 on a full disk."""
    parser = argparse.ArgumentParser(prog="python tests/tools/archive.py", description=__doc__)
    parser.add_argument("result", type=Path, help="result.json or its folder")
    parser.add_argument("--into", type=Path, default=Path("reports"), help="folder of committed results")
    options = parser.parse_args(argv)
    try:
        print(archive(options.result, options.into))
    except BagelPerfError as error:
        print_error(error)
        return error.exit_code
    return 0


def archive(result_path: Path, into: Path) -> Path:
    """The new folder ``into/<date>_<device>_<commit>``, with the result and its pictures or previews of them.

    Raises ``UsageError`` where a picture is missing or all of it stays too large; then there is no folder.
    """
    path = result_file(result_path)
    result = load_checked(path)
    names = sorted(_pictures(result))
    for name in names:
        _check_picture(path.parent, name)
    folder = _make_folder(result, into)
    try:
        _fill(folder, result, path.parent, names)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _check_picture(folder: Path, name: str) -> None:
    """``UsageError`` for what is no picture of the folder's own: what is copied is meant to be committed."""
    picture = folder / name
    if not picture.is_file():
        raise UsageError("picture of the result is missing", value=picture, remedy="archive the whole folder")
    if not is_file_name(name) or picture.resolve().parent != folder.resolve():
        raise UsageError("picture of the result lies elsewhere", value=picture, allowed="files of its own folder")
    if decoded(picture) is None:
        raise UsageError("picture of the result is none", value=picture, allowed="PNG or JPEG")


def _pictures(result: Result) -> set[str]:
    """Of all that is shown, and of all runs, among them those that should have been identical."""
    found: list[ShownOutput | Output] = [*result.outputs, *(run.output for run in result.runs)]
    found += [each.output for each in result.inputs]
    return {each.path for each in found if each.path is not None and each.kind == "picture"}


def _make_folder(result: Result, into: Path) -> Path:
    if (into.exists() or into.is_symlink()) and not into.is_dir():
        raise UsageError("no folder of results", value=into, remedy="choose another with --into")
    environment = result.environment
    device = "cpu" if environment.device_kind == "cpu" else device_slug(environment.device_name)
    return make_out_dir(into, device, environment.commit or "nogit", utc_date(result))


def _fill(folder: Path, result: Result, source: Path, names: Sequence[str]) -> None:
    """Copies and writes everything, then makes one picture after another a preview until it all fits."""
    new_names = {name: _copy(source / name, folder) for name in names}
    while True:
        archived = _with_differences(_renamed(result, new_names), result, source, folder)
        write_json_atomic(folder / RESULT_FILE, archived.to_json())
        write_summary(archived, folder)
        num_bytes = sum(path.stat().st_size for path in folder.iterdir())
        if num_bytes <= MAX_COMMITTED_BYTES:
            return
        pictures = [folder / name for name, new_name in new_names.items() if new_name == name]
        if not pictures:
            allowed = f"at most {MAX_COMMITTED_BYTES}"
            remedy = "measure fewer --res in one result"
            raise UsageError("bytes are too many to commit", value=num_bytes, allowed=allowed, remedy=remedy)
        largest = max(pictures, key=lambda picture: picture.stat().st_size)
        new_names[largest.name] = _preview(largest)


def _copy(picture: Path, folder: Path) -> str:
    with writing(folder):
        shutil.copyfile(picture, folder / picture.name)
    return picture.name


def _preview(picture: Path) -> str:
    from PIL import Image

    preview = picture.with_suffix(".preview.jpg")
    with writing(preview), Image.open(picture) as image:
        image.save(preview, quality=PREVIEW_QUALITY)
    picture.unlink()
    return preview.name


def _renamed(result: Result, new_names: dict[str, str]) -> Result:
    """The result with pictures under their new names, and a warning for each that became a preview.

    Outputs of other kinds are not kept, and name no file.
    """
    outputs = tuple(replace(each, path=new_names.get(each.path or "")) for each in result.outputs)

    def moved(output: Output) -> Output:
        return replace(output, path=new_names.get(output.path or ""))

    runs = tuple(replace(run, output=moved(run.output)) for run in result.runs)
    inputs = tuple(replace(each, output=moved(each.output)) for each in result.inputs)
    previews = sorted(to for name, to in new_names.items() if to != name)
    command = without_folder(result.command)
    warnings = tuple(f"{name} is a preview; the hashes are those of the picture measured" for name in previews)
    return replace(
        result, outputs=outputs, runs=runs, inputs=inputs, command=command, warnings=result.warnings + warnings
    )


def _with_differences(archived: Result, measured: Result, source: Path, folder: Path) -> Result:
    """The result with the difference of each picture from the first variant's, where one of the two is a preview."""
    reference = {image.case: image for image in measured.outputs if image.variant == measured.named[0]}
    images = []
    for image, was in zip(archived.outputs, measured.outputs, strict=True):
        first = reference.get(was.case)
        is_itself = first is None or first.md5 == was.md5 or image.path in (None, was.path)
        if is_itself or first is None or first.path is None or was.path is None:
            images.append(image)
            continue
        name = f"{Path(was.path).stem}.difference.jpg"
        if not (folder / name).exists():
            _save_difference(source / first.path, source / was.path, folder / name)
        images.append(replace(image, difference_path=name))
    return replace(archived, outputs=tuple(images))


def _save_difference(before: Path, after: Path, path: Path) -> None:
    a, b = decoded(before), decoded(after)
    if a is None or b is None or a.size != b.size:
        raise UsageError("pictures of the result cannot be set against each other", value=f"{before}, {after}")
    with writing(path):
        small(amplified_difference(a, b)).save(path, quality=PREVIEW_QUALITY)


def without_folder(command: str) -> str:
    """A command line without ``--out``, which names a folder that the result no longer lies in."""
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    kept = [
        word
        for before, word in zip(["", *words], words, strict=False)
        if word != "--out" and before != "--out" and not word.startswith("--out=")
    ]
    return shlex.join(kept)


if __name__ == "__main__":
    sys.exit(main())
