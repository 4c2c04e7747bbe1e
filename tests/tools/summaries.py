"""Renders the summaries of committed results again: ``python tests/tools/summaries.py reports``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bagel_perf.commands.common import print_error
from bagel_perf.records.errors import BagelPerfError, UsageError
from bagel_perf.records.results import RESULT_FILE
from bagel_perf.report.summary import SUMMARY_FILE, summary_markdown, write_summary
from bagel_perf.verdicts.reading import load_checked


def main(argv: Sequence[str] | None = None) -> int:
    """Prints each summary that was stale; exit code 0, or 2 on wrong input."""
    parser = argparse.ArgumentParser(prog="python tests/tools/summaries.py", description=__doc__)
    parser.add_argument("reports", type=Path, help="folder of the folders of results")
    try:
        for path in rewritten(parser.parse_args(argv).reports):
            print(path)
    except BagelPerfError as error:
        print_error(error)
        return error.exit_code
    return 0


def rewritten(reports: Path) -> Iterator[Path]:
    """Each summary that was missing or not the rendering of the result beside it, once it is."""
    results = sorted(reports.glob(f"*/{RESULT_FILE}"))
    if not results:
        raise UsageError("no results in the folder", value=reports)
    for path in results:
        result, summary = load_checked(path), path.with_name(SUMMARY_FILE)
        if not summary.is_file() or summary.read_text(encoding="utf-8") != summary_markdown(result):
            write_summary(result, path.parent)
            yield summary


if __name__ == "__main__":
    sys.exit(main())
