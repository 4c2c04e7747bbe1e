"""The time grid of reference/bagel.md D1."""

from __future__ import annotations

import pytest
import torch

from bagel_perf.subjects.bagel.loading import VARIANTS
from bagel_perf.subjects.bagel.model.primitives import round_to_fp32, timesteps

CPU = torch.device("cpu")


def test_the_grid_runs_from_one_to_zero_and_is_shifted() -> None:
    times = timesteps(15, 3.0, CPU)
    assert times.shape == (15,)
    assert times[0] == 1 and times[-1] == 0
    linear = torch.linspace(1, 0, 15, dtype=torch.float64)
    torch.testing.assert_close(times.double(), 3 * linear / (1 + 2 * linear), atol=1e-6, rtol=0)


def test_fifteen_points_are_fourteen_steps_of_which_twelve_are_guided_by_the_default_interval() -> None:
    steps = list(VARIANTS["baseline"].timestep_schedule(15, 3.0, (round_to_fp32(0.4), 1.0), 2, CPU))
    assert len(steps) == 14
    assert [step.in_window for step in steps] == [True] * 12 + [False] * 2


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("num_timesteps", [2, 11, 15, 50])
@pytest.mark.parametrize("lower", [0.0, 0.1, 0.4, 0.5])
def test_every_variant_walks_the_same_steps_even_where_a_time_meets_a_bound(
    variant: str, num_timesteps: int, lower: float
) -> None:
    arguments = (num_timesteps, 1.0, (round_to_fp32(lower), 1.0), 3, CPU)
    steps = list(VARIANTS[variant].timestep_schedule(*arguments))
    for step, reference in zip(steps, VARIANTS["baseline"].timestep_schedule(*arguments), strict=True):
        assert torch.equal(step.t_N, reference.t_N)
        assert torch.equal(step.dt, reference.dt)
        assert step.in_window == reference.in_window


def test_bounds_are_rounded_as_a_device_comparison_rounds_them() -> None:
    time = torch.tensor(0.4)
    assert not bool(time > 0.4)
    assert time.item() > 0.4, "in fp64 the same comparison comes out the other way"
    assert not time.item() > round_to_fp32(0.4)
