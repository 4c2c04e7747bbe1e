"""Builds ``docs`` as a site, and checks every link and anchor in it: ``python tests/tools/docs_site.py build/docs``.

The pages stay as they read on GitHub. A page that links to a document outside of ``docs`` takes it along, and a link to
any other file takes that along, so that the site needs neither the repository nor a network.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

ROOT = Path(__file__).resolve().parents[2]
HOME = Path("docs/index.md")
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
CODE = re.compile(r"^(```|~~~).*?^\1[ ]*$|`[^`\n]+`", flags=re.M | re.S)
OF_A_FOLDER = ("README.md", "summary.md")
"""What a link to a folder shows."""


class BrokenLink(Exception):
    """A link of a page that leads nowhere."""


@dataclass(kw_only=True)
class Layout:
    """The pages of a site, by their path in the repository, and where each stands; ``files`` are what they link to."""

    root: Path
    pages: dict[Path, Path] = field(default_factory=dict)
    files: dict[Path, Path] = field(default_factory=dict)

    def place_of(self, source: Path) -> Path:
        """Where a file of the repository stands in the site: ``docs`` is the top, all else keeps its folder."""
        return source.relative_to("docs") if source.is_relative_to("docs") else source

    def target_of(self, page: Path, link: str) -> tuple[Path, str] | None:
        """File and anchor that a link of a page means; None for one that leaves the repository."""
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            return None
        if not parts.path:
            return page, parts.fragment
        path = Path(os.path.normpath(page.parent / unquote(parts.path)))
        if path.is_absolute() or ".." in path.parts or not (self.root / path).exists():
            raise BrokenLink(f"{page}: {link}")
        if (self.root / path).is_dir():
            inside = next((path / name for name in OF_A_FOLDER if (self.root / path / name).is_file()), None)
            if inside is None:
                raise BrokenLink(f"{page}: {link} is a folder without {' or '.join(OF_A_FOLDER)}")
            path = inside
        return path, parts.fragment

    def gather(self, pages: Sequence[Path]) -> None:
        """Takes these pages, and all that they link to."""
        waiting = list(pages)
        while waiting:
            page = waiting.pop()
            if page in self.pages:
                continue
            self.pages[page] = self.place_of(page)
            for link in links_of((self.root / page).read_text(encoding="utf-8")):
                target = self.target_of(page, link)
                if target is not None and target[0].suffix == ".md":
                    waiting.append(target[0])
                elif target is not None:
                    self.files[target[0]] = self.place_of(target[0])

    def rewritten(self, page: Path) -> str:
        """The text of a page with links as they have to be in the site."""
        text = (self.root / page).read_text(encoding="utf-8")
        here = self.place_of(page).parent

        def replaced(match: re.Match[str]) -> str:
            target = self.target_of(page, match[2])
            if target is None or (target[0] == page and target[1]):
                return match[0]
            path, anchor = target
            to = Path(os.path.relpath(self.place_of(path), here)).as_posix()
            return f"{match[1]}{quote(to)}{'#' * bool(anchor)}{anchor}{match[3]}"

        return outside_code(text, lambda part: LINK.sub(replaced, part))


def links_of(text: str) -> list[str]:
    """Targets of the links and pictures of a Markdown text."""
    return [match[2] for match in LINK.finditer(CODE.sub("", text))]


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """The text with all but its code changed."""
    parts, at = list[str](), 0
    for code in CODE.finditer(text):
        parts += [change(text[at : code.start()]), code[0]]
        at = code.end()
    return "".join([*parts, change(text[at:])])


def sections_of(layout: Layout) -> Iterator[tuple[str, list[Path]]]:
    """Headings of the home page, each with the pages that the list below it links to."""
    for section in re.split(r"^## ", (layout.root / HOME).read_text(encoding="utf-8"), flags=re.M)[1:]:
        title, _, body = section.partition("\n")
        targets = [layout.target_of(HOME, link) for link in re.findall(r"^- \[[^\]]*\]\(([^)]+)\)", body, flags=re.M)]
        yield title.strip(), [target[0] for target in targets if target is not None and target[0].suffix == ".md"]


def lay_out(root: Path, folder: Path) -> Layout:
    """Writes into ``folder`` what Sphinx reads; ``BrokenLink`` where a link of a page leads nowhere."""
    layout = Layout(root=root)
    layout.gather([path.relative_to(root) for path in sorted((root / "docs").rglob("*.md"))])
    sections = [*sections_of(layout)]
    listed = {page for _, pages in sections for page in pages} | {HOME}
    for page, place in layout.pages.items():
        text = layout.rewritten(page)
        if page == HOME:
            text += "".join(_toctree(layout, title, pages) for title, pages in sections)
        elif page not in listed:
            text = f"---\norphan: true\n---\n{text}"
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(text, encoding="utf-8")
    for path, place in layout.files.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, folder / place)
    shutil.copyfile(root / "docs" / "conf.py", folder / "conf.py")
    return layout


def _toctree(layout: Layout, title: str, pages: Sequence[Path]) -> str:
    names = "\n".join(layout.place_of(page).with_suffix("").as_posix() for page in pages)
    return f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{names}\n```\n"


class _Page(HTMLParser):
    """Ids and references of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.references: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            if name in ("href", "src") and value:
                (self.references if tag == "a" else self.loaded).append(value)


def broken_links(site: Path) -> list[str]:
    """Each reference of a built site to a file or an anchor that is not there, and what it loads from a network."""
    pages: dict[Path, _Page] = {}
    for path in sorted(site.rglob("*.html")):
        if "_downloads" not in path.parts:  # pages of ours that are files of this site
            pages[path] = _Page()
            pages[path].feed(path.read_text(encoding="utf-8"))
    found = []
    for path, page in pages.items():
        for reference in (*page.references, *page.loaded):
            parts = urlsplit(reference)
            if parts.scheme or parts.netloc:
                if reference in page.loaded and parts.scheme != "data":
                    found.append(f"{path.relative_to(site)} loads {reference}")
                continue
            target = Path(os.path.normpath(path.parent / unquote(parts.path))) if parts.path else path
            is_there = target.exists() and (
                not parts.fragment or target not in pages or parts.fragment in pages[target].ids
            )
            if not is_there:
                found.append(f"{path.relative_to(site)}: {reference}")
    return found


def build(root: Path, site: Path) -> None:
    """Makes the site anew, with warnings as errors; ``SystemExit`` says what is wrong."""
    source = site.with_name(f"{site.name}-source")
    for folder in (source, site):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        layout = lay_out(root, source)
    except BrokenLink as problem:
        raise SystemExit(f"error: a link leads nowhere ({problem}); mend it in the page") from None
    command = [sys.executable, "-m", "sphinx", "--builder", "html", "--nitpicky", "--fail-on-warning", "--keep-going"]
    done = subprocess.run([*command, "--quiet", str(source), str(site)], check=False)
    if done.returncode:
        raise SystemExit("error: Sphinx found what is above; mend the pages that it names")
    if broken := broken_links(site):
        raise SystemExit("\n".join(["error: links of the site lead nowhere:", *broken]))
    shutil.rmtree(source)
    print(
        f"site: {site / 'index.html'}, {len(layout.pages)} pages, {len(layout.files)} files; every link leads somewhere"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Builds into the folder that is named."""
    parser = argparse.ArgumentParser(prog="python tests/tools/docs_site.py", description=__doc__)
    parser.add_argument("site", type=Path, help="folder of the site, which is replaced")
    build(ROOT, parser.parse_args(argv).site.resolve())


if __name__ == "__main__":
    main()
