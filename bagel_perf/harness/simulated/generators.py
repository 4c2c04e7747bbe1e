"""Random generators of the simulated device, which are CPU generators: host and device share the default one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bagel_perf.harness.simulated.tensor import DEVICE

_Native: Any = torch.Generator


class _AnyGenerator(type(_Native)):  # type: ignore[misc]
    """Generators made before the device was opened are generators too."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _Native)


class SimulatedGenerator(_Native, metaclass=_AnyGenerator):  # type: ignore[misc]
    """Stands for ``torch.Generator``, on either device."""

    _device: torch.device

    def __new__(cls, device: Any = "cpu") -> Any:
        wanted = torch.device(device)
        made = super().__new__(cls, "cpu" if wanted.type == "cuda" else wanted)
        made._device = DEVICE if wanted.type == "cuda" else wanted
        return made

    @property
    def device(self) -> torch.device:
        return self._device


def manual_seed(seed: int) -> None:
    torch.default_generator.manual_seed(int(seed))


def seed() -> None:
    torch.default_generator.seed()


def initial_seed() -> int:
    return torch.default_generator.initial_seed()


def get_rng_state(device: Any = "cuda") -> Tensor:
    return torch.default_generator.get_state()


def set_rng_state(new_state: Tensor, device: Any = "cuda") -> None:
    torch.default_generator.set_state(new_state)


FUNCTIONS: dict[str, Any] = {
    "manual_seed": manual_seed,
    "manual_seed_all": manual_seed,
    "seed": seed,
    "seed_all": seed,
    "initial_seed": initial_seed,
    "get_rng_state": get_rng_state,
    "set_rng_state": set_rng_state,
    "get_rng_state_all": lambda: [get_rng_state()],
    "set_rng_state_all": lambda new_states: set_rng_state(new_states[0]),
}
