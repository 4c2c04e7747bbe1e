"""Settings of torch that decide bits or speed: those at the end have to be those of the beginning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bagel_perf.harness.environment import numeric_settings
from bagel_perf.schema.errors import EnvironmentUnfit


def changes_since(before: Mapping[str, object]) -> dict[str, str]:
    """Each setting that is another now than in ``before``, which was ``numeric_settings()``; FROM to TO in words."""
    after = numeric_settings()
    return {name: f"{value} to {after[name]}" for name, value in before.items() if after[name] != value}


def changes_text(changes: Mapping[str, str]) -> str:
    """The changes on one line."""
    return ", ".join(f"{name} from {change}" for name, change in changes.items())


def settings_changed(changes: str) -> EnvironmentUnfit:
    """The error of a run that changed settings on the way."""
    remedy = "runs before and after it are not alike; find what sets it, and set it before all"
    return EnvironmentUnfit("settings changed while variants were measured", value=changes, remedy=remedy)


@contextmanager
def unchanged_settings() -> Iterator[None]:
    """Raises EnvironmentUnfit at the end if a setting was changed."""
    before = numeric_settings()
    yield
    changes = changes_since(before)
    if changes:
        raise settings_changed(changes_text(changes))
