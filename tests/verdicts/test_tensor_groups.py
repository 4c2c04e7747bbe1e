"""Golden tensors are grouped by the part they play, and the worst of each is found."""

from __future__ import annotations

import pytest

from bagel_perf.records.runs import TensorCheck
from bagel_perf.verdicts.identity import group_name, tensor_groups


def check(tensor: str, error: float, limit: float = 0.04) -> TensorCheck:
    return TensorCheck(variant="baseline", tensor=tensor, error=error, limit=limit, ok=error <= limit)


@pytest.mark.parametrize(
    ("tensor", "group"),
    [
        ("i2i.main.k.0", "kv cache"),
        ("t2i.cfg_img.v.11", "kv cache"),
        ("i2i_text_channel.v.3", "v"),
        ("i2i_channel.uint8", "uint8"),
        ("vae_encoder_moments", "vae_encoder_moments"),
        ("i2i_channel.kv_length.main", "kv_length"),
        ("t2i_global.num_steps", "num_steps"),
    ],
)
def test_a_tensor_belongs_to_the_part_it_plays(tensor: str, group: str) -> None:
    assert group_name(tensor) == group


def test_the_worst_is_the_one_nearest_to_its_own_limit() -> None:
    (group,) = tensor_groups([check("a.v.0", 0.03, limit=0.08), check("a.v.1", 0.02, limit=0.021)])
    assert (group.worst.tensor, group.num_tensors, group.ok) == ("a.v.1", 2, True)


@pytest.mark.parametrize("bad", [check("a.v.1", float("nan")), check("a.v.1", 1, limit=0)])
def test_one_bad_tensor_fails_its_group(bad: TensorCheck) -> None:
    group = tensor_groups([check("a.v.0", 0.039), bad, check("a.v.2", 0.0, limit=0)])[0]
    assert group.worst == bad
    assert not group.ok
