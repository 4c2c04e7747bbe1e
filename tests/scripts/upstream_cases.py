"""Runs requests of a release of vLLM-Omni in one process: ``upstream_cases.py RUNNER RELEASE "OPTION..." ...``.

RUNNER is a script that runs upstream's own BAGEL with random weights. Each request is in a region of its own,
``case 0`` and so on; importing vLLM takes longer than all of them.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from pathlib import Path

import torch

if __name__ == "__main__":
    runner, release, *cases = sys.argv[1:]
    sys.path.insert(0, str(Path(runner).parent))
    for number, options in enumerate(cases):
        sys.argv = [runner, release, *options.split()]
        torch.cuda.nvtx.range_push(f"case {number}")
        runpy.run_path(runner, run_name="__main__")
        torch.cuda.nvtx.range_pop()
        # What the runner puts in place of missing packages stays; a second time it would register operators again.
        importlib.import_module("shim").install = lambda *_: None  # type: ignore[attr-defined]
