"""Names the folders of this package whose code measures somebody's program; frames in them are never the program's."""

from __future__ import annotations

import os
from pathlib import Path

MEASURING_FOLDERS = tuple(
    f"{Path(__file__).parents[1] / name}{os.sep}" for name in ("measure", "rules", "simulated", "syncs")
)
