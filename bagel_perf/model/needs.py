"""Packages that a checkpoint takes, and random weights do not."""

from __future__ import annotations

import importlib
from typing import Any

from bagel_perf.schema.errors import EnvironmentUnfit


def needed(name: str) -> Any:
    """Imports a package of the extra ``bagel``; EnvironmentUnfit where it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as problem:
        remedy = "pip install 'bagel-perf[bagel]', or leave --weights out"
        raise EnvironmentUnfit("a checkpoint takes a package that is missing", value=name, remedy=remedy) from problem
