"""The process that looks at torch for ``doctor``: without ``gpu`` as argument it reads its version and imports nothing.

Importing torch takes seconds, which only a GPU is worth: whether torch sees it, and whether kernels can be recorded.
"""

from __future__ import annotations

import json
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

from msgspec.structs import replace

from bagel_perf.records import codec
from bagel_perf.records.diagnosis import TorchFacts


def facts(*, with_gpu: bool) -> TorchFacts:
    """Gives what torch is, and what it can do with a GPU."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return TorchFacts()
    stated = runpy.run_path(str(Path(spec.origin).with_name("version.py")))
    found = TorchFacts(version=str(stated["__version__"]), cuda=stated.get("cuda"))
    if not with_gpu:
        return found
    try:
        return _with_gpu(found)
    except Exception as problem:  # whatever an unfit driver or library makes torch raise
        return replace(found, sees_gpu=found.sees_gpu or False, problem=f"{type(problem).__name__}: {problem}")


def _with_gpu(found: TorchFacts) -> TorchFacts:
    import torch

    if not torch.cuda.is_available():
        return replace(found, sees_gpu=False)
    found = replace(found, sees_gpu=True)
    try:
        return replace(found, records_kernels=_records_kernels())
    except Exception as problem:
        return replace(found, records_kernels=False, problem=f"{type(problem).__name__}: {problem}")


def _records_kernels() -> bool:
    """Says whether CUPTI tells the profiler of a kernel that runs."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    x = torch.ones(8, device="cuda")
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        x.add_(1)
        torch.cuda.synchronize()
    return any(event.device_type.name == "CUDA" for event in profiled.events() or ())


def start() -> None:
    """Prints the facts as JSON."""
    print(json.dumps(codec.to_json(facts(with_gpu="gpu" in sys.argv[1:]))))
