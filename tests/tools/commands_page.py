"""Writes the options of every command into a page: ``python tests/tools/commands_page.py docs/commands.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from bagel_perf.cli import app
from bagel_perf.report.inert import markdown
from docs_results import replace_section

PAGES = {"gate counts": "gate", "gate result": "gate", "gate revision": "gate"}
"""Commands whose page is another one's."""
SHARED = ("--json", "--quiet", "--debug", "--help")
"""Of every command."""


def commands() -> dict[str, Any]:
    """Each command by its name, as the help lists them."""
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def options_of(name: str, command: Any) -> Iterator[tuple[str, str]]:
    """Names with what they take, and the help, of each argument and option but those of every command."""
    context = command.make_context(name, [], resilient_parsing=True)
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None and not any(option in SHARED for option in parameter.opts):
            yield record[0], " ".join(record[1].split())


def section(name: str, command: Any) -> str:
    """A heading that links to the command's page, its first sentence, and a table of what it takes."""
    page = f"{PAGES.get(name, name)}.md"
    rows = [f"| {_code(words)} | {markdown(text)} |" for words, text in options_of(name, command)]
    table = ["", "| argument or option | is |", "|---|---|", *rows] if rows else []
    purpose = " ".join((command.help or "").split())
    return "\n".join([f"### `{name}`", "", f"{purpose} Its page: [{page}]({page}).", *table])


def _code(words: str) -> str:
    return f"`{words}`".replace("|", "\\|")


def with_options(text: str) -> str:
    """The page with the sections of all commands between its markers."""
    sections = "\n\n".join(section(name, command) for name, command in commands().items())
    return replace_section(text, f"\n{sections}\n", "options")


def main() -> None:
    """Writes the page that is named."""
    path = Path(sys.argv[1])
    path.write_text(with_options(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
