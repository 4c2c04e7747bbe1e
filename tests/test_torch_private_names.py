"""Private names of torch stand in one module, where what is lost without each is said."""

from __future__ import annotations

import ast
from collections.abc import Iterable

import pytest

from sources import FILES, broken, imports_of, is_under, nodes_of, source_of

TORCH_NAMES = "bagel_perf.rules.torch_names"
PYTHONS_OWN = {"_DummyThread", "_getframe", "_run_module_as_main", "_showwarning_orig", "_showwarnmsg_impl", "_exit"}
PYTHONS_OWN |= {"_fields", "_threading_atexits", "_run_exitfuncs", "_clear", "_ncallbacks"}
PYTHONS_OWN |= {"_extra_reducers", "_on_queue_feeder_error", "_current_frames"}
UNDOCUMENTED = ("torch.multiprocessing.reductions",)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def own_names(sources: Iterable[str]) -> set[str]:
    """What the package itself defines or assigns."""
    own: set[str] = set()
    for node in (node for source in sources for node in nodes_of(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            own.add(node.name)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            own.add(node.id)
        elif isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            own.add(node.attr)
    return own


def chain_of(node: ast.expr) -> list[str]:
    """``a.b.c`` as its parts; empty for anything that does not begin with a name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else []


def private_names_of_torch(source: str, own: set[str]) -> set[str]:
    """Names of torch that no documentation promises, as far as a module's text shows them."""
    found = {name for name in imports_of(source) if is_under(name, "torch") and any(map(is_private, name.split(".")))}
    found |= {name for name in imports_of(source) if any(is_under(name, module) for module in UNDOCUMENTED)}
    for node in nodes_of(source):
        if isinstance(node, ast.Attribute):
            parts = chain_of(node)
            if parts[:1] == ["torch"] and any(map(is_private, parts)):
                found.add(".".join(parts))
            elif isinstance(node.ctx, ast.Load) and is_private(node.attr) and node.attr not in own | PYTHONS_OWN:
                found.add(node.attr)
        elif isinstance(node, ast.Call) and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
            name = node.args[1].value  # of getattr, Patches.add, mock.patch.object
            if isinstance(name, str) and name.isidentifier() and is_private(name) and name not in own | PYTHONS_OWN:
                found.add(name)
    return found


MODULES_OF_THE_PACKAGE = [name for name in FILES if is_under(name, "bagel_perf") and name != TORCH_NAMES]


@pytest.fixture(scope="module")
def own() -> set[str]:
    """Names of the package itself, and those that ``torch_names`` allows to be used in place."""
    from bagel_perf.rules import torch_names

    return own_names(map(source_of, MODULES_OF_THE_PACKAGE)) | {name.name for name in torch_names.MEMBERS}


def test_private_names_of_torch_are_in_one_module(own: set[str]) -> None:
    assert broken(MODULES_OF_THE_PACKAGE, lambda module, source: private_names_of_torch(source, own)) == {}


@pytest.mark.parametrize(
    "line",
    [
        "from torch._C import Generator",
        "from torch.cuda import _gpu_trace",
        "import torch.utils._device",
        "from torch.multiprocessing.reductions import StorageWeakRef",
        "torch._C._len_torch_dispatch_stack()",
        "def f(x: torch._ops.OpOverload) -> None: pass",
        "engine._execution_engine",
        'getattr(torch.autograd, "_engine_run_backward", None)',
        'patches.add(torch._C, "_scatter", 1)',
        'mock.patch.object(owner, "_enable_profiler", 1)',
    ],
)
def test_the_check_sees_a_private_name_of_torch(line: str, own: set[str]) -> None:
    assert private_names_of_torch(line, own) != set()
