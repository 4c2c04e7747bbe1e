"""Each committed summary is what its result gives now."""

from __future__ import annotations

from pathlib import Path

import pytest

from bagel_perf.records.results import RESULT_FILE
from bagel_perf.report.summary import SUMMARY_FILE, summary_markdown
from bagel_perf.verdicts.reading import load_checked
from committed_results import committed
from summaries import main

FOLDERS = committed(RESULT_FILE)


def test_there_are_committed_results() -> None:
    assert FOLDERS
    assert committed(SUMMARY_FILE) == FOLDERS


@pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])
def test_a_committed_summary_is_the_rendering_of_its_result(folder: Path) -> None:
    expected = summary_markdown(load_checked(folder))
    found = (folder / SUMMARY_FILE).read_text(encoding="utf-8")
    assert found == expected, "python tests/tools/summaries.py reports"


def test_stale_summaries_are_written_again_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / RESULT_FILE).write_bytes((FOLDERS[0] / RESULT_FILE).read_bytes())
    (tmp_path / "others").mkdir()
    expected = summary_markdown(load_checked(FOLDERS[0]))
    (tmp_path / "a" / SUMMARY_FILE).write_text("stale")
    (tmp_path / "b" / SUMMARY_FILE).write_text(expected, encoding="utf-8")
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'a' / SUMMARY_FILE}\n"
    assert (tmp_path / "a" / SUMMARY_FILE).read_text(encoding="utf-8") == expected


def test_a_folder_without_results_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: no results in the folder ({tmp_path})\n"
