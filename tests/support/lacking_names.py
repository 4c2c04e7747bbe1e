"""Runs one program under the simulated device once for each name of torch, as if this torch did not have it.

Each runs in a fork of its own, before anything but the names is imported; prints a line of JSON for each.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import nvtx  # noqa: F401 - what would otherwise be imported in each fork
import torch
import torch._dynamo
import torch.profiler

sys.path.insert(0, str(Path(__file__).parents[2]))

import bagel_perf.records.results
import bagel_perf.rules.expressions
import bagel_perf.traces.analyse
import bagel_perf.traces.formats.reading  # noqa: F401 - as above; nothing of these looks for a name
from bagel_perf.rules import torch_lacks
from bagel_perf.rules.torch_versions import TorchName


class _Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * 2

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (saved,) = ctx.saved_tensors
        return gradients[0] * 2 + 0 * saved


def _program() -> None:
    x = torch.ones(4, device="cuda", requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda saved: saved, lambda packed: packed):
        loss = _Double.apply(x).square().sum()  # type: ignore[no-untyped-call]
    loss.backward()
    torch.optim.SGD([x], lr=0.1).step()
    torch.vmap(torch.sin)(x.detach())
    torch.nn.functional.softmax(x, dim=0).sum().item()
    x.detach().cpu().pin_memory().to("cuda", non_blocking=True)


def _outcome() -> dict[str, Any]:
    from bagel_perf.simulated import SimulatedCuda
    from bagel_perf.syncs import watch_host_syncs

    try:
        with SimulatedCuda(), watch_host_syncs("cuda") as watch:
            _program()
    except Exception as problem:
        place = traceback.format_exc() if not hasattr(problem, "exit_code") else ""
        return {"error": type(problem).__name__, "text": f"{problem} {place}", "unjudged": []}
    report = watch.report()
    return {"error": "", "text": " ".join(report.notes), "unjudged": list(report.unjudged)}


def _lose(name: TorchName) -> None:
    object.__setattr__(name, "paths", (name.paths[0] + "_that_is_gone",))


def main() -> None:
    """One fork a name, none of which copies what the collector of this process would touch."""
    gc.freeze()
    gc.disable()
    for name in torch_lacks.all_names():
        if "simulated" in name.sides and not name.is_added:
            sys.stdout.flush()
            child = os.fork()
            if child == 0:
                known = str(name)
                _lose(name)
                print(json.dumps({"name": known, **_outcome()}), flush=True)
                os._exit(0)
            os.waitpid(child, 0)


if __name__ == "__main__":
    main()
