"""Releases of torch under which the tests were run; reports/torch-versions has the figures."""

from __future__ import annotations

import re

TESTED = ("2.11", "2.12", "2.13", "2.14", "2.15")


def is_tested(version: str) -> bool:
    """Says whether a version is of a tested release; builds between releases never are."""
    release = re.match(r"(\d+\.\d+)\.\d+(\+.*)?$", version)
    return release is not None and release[1] in TESTED


def tested_text() -> str:
    """Gives the tested releases as ``2.11, 2.12 and 2.13``."""
    return f"{', '.join(TESTED[:-1])} and {TESTED[-1]}"
