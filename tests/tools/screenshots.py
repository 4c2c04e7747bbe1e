"""Takes the screenshots of committed pages: ``python tests/tools/screenshots.py reports/pages/h200...``.

Into the folder of each page, as small WebP files: its first screen at 1440 in light and dark, what a phone shows first,
and its first sheet of paper as print media lay it out. Needs what ``make test-browser`` installs.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from base64 import b64decode
from pathlib import Path
from typing import Literal, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from PIL import Image

from chromium import DESK, PHONE, Browser, Scheme, missing

PAPER = 794
"""An A4 sheet is as wide, in CSS pixels."""
MAX_BYTES = 100_000
QUALITY = 60


class View(NamedTuple):
    """One screenshot."""

    name: str
    width: int
    height: int
    scheme: Scheme = "light"
    media: Literal["", "print"] = ""


VIEWS = (
    View("light-1440", DESK, 900),
    View("dark-1440", DESK, 900, "dark"),
    View("light-360", PHONE, 1200),
    View("dark-360", PHONE, 1200, "dark"),
    View("print", PAPER, 1123, media="print"),
)


def take(browser: Browser, page: Path, view: View) -> bytes:
    """The screenshot as WebP."""
    browser.open(page, width=view.width, scheme=view.scheme)
    browser.show(width=view.width, scheme=view.scheme, media=view.media)
    clip = {"x": 0, "y": 0, "width": view.width, "height": view.height, "scale": 1}
    shot = browser.cdp("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
    out = io.BytesIO()
    Image.open(io.BytesIO(b64decode(shot["data"]))).convert("RGB").save(out, "WEBP", quality=QUALITY, method=6)
    return out.getvalue()


def main() -> int:
    """Prints each file with its size; exit code 5 where no browser is, 2 where no page is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="holds report.html")
    folders: list[Path] = parser.parse_args().folders
    if absent := missing():
        print(f"error: {', '.join(absent)} missing; make test-browser installs it", file=sys.stderr)
        return 5
    if strange := [folder for folder in folders if not (folder / "report.html").is_file()]:
        print(f"error: no page ({strange[0]}); a folder with report.html", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(Path(profile))
        try:
            for folder in folders:
                for view in VIEWS:
                    shot = take(browser, (folder / "report.html").resolve(), view)
                    path = folder / f"{view.name}.webp"
                    path.write_bytes(shot)
                    print(f"{path} {len(shot):,} bytes{' (large)' * (len(shot) > MAX_BYTES)}")
        finally:
            browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
