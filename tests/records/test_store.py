"""Folders are never overwritten, files never half written, and full disks get one line."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from bagel_perf.records.errors import RunFailed, UsageError
from bagel_perf.records.store import device_slug, make_out_dir, write_json_atomic


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    names = [make_out_dir(tmp_path / "reports", "h200", "abc1234", "2026-01-31").name for _ in range(3)]
    assert names == ["2026-01-31_h200_abc1234", "2026-01-31_h200_abc1234-2", "2026-01-31_h200_abc1234-3"]


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm4"),
        ("", "device"),
    ],
)
def test_a_device_has_a_short_name(name: str, slug: str) -> None:
    assert device_slug(name) == slug


def test_a_failed_write_leaves_the_former_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "result.json"
    write_json_atomic(path, {"a": 1})

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RunFailed, match="no room"):
        write_json_atomic(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        make_out_dir(tmp_path / "file", "cpu", "nogit", "2026-01-31")
    with pytest.raises(UsageError, match="cannot be written"):
        write_json_atomic(tmp_path / "missing" / "result.json", {})


def test_a_folder_of_results_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "reports"
    link.symlink_to(tmp_path / "gone")
    with pytest.raises(UsageError, match="folder of results is a broken link"):
        make_out_dir(link, "h200", "abc1234", "2026-11-27")
