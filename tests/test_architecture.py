"""Who may import whom, held as a literal and checked against the source; and what no file may do."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("bagel_perf", "kernels_baseline", "kernels_optimized")

SLOT_SIDE_OF_THE_MODEL = {
    "bagel_perf.model.contracts",
    "bagel_perf.model.layout",
    "bagel_perf.model.normalize",
    "bagel_perf.model.packing",
    "bagel_perf.model.schedule",
    "bagel_perf.model.transfer",
    "bagel_perf.harness.regions",
}
# The longest name that a module starts with is its row; the row says what it may import of ours, and of others.
OURS: dict[str, set[str]] = {
    "bagel_perf": {"bagel_perf.api", "bagel_perf.harness"},
    "bagel_perf.api": {
        "bagel_perf.analysis",
        "bagel_perf.commands",
        "bagel_perf.frames",
        "bagel_perf.harness",
        "bagel_perf.plots",
        "bagel_perf.recorder",
        "bagel_perf.report",
        "bagel_perf.schema",
        "bagel_perf.subjects",
        "bagel_perf.workload",
    },
    "bagel_perf.frames": {"bagel_perf.schema"},
    "bagel_perf.plots": {"bagel_perf.analysis", "bagel_perf.report", "bagel_perf.schema"},
    "bagel_perf.sharing": {"bagel_perf.launch", "bagel_perf.schema"},
    "bagel_perf.__main__": {"bagel_perf.cli"},
    "bagel_perf.schema": {"bagel_perf.schema"},
    "bagel_perf.analysis": {"bagel_perf.analysis", "bagel_perf.schema"},
    "bagel_perf.report": {"bagel_perf.report", "bagel_perf.analysis", "bagel_perf.schema"},
    "bagel_perf.launch": {"bagel_perf.pythons", "bagel_perf.schema"},
    "bagel_perf.pythons": {"bagel_perf.schema"},
    "bagel_perf.recorder": {"bagel_perf.analysis", "bagel_perf.schema"},
    "bagel_perf.cli": {"bagel_perf.cli", "bagel_perf.commands", "bagel_perf.schema"},
    "bagel_perf.commands": {
        "bagel_perf.commands",
        "bagel_perf.launch",
        "bagel_perf.pythons",
        "bagel_perf.recorder",
        "bagel_perf.report",
        "bagel_perf.sharing",
        "bagel_perf.analysis",
        "bagel_perf.schema",
    },
    "bagel_perf.harness": {"bagel_perf.harness", "bagel_perf.schema"},
    # A profile taken here is read like one that somebody recorded elsewhere.
    "bagel_perf.harness.syncs.profiling": {"bagel_perf.harness", "bagel_perf.analysis.traces", "bagel_perf.schema"},
    "bagel_perf.harness.device_work": {"bagel_perf.harness", "bagel_perf.analysis.traces", "bagel_perf.schema"},
    # It runs beside a measurement, so it loads nothing that it does not need.
    "bagel_perf.harness.telemetry_process": {"bagel_perf.harness.nvml", "bagel_perf.schema"},
    "bagel_perf.harness.nvml": set(),
    "bagel_perf.pytest_plugin": {
        "bagel_perf.harness",
        "bagel_perf.report",
        "bagel_perf.pytest_counts",
        "bagel_perf.schema",
    },
    "bagel_perf.pytest_counts": {
        "bagel_perf.harness",
        "bagel_perf.report",
        "bagel_perf.analysis.count_drift",
        "bagel_perf.schema",
    },
    "bagel_perf.model": {
        "bagel_perf.model",
        "bagel_perf.harness.regions",
        "bagel_perf.harness.torch_names",
        "bagel_perf.schema.errors",
        "bagel_perf.schema.strict_json",
    },
    "bagel_perf.subjects": {"bagel_perf.subjects", "bagel_perf.harness", "bagel_perf.schema"},
    "bagel_perf.workload": {
        "bagel_perf.workload",
        "bagel_perf.subjects",
        "bagel_perf.harness",
        "bagel_perf.model",
        "bagel_perf.schema",
        *PACKAGES[1:],
    },
    "bagel_perf.workload.prices": {
        "bagel_perf.workload",
        "bagel_perf.harness",
        "bagel_perf.analysis.stats",
        "bagel_perf.schema",
    },
    "kernels_baseline": {"kernels_baseline", *SLOT_SIDE_OF_THE_MODEL},
    "kernels_optimized": set(),
    "kernels_optimized.pr3987": {"kernels_optimized.pr3987", "kernels_baseline", *SLOT_SIDE_OF_THE_MODEL},
    "kernels_optimized.sync_free": {
        "kernels_optimized.sync_free",
        "kernels_optimized.pr3987",
        "kernels_baseline",
        *SLOT_SIDE_OF_THE_MODEL,
    },
    "kernels_optimized.close": {
        "kernels_optimized.close",
        "kernels_optimized.fused",
        "kernels_baseline",
        *SLOT_SIDE_OF_THE_MODEL,
    },
    "kernels_optimized.fused": {
        "kernels_optimized.fused",
        "kernels_optimized.captured",
        "kernels_optimized.sync_free",
        "bagel_perf.model",
    },
    "kernels_optimized.captured": {
        "kernels_optimized.captured",
        "kernels_optimized.sync_free",
        "bagel_perf.harness.captures",
        "bagel_perf.model.bagel",
        "bagel_perf.model.denoise",
        *SLOT_SIDE_OF_THE_MODEL,
    },
}
TORCH_SIDE = {"msgspec", "torch", "numpy", "PIL", "safetensors", "transformers", "nvtx"}
OTHERS: dict[str, set[str]] = {
    "bagel_perf": {"msgspec"},
    "bagel_perf.api": {"msgspec", "pandas", "matplotlib"},
    "bagel_perf.frames": {"pandas"},
    "bagel_perf.plots": {"matplotlib"},
    "bagel_perf.commands.sizes": {"pynvml"},
    "bagel_perf.report.notebook": {"markupsafe"},
    "bagel_perf.analysis": {"msgspec", "numpy"},
    "bagel_perf.report": {"msgspec", "rich"},
    "bagel_perf.report.archive": {"msgspec", "PIL"},
    "bagel_perf.report.pixels": {"PIL"},
    "bagel_perf.report.html": {"msgspec", "jinja2", "markupsafe", "matplotlib", "PIL"},
    "bagel_perf.cli": {"typer"},
    "bagel_perf.harness": TORCH_SIDE,
    "bagel_perf.harness.nvml": set(),
    "bagel_perf.harness.telemetry_process": {"pynvml"},
    "bagel_perf.model": TORCH_SIDE,
    "bagel_perf.subjects": TORCH_SIDE,
    "bagel_perf.workload": TORCH_SIDE,
    "bagel_perf.pytest_plugin": {"pytest", "torch"},
    "bagel_perf.pytest_counts": {"pytest"},
    "kernels_baseline": {"torch"},
    "kernels_optimized": {"torch"},
    "kernels_optimized.close": {"torch", "triton"},
    "kernels_optimized.fused": {"torch", "triton"},
}
WITHOUT_TORCH = ("schema", "analysis", "report", "launch", "recorder", "commands", "cli")
SLOW = {"torch", "numpy", "pandas", "rich", "PIL", "transformers", "jinja2", "matplotlib"}
DISTRIBUTIONS = {"PIL": "pillow", "pynvml": "nvidia-ml-py"}

HOSTS = {"pytest"}
"""Programs that import the package, and not the other way round."""
WITH_TORCH = {"triton"}
"""What torch's CUDA builds bring along; without it nothing imports it."""

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


@functools.cache
def source_of(module: str) -> str:
    return FILES[module].read_text(encoding="utf-8")


@functools.cache
def tree_of(source: str) -> ast.Module:
    return ast.parse(source)


@functools.cache
def nodes_of(source: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree_of(source)))


@functools.cache
def imports_of(source: str) -> tuple[str, ...]:
    """Full names of what a module imports, wherever in it; ``from a import b`` gives ``a.b``."""
    return tuple(_imports_of(source))


def _imports_of(source: str) -> Iterator[str]:
    for node in nodes_of(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def row_of(module: str, table: dict[str, set[str]]) -> set[str]:
    return table[max((name for name in table if is_under(module, name)), key=len)]


def violations(module: str, source: str) -> list[str]:
    """What a module imports and may not."""
    found = []
    for name in imports_of(source):
        top = name.split(".")[0]
        if top in PACKAGES:
            # ``from kernels_optimized import sync_free`` is allowed where the package is, so its own name counts.
            allowed = any(is_under(name, prefix) for prefix in row_of(module, OURS))
        else:
            allowed = top in sys.stdlib_module_names or top in row_of(module, OTHERS)
        if not allowed:
            found.append(name)
    return found


def effects(source: str) -> list[int]:
    """Lines of module-level statements that act on something: bare calls, and assignments into other objects."""
    lines = []
    for node in tree_of(source).body:
        if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
            lines.append(node.lineno)
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, (ast.Attribute, ast.Subscript)) for target in targets):
            lines.append(node.lineno)
        if isinstance(node, (ast.For, ast.While, ast.With, ast.AugAssign, ast.Delete)):
            targets = [node.target] if isinstance(node, ast.AugAssign) else []
            if not any(isinstance(target, ast.Name) for target in targets):
                lines.append(node.lineno)
    return lines


def broken(modules: Iterable[str], rule: Callable[[str, str], object]) -> dict[str, object]:
    """What a rule, which is given a name and a source, finds in each module that breaks it."""
    found = {module: rule(module, source_of(module)) for module in modules}
    return {module: each for module, each in found.items() if each}


def test_a_module_imports_only_what_its_row_allows() -> None:
    assert broken(FILES, violations) == {}


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("bagel_perf.schema.runs", "import torch"),
        ("bagel_perf.cli", "def f() -> None:\n    import torch"),
        ("bagel_perf.cli", "from bagel_perf.workload import worker"),
        ("bagel_perf.analysis.stats", "from bagel_perf import report"),
        ("bagel_perf.harness.syncs", "from bagel_perf.model.bagel import Bagel"),
        ("bagel_perf.model.vit", "from bagel_perf.harness import syncs"),
        ("kernels_baseline.loop", "from kernels_optimized.pr3987 import routing"),
        ("kernels_optimized.pr3987.routing", "import kernels_optimized.sync_free.routing"),
        ("kernels_optimized.captured.loop", "import kernels_optimized.fused.step"),
        ("kernels_optimized.captured.loop", "import triton"),
        ("kernels_optimized.fused.step", "from kernels_optimized.close import normalize"),
        ("kernels_baseline.normalize", "from kernels_optimized.close import normalize"),
        ("kernels_optimized.sync_free.loop", "from bagel_perf.model.decoder import decode"),
    ],
)
def test_the_check_sees_a_forbidden_import(module: str, line: str) -> None:
    assert violations(module, line) != []


def test_importing_a_module_has_no_effect() -> None:
    assert broken(FILES, lambda module, source: effects(source)) == {}


@pytest.mark.parametrize(
    "source", ["torch.set_grad_enabled(False)", "torch.backends.cudnn.benchmark = True", "os.environ['A'] = '1'"]
)
def test_the_check_sees_an_effect(source: str) -> None:
    assert effects(source) == [1]


def too_long(source: str, *, is_command: bool = False) -> list[str]:
    """Functions over their ceiling, and the file if it is over its own; of a command, with its options, the body."""
    functions = [node for node in nodes_of(source) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    firsts = [node.body[0].lineno if is_command else node.lineno for node in functions]
    ends = [(node.end_lineno or 0) - first for node, first in zip(functions, firsts, strict=True)]
    found = [node.name for node, length in zip(functions, ends, strict=True) if length >= MAX_FUNCTION_LINES]
    return [*found, *(["the file"] if source.count("\n") > MAX_FILE_LINES else [])]


def test_files_and_functions_keep_to_their_ceilings() -> None:
    assert broken(FILES, lambda name, source: too_long(source, is_command=is_under(name, "bagel_perf.cli"))) == {}


def test_the_check_sees_what_is_too_long() -> None:
    function = "def f() -> None:\n" + "    f()\n" * MAX_FUNCTION_LINES
    assert too_long(function) == ["f"] and too_long("# a\n" * (MAX_FILE_LINES + 1)) == ["the file"]
    assert too_long("def f() -> None:\n" + "    f()\n" * (MAX_FUNCTION_LINES - 1)) == []
    assert too_long("# a\n" * MAX_FILE_LINES) == []


def test_the_side_without_torch_runs_without_torch() -> None:
    names = [name for name in FILES if any(is_under(name, f"bagel_perf.{part}") for part in WITHOUT_TORCH)]
    assert imported_with(names, {"torch", "transformers", "PIL"}) == set()


def test_the_command_line_starts_without_anything_slow() -> None:
    assert imported_with(["bagel_perf.cli"], SLOW) == set()


def imported_with(modules: list[str], watched: set[str]) -> set[str]:
    """Which of the watched packages a fresh process has after importing some modules."""
    script = f"import sys, {', '.join(modules)}; print(*({watched!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_every_package_is_listed_for_installation() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = {name for name, path in FILES.items() if path.name == "__init__.py"}
    assert set(project["tool"]["setuptools"]["packages"]) == folders


def test_dependencies_are_those_that_are_imported_and_each_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[<>=!~ ]", line)[0] for line in project["dependencies"]}
    tops = {name.split(".")[0] for module in FILES for name in imports_of(source_of(module))}
    others = {
        DISTRIBUTIONS.get(top, top) for top in tops - set(PACKAGES) - sys.stdlib_module_names - HOSTS - WITH_TORCH
    }
    assert declared == others
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0] for line in pins if "==" in line}
    extra = project["optional-dependencies"]
    assert "bagel-perf[examples]" in extra["dev"] and "bagel-perf[bagel]" in extra["examples"]
    needed = (*extra["dev"], *extra["examples"], *extra["bagel"])
    lines = [line for line in needed if not line.startswith("bagel-perf[")]
    extras = {re.split(r"[<>=!~ ]", line)[0] for line in lines}
    assert declared | extras <= pinned


TORCH_NAMES = "bagel_perf.harness.torch_names"
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
    from bagel_perf.harness import torch_names

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


def test_the_workflow_tests_the_releases_of_torch_that_counts_call_tested() -> None:
    from bagel_perf.harness.torch_versions import TESTED

    text = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    matrix = re.search(r"torch: \[(.*)\]", text)
    assert matrix is not None
    assert tuple(".".join(each.split(".")[:2]) for each in re.findall(r'"([0-9.]+)"', matrix[1])) == TESTED
