"""The site has a page for every command and takes along what its pages link to; a link that leads nowhere is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands_page import PAGES, commands, with_options
from docs_site import HOME, ROOT, BrokenLink, Layout, broken_links, build, lay_out, sections_of

DOCS = ROOT / "docs"


def site_of(folder: Path, **pages: str) -> Path:
    """A repository with these pages in ``docs``."""
    (folder / "docs").mkdir()
    (folder / "docs" / "conf.py").write_text("")
    for name, text in pages.items():
        (folder / "docs" / f"{name}.md").write_text(text)
    return folder


def test_the_commands_page_has_the_options_of_the_help() -> None:
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert text == with_options(text), "run: make docs-commands"


def test_every_command_has_a_page_that_the_home_page_lists() -> None:
    listed = {page for _, pages in sections_of(Layout(root=ROOT)) for page in pages}
    wanted = {Path("docs") / f"{PAGES.get(name, name)}.md" for name in commands()}
    assert wanted <= listed
    assert {path.relative_to(ROOT) for path in DOCS.rglob("*.md")} - {HOME} <= listed


def test_the_pages_link_to_what_is_there(tmp_path: Path) -> None:
    layout = lay_out(ROOT, tmp_path)
    assert {Path("docs/guides/ci.md"), Path("examples/README.md")} <= layout.pages.keys()
    text = (tmp_path / "guides" / "page.md").read_text()
    assert "](../reports/pages/h200/report.html)" in text
    assert (tmp_path / "reports" / "pages" / "h200" / "report.html").is_file()


def test_links_are_rewritten_outside_of_code_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    page = "[a](../a.txt) `[a](../a.txt)` [top](#one)\n\n```\n[a](../a.txt)\n```\n"
    root = site_of(tmp_path, index="## Start\n\n- [One](one.md)\n", one=page)
    lay_out(root, tmp_path / "out")
    assert (tmp_path / "out" / "one.md").read_text() == page.replace("[a](../a.txt) `", "[a](a.txt) `")
    assert ":caption: Start\n\none\n" in (tmp_path / "out" / "index.md").read_text()


@pytest.mark.parametrize("link", ["gone.md", "../../outside.md", "../empty"])
def test_a_link_that_leads_nowhere_is_refused(link: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    root = site_of(tmp_path, index=f"[x]({link})")
    with pytest.raises(BrokenLink, match=r"docs/index\.md: "):
        lay_out(root, tmp_path / "out")


def test_a_built_site_is_searched_for_missing_files_anchors_and_what_it_loads(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<p id="here"><a href="#here">x</a><a href="b.html#gone">y</a>')
    (tmp_path / "b.html").write_text(
        '<a href="c.html"></a><a href="https://example.org"></a><img src="https://example.org/x">'
    )
    assert broken_links(tmp_path) == ["a.html: b.html#gone", "b.html: c.html", "b.html loads https://example.org/x"]


def test_a_page_of_a_few_words_becomes_a_site(tmp_path: Path) -> None:
    pytest.importorskip("furo")
    pytest.importorskip("myst_parser")
    root = site_of(tmp_path, index="# Home\n\n## Start\n\n- [One](one.md#part)\n", one="# One\n\n## Part\n\nwords\n")
    (root / "docs" / "conf.py").write_text((DOCS / "conf.py").read_text())
    build(root, tmp_path / "site")
    assert "words" in (tmp_path / "site" / "one.html").read_text()
    (root / "docs" / "one.md").write_text("# One\n\nwords\n")
    with pytest.raises(SystemExit, match="Sphinx found"):
        build(root, tmp_path / "site")
