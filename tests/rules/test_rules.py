"""The one table of rules: each rule is of an operator that there is, and says how often it waits, or has a judge."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bagel_perf.rules.calls import has_place_for, num_read_scalars
from bagel_perf.rules.operators import JUDGES, OPEN, is_quiet, verdict_on
from bagel_perf.rules.table import RULES, quiet_operators

aten: Any = torch.ops.aten
REMOVED = {"cholesky"}
"""Operators that releases from 2.14 on no longer have."""


def test_each_rule_has_a_number_or_a_judge_and_words_for_it() -> None:
    assert {name for name, rule in RULES.items() if rule.waits is None} == set(JUDGES)
    assert [name for name, rule in RULES.items() if rule.waits is None and not rule.when] == []


def is_of_torch(name: str) -> bool:
    base, _, overload = name.partition(".")
    known = hasattr(aten, base) or base in REMOVED
    return known and (not overload or overload in getattr(aten, base).overloads())


def test_each_rule_is_of_an_operator_of_torch() -> None:
    assert [name for name in RULES if not is_of_torch(name)] == []
    assert not is_of_torch("add.Nothing") and not is_of_torch("added")


def test_no_operator_is_both_quiet_and_in_the_table_by_the_same_name() -> None:
    listed = {f"{name}.{overload}" for name, overloads in quiet_operators().items() for overload in overloads}
    assert listed & set(RULES) == set()
    assert len(quiet_operators()) > 700


def on_device(value: object) -> bool:
    """In these tests what is bigger than a number is on the device, and what is named so."""
    return isinstance(value, Tensor)


I64, F32 = torch.arange(16), torch.rand(16)
MASK = I64 > 3


@pytest.mark.parametrize(
    ("operator", "args", "kwargs", "waits"),
    [
        (aten._local_scalar_dense.default, (F32[0],), {}, 1),
        (aten.isin.Tensor_Tensor, (I64, I64[:13]), {}, 0),
        (aten.isin.Tensor_Tensor, (I64, I64[:14]), {}, 3),
        (aten.isin.Tensor_Tensor, (I64, I64), {"assume_unique": True}, 1),
        (aten.isin.Scalar_Tensor, (3, I64), {}, 3),
        (aten.isin.Scalar_Tensor, (3, I64[:9]), {}, 0),
        (aten.searchsorted.Tensor, (F32, F32), {"sorter": I64}, 2),
        (aten.searchsorted.Tensor, (F32, F32), {}, 0),
        (aten.linspace.Tensor_Tensor, (F32[0], F32[1], 8), {}, 2),
        (aten.linspace.Scalar_Tensor, (0.0, F32[1], 8), {}, 1),
        (aten.masked_fill_.Tensor, (F32, MASK, F32[0]), {}, 1),
        (aten.masked_scatter_backward.default, (F32, MASK, [16]), {}, 1),
        (aten.index.Tensor, (F32, [MASK]), {}, 1),
        (aten.index.Tensor, (F32, [I64]), {}, 0),
        (aten.index_put_.default, (F32, [MASK], F32), {}, 1),
        (aten.histc.default, (F32, 4), {}, 2),
        (aten.histc.default, (F32, 4, 0, 1), {}, 0),
        (aten.repeat_interleave.Tensor, (I64,), {"output_size": 9}, 0),
        (aten.mode.default, (torch.rand(2048),), {}, 0),
        (aten.mode.default, (torch.rand(2049),), {}, None),
        (aten._linalg_svd.default, (torch.rand(32, 32),), {}, 2),
        (aten._linalg_svd.default, (torch.rand(33, 3),), {}, None),
        (aten.linalg_lu_factor_ex.default, (torch.rand(64, 64),), {}, 0),
        (aten.linalg_lu_factor_ex.default, (torch.rand(3, 4),), {}, None),
        (aten.unique_consecutive.default, (I64,), {"dim": 0}, None),
        (aten._grouped_mm.default, (F32, F32, I64), {}, 1),
        (aten._grouped_mm.default, (F32.bfloat16(), F32.bfloat16(), I64), {}, 0),
        (aten._grouped_mm.default, (F32, F32), {}, 0),
        (aten.add.Tensor, (F32, F32), {}, 0),
        (aten.add_.Tensor, (F32, F32), {}, 0),
        (aten.add.out, (F32, F32), {"out": F32}, 0),
        (aten.unique_dim.default, (F32, 0), {}, None),
        (aten.linalg_eig.default, (F32,), {}, None),
    ],
    ids=lambda value: str(value) if isinstance(value, torch._ops.OpOverload) else None,
)
def test_an_operator_waits_as_measured(operator: Any, args: tuple[Any, ...], kwargs: Any, waits: int | None) -> None:
    assert verdict_on(operator).waits(args, kwargs, on_device) == waits


def test_of_an_operator_that_nobody_measured_nothing_is_known() -> None:
    assert verdict_on(aten.linalg_ldl_solve.default) == OPEN
    assert not is_quiet("an_operator_of_tomorrow", "default")


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "reads"),
    [
        ("add", (F32, F32[0]), {}, 0),
        ("add", (F32, F32), {"alpha": F32[0]}, 1),
        ("pad", (F32, (0, I64[2])), {}, 1),
        ("tril", (F32, I64[0]), {}, 1),
        ("normal_", (F32, F32[0], 1.0), {}, 1),
        ("clamp", (F32,), {"min": F32[0]}, 0),
        ("clamp", (F32, 0.0, F32[0]), {}, 1),
        ("cat", ([F32, F32], I64[0]), {}, 1),
        ("cat", ([F32, F32], 0), {}, 0),
        ("interpolate", (F32,), {"size": (I64[2], I64[2])}, 2),
        ("sum", (F32,), {"dim": I64[0]}, 1),
        ("lerp", (F32, F32, F32[0]), {}, 0),
        ("lerp", (F32, F32, 0.5), {}, 0),
    ],
)
def test_a_device_scalar_where_a_number_belongs_is_read(name: str, args: Any, kwargs: Any, reads: int) -> None:
    assert has_place_for(name, args, kwargs, on_device) is (reads == 0)
    assert num_read_scalars(name, args, kwargs, on_device) == reads
