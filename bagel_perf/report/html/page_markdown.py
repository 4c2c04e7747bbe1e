"""A page as Markdown: the same sentences and tables, and the captions of what only HTML can show."""

from __future__ import annotations

from bagel_perf.report.html.content import (
    Block,
    Bullets,
    Code,
    Fold,
    Heading,
    Link,
    Links,
    Page,
    Photos,
    Plot,
    TableBlock,
    Text,
)
from bagel_perf.report.inert import markdown_line, markdown_verbatim
from bagel_perf.report.markdown import table_markdown


def page_markdown(page: Page) -> str:
    """All sections; HTML in what a result holds is shown, not obeyed."""
    parts = [f"# {_line(page.title)}", _line(page.subtitle)]
    for section in page.sections:
        parts.append(f"## {_line(section.title)}")
        parts += [text for block in section.blocks if (text := _block(block))]
    return "\n\n".join(parts) + "\n"


def _line(text: str) -> str:
    return _without_html(markdown_line(text))


def _without_html(text: str) -> str:
    """Escaped Markdown without any angle bracket: whoever makes HTML of the file need not know Markdown's escapes."""
    return text.replace("\\<", "&lt;").replace("\\>", "&gt;").replace(">", "&gt;")


def _block(block: Block) -> str:
    match block:
        case Text():
            return _line(block.text)
        case Heading():
            return f"### {_line(block.text)}"
        case Bullets():
            return "\n".join(f"- {_line(item)}" for item in block.items)
        case Code():
            return "\n".join(f"    {markdown_verbatim(line)}" for line in block.text.splitlines())
        case Links():
            return "\n".join(f"- {_line(link.text)}{_target(link)}: {_line(link.note)}" for link in block.links)
        case TableBlock():
            return _without_html(table_markdown(block.table))
        case Photos():
            return "\n".join(f"- {_line(photo.caption)}" for photo in block.photos)
        case Plot():
            return f"_Drawing in report.html: {_line(block.caption)}_"
        case Fold():
            return "\n\n".join(_block(inner) for inner in block.blocks)


def _target(link: Link) -> str:
    return " (in report.html)" if link.download else f" ({link.href})"
