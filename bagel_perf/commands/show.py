"""``show RESULT``: the tables of a result again, without running anything."""

from __future__ import annotations

from pathlib import Path

from bagel_perf.analysis.reading import load_checked
from bagel_perf.commands.common import check_json_path, check_outputs, json_file, stream_for_people, write_json
from bagel_perf.report.text import print_result
from bagel_perf.schema.results import result_file


def show_result(path: Path, json_path: str | None, *, quiet: bool) -> None:
    """Prints what ``compare`` printed of a file or folder."""
    check_json_path(json_path)
    check_outputs({"--json": json_file(json_path)}, [path])
    result = load_checked(path)
    if not quiet:
        print_result(result, result_file(path), stream_for_people(json_path))
    write_json(json_path, result.to_json())
