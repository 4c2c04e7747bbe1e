"""What a declared tolerance is judged against, where its limit lies, and how it reads where nothing is beside it."""

from __future__ import annotations

import pytest

from bagel_perf.schema.errors import UsageError
from scripted import make_plan


@pytest.mark.parametrize("variants", [("close", "baseline"), ("close", "fused", "baseline"), ("close", "fused")])
def test_a_picture_held_to_a_tolerance_is_no_reference(variants: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        make_plan(variants=variants)
    others = ",".join(name for name in variants if name != "baseline")
    assert str(caught.value) == (
        "the first variant is the reference, and its picture is held only to a tolerance (close); "
        f"it has to be bitwise; put baseline first: --variants baseline,{others}"
    )


def test_any_bitwise_variant_is_a_reference() -> None:
    assert make_plan(variants=("fused", "close")).variants == ("fused", "close")
    assert make_plan(variants=("close-norm_activate", "close")).variants[0] == "close-norm_activate"
