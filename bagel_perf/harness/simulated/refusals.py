"""What a CUDA program may ask for that the simulated device does not have."""

from __future__ import annotations

from typing import Any


class NotSimulated(RuntimeError):
    """The program asked for something of CUDA that the simulated device does not have."""

    def __init__(self, name: str, reason: str = "") -> None:
        super().__init__(f"{name} is not simulated{reason and ': '}{reason}")
        self._parts = name, reason

    def __reduce__(self) -> tuple[type[NotSimulated], tuple[str, str]]:
        """A worker process may send it."""
        return NotSimulated, self._parts


def refused_function(name: str, reason: str = "") -> Any:
    """Stands for a function; raises NotSimulated when called."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise NotSimulated(name, reason)

    return refuse


def refused_class(name: str, reason: str = "") -> Any:
    """Stands for a class; raises NotSimulated when an instance is made, and has no instances."""

    def refuse(cls: type, *args: Any, **kwargs: Any) -> Any:
        raise NotSimulated(name, reason)

    return type(name.rpartition(".")[2], (), {"__new__": refuse})
