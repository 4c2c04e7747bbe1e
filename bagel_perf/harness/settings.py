"""Settings of torch that decide bits or speed: those at the end have to be those of the beginning."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bagel_perf.harness.environment import numeric_settings
from bagel_perf.schema.errors import EnvironmentUnfit


@contextmanager
def unchanged_settings() -> Iterator[None]:
    """Raises EnvironmentUnfit at the end if a setting was changed."""
    before = numeric_settings()
    yield
    after = numeric_settings()
    changed = [f"{name} from {value} to {after[name]}" for name, value in before.items() if after[name] != value]
    if changed:
        raise EnvironmentUnfit(
            "settings changed while variants were measured",
            value=", ".join(changed),
            remedy="runs before and after it are not alike; find what sets it, and set it before all",
        )
