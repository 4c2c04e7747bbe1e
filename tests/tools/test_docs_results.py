"""docs/bagel.md shows the committed result, and a check notices when it does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bagel_perf.records.results import load
from bagel_perf.records.store import write_json_atomic
from bagel_perf.verdicts.compare import Session, build_result
from docs_results import BEGIN, END, main, update
from scripted import ENVIRONMENT, make_outline, make_plan, make_runs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plan = make_plan()
    session = Session(
        command="bagel-perf compare", created="2026-01-31T12:00:00+00:00", pairs=5, warmup=1, order_seed=0, processes=5
    )
    result = build_result(make_outline(plan), ENVIRONMENT, list(make_runs(plan)), session)
    folder = tmp_path / "reports" / "2026-01-31_h200_abc1234"
    folder.mkdir(parents=True)
    write_json_atomic(folder / "result.json", result.to_json())
    return folder


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    path = tmp_path / "README.md"
    path.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\n## More\n")
    return path


def test_only_what_stands_between_the_markers_is_replaced(folder: Path, readme: Path) -> None:
    assert main([str(folder), str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith(f"# Title\n\n{BEGIN}\n**Latency on NVIDIA H200")
    assert text.endswith(f"{END}\n\n## More\n")
    assert "old" not in text


def test_several_results_stand_one_below_the_other(folder: Path, readme: Path) -> None:
    assert main([str(folder), str(folder / "result.json"), str(readme)]) == 0
    assert readme.read_text().count("**Latency on NVIDIA H200") == 2
    assert main([str(folder), str(folder), str(readme), "--check"]) == 0
    assert main([str(folder), str(readme), "--check"]) == 1


def test_provenance_links_to_the_folder(folder: Path, readme: Path) -> None:
    main([str(folder / "result.json"), str(readme)])
    link = "reports/2026-01-31_h200_abc1234"
    expected = f"Measured on NVIDIA H200, torch 2.11.0, commit abc1234, 2026-01-31 UTC: [{link}]({link})."
    assert expected in readme.read_text()


def test_check_notices_an_edited_table_and_writes_nothing(folder: Path, readme: Path) -> None:
    assert main([str(folder), str(readme), "--check"]) == 1
    assert "old" in readme.read_text()
    main([str(folder), str(readme)])
    assert main([str(folder), str(readme), "--check"]) == 0
    readme.write_text(readme.read_text().replace("-40.0", "-50.0"))
    assert main([str(folder), str(readme), "--check"]) == 1


@pytest.mark.parametrize("text", ["no markers", f"{END}\n{BEGIN}", f"{BEGIN}\n{BEGIN}\n{END}", BEGIN])
def test_a_file_without_the_markers_is_a_usage_error(folder: Path, readme: Path, text: str) -> None:
    readme.write_text(text)
    assert main([str(folder), str(readme)]) == 2
    assert readme.read_text() == text


def test_a_missing_result_is_a_usage_error(tmp_path: Path, readme: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.json"), str(readme)]) == 2
    assert capsys.readouterr().err.startswith("error: result file cannot be read")


def test_the_document_of_the_project_shows_a_committed_result_of_a_gpu() -> None:
    document = Path(__file__).parents[2] / "docs" / "bagel.md"
    shown = re.findall(r"\]\((\.\./reports/[0-9][^)]+)\)", document.read_text(encoding="utf-8"))
    assert shown, "the document names the results that its tables come from"
    folders = [document.parent.joinpath(each).resolve() for each in shown]
    assert update(folders, document, check=True) == 0
    for folder in folders:
        assert load(folder / "result.json").environment.device_kind == "cuda"
