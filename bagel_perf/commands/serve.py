"""``serve``: becomes the process that serves, so that signals and the exit code are its own."""

from __future__ import annotations

import importlib.util
import json
import os
import sys

from bagel_perf.commands.common import check_json_path
from bagel_perf.pythons import module_command, require_torch
from bagel_perf.records import codec
from bagel_perf.records.errors import EnvironmentUnfit
from bagel_perf.records.serving import ServeOptions

SERVING = ("starlette", "uvicorn", "python_multipart", "prometheus_client")
MAPPED_BYTES = str(4 << 20)
"""From here on glibc gives freed blocks back: the pixels of each request (12 MB) would else leave holes behind."""


def run_serve(options: ServeOptions) -> None:
    """Replaces this process; raises ``EnvironmentUnfit`` where a package is missing."""
    require_torch()
    _require(SERVING, "serve")
    if options.split:
        _require(("ray",), "split")
    check_json_path(options.json_path)
    sys.stdout.flush()
    sys.stderr.flush()
    # Not among the arguments, which everybody on the machine can read; it may hold the API key.
    environment = {
        "OMP_WAIT_POLICY": "PASSIVE",
        "MALLOC_MMAP_THRESHOLD_": MAPPED_BYTES,
        **os.environ,
        "BAGEL_PERF_SERVE": json.dumps(codec.to_json(options)),
    }
    command = module_command("bagel_perf.serve.process")
    os.execve(command[0], command, environment)


def _require(modules: tuple[str, ...], extra: str) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        remedy = f"pip install 'bagel-perf[{extra}]'"
        raise EnvironmentUnfit("packages are missing", value=", ".join(missing), remedy=remedy)
