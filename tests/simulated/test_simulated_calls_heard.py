"""Who listens hears each torch call once, with what it was given and gave; backward passes by their operators."""

from __future__ import annotations

from typing import Any

import torch

from bagel_perf.simulated import SimulatedCuda, SimulatedDevice


class Ear:
    def __init__(self) -> None:
        self.heard: list[tuple[str, Any, Any]] = []

    def __call__(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        self.heard.append((name, args, result))

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self.heard]


def test_each_call_is_heard_with_its_arguments_and_result_until_the_end_of_the_context() -> None:
    ear = Ear()
    with SimulatedDevice() as device:
        x = torch.ones(3, device=device.device)
        with device.calls_to(ear):
            y = x.mul(2.0)
            host = torch.zeros(2)
            _ = x.shape, x.dim(), x.device, len(x)
        x.add_(1.0)
    (name, args, result), (factory, _, made) = ear.heard
    assert name == "mul" and args[0] is x and args[1] == 2.0 and result is y
    assert factory == "zeros" and made is host


def test_a_backward_pass_is_heard_by_its_operators() -> None:
    ear = Ear()
    with SimulatedDevice() as device:
        w = torch.ones(3, device=device.device, requires_grad=True)
        loss = (w * w).sum()
        with device.calls_to(ear):
            loss.backward()
    assert "mul" in ear.names and "backward" in ear.names


def test_an_event_has_a_handle_from_its_first_record_on() -> None:
    with SimulatedCuda():
        event = torch.cuda.Event()
        assert not event.cuda_event
        event.record()
        assert event.cuda_event
