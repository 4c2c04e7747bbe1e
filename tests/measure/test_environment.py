"""A result names the commit that was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from bagel_perf.measure.environment import git_revision


def test_a_copy_says_itself_what_was_copied_whatever_checkout_it_lies_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAGEL_PERF_COMMIT", "abc1234")
    assert git_revision(Path(__file__).parent) == ("abc1234", None)


def test_a_whole_hash_of_a_copy_is_shortened_as_that_of_a_checkout_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAGEL_PERF_COMMIT", "0123456789abcdef0123456789abcdef01234567")
    assert git_revision(Path(__file__).parent) == ("0123456", None)


def test_what_lies_in_no_checkout_has_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BAGEL_PERF_COMMIT", raising=False)
    assert git_revision(tmp_path) == (None, None)
