"""A setting of torch that somebody changes on the way is named."""

from __future__ import annotations

import pytest
import torch

from bagel_perf.measure.settings import unchanged_settings
from bagel_perf.records.errors import EnvironmentUnfit


def test_a_setting_that_was_changed_is_named_with_both_values() -> None:
    before = torch.get_float32_matmul_precision()
    other = "high" if before != "high" else "highest"
    try:
        with (
            pytest.raises(EnvironmentUnfit, match=f"float32 matmul precision from {before} to {other}"),
            unchanged_settings(),
        ):
            torch.set_float32_matmul_precision(other)
    finally:
        torch.set_float32_matmul_precision(before)


def test_what_was_set_back_was_not_changed() -> None:
    before = torch.get_float32_matmul_precision()
    with unchanged_settings():
        torch.set_float32_matmul_precision("medium")
        torch.set_float32_matmul_precision(before)
    assert torch.get_float32_matmul_precision() == before


def test_an_error_on_the_way_comes_first() -> None:
    with pytest.raises(KeyError), unchanged_settings():
        raise KeyError
