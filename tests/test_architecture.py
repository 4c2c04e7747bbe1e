"""Who may import whom, held as a literal and checked against the source; and what no file may do."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from graphlib import TopologicalSorter

import pytest

from sources import FILES, PACKAGES, ROOT, broken, imports_of, is_under, nodes_of, source_of, tree_of

COMPONENTS_SIDE_OF_THE_MODEL = {
    "bagel_perf.subjects.bagel.model.contracts",
    "bagel_perf.subjects.bagel.model.layout",
    "bagel_perf.subjects.bagel.model.packing",
    "bagel_perf.subjects.bagel.model.primitives",
    "bagel_perf.syncs.regions",
}
RECORDS, RULES, SIMULATED, SYNCS, MEASURE = (
    f"bagel_perf.{name}" for name in ("records", "rules", "simulated", "syncs", "measure")
)
TRACES, VERDICTS, REPORT, BAGEL = (f"bagel_perf.{name}" for name in ("traces", "verdicts", "report", "subjects.bagel"))
SERVERS = {f"bagel_perf.subjects.{name}" for name in ("servers", "server_client", "server_load", "server_session")}
USERS_FILES = {"bagel_perf.subjects.files", "bagel_perf.subjects.file_bench"}
# The longest name that a module starts with is its row; the row says what it may import of ours, and of others.
OURS: dict[str, set[str]] = {
    # Nouns, and what is concluded from them: no torch.
    RECORDS: {RECORDS},
    "bagel_perf.rules.table": {RECORDS},
    TRACES: {TRACES, "bagel_perf.rules.table", RECORDS},
    # Pure reading of byte code and of commands, which the watched process and its watcher share.
    "bagel_perf.rules.programs": set(),
    "bagel_perf.rules.expressions": {"bagel_perf.rules.source_marks"},
    "bagel_perf.rules.source_marks": set(),
    "bagel_perf.rules.code_places": {"bagel_perf.rules.expressions"},
    VERDICTS: {VERDICTS, "bagel_perf.rules.programs", RECORDS},
    REPORT: {REPORT, VERDICTS, TRACES, RECORDS},
    # What watches and measures any program: each knows those above it, and nothing of BAGEL.
    RULES: {RULES, RECORDS},
    SIMULATED: {SIMULATED, RULES, RECORDS},
    SYNCS: {SYNCS, SIMULATED, RULES, RECORDS},
    # A profile taken here is read like one that somebody recorded elsewhere.
    "bagel_perf.syncs.profiling": {SYNCS, RULES, TRACES, RECORDS},
    MEASURE: {MEASURE, SYNCS, SIMULATED, RULES, RECORDS},
    "bagel_perf.measure.device_work": {MEASURE, SYNCS, RULES, TRACES, RECORDS},
    # It runs beside a measurement, so it loads nothing that it does not need.
    "bagel_perf.measure.telemetry_process": {"bagel_perf.measure.machine", RECORDS},
    "bagel_perf.measure.machine": {RECORDS},
    # What is measured.
    "bagel_perf.subjects": {*USERS_FILES, MEASURE, SIMULATED, RECORDS},
    # Servers are asked from the process of the command, without torch.
    "bagel_perf.subjects.pictures": {RECORDS},
    **{key: {*SERVERS, "bagel_perf.subjects.pictures", RECORDS} for key in sorted(SERVERS)},
    BAGEL: {BAGEL, MEASURE, SYNCS, SIMULATED, RULES, RECORDS, *PACKAGES[1:]},
    "bagel_perf.subjects.bagel.syncs": {BAGEL, MEASURE, SYNCS, SIMULATED, "bagel_perf.verdicts.statistics", RECORDS},
    "bagel_perf.subjects.bagel.model": {
        "bagel_perf.subjects.bagel.model",
        "bagel_perf.subjects.pictures",
        "bagel_perf.syncs.regions",
        "bagel_perf.rules.torch_names",
        RECORDS,
    },
    "bagel_perf.serve": {"bagel_perf.serve", BAGEL, MEASURE, SIMULATED, RECORDS},
    # Processes that are started.
    "bagel_perf.worker": {BAGEL, *USERS_FILES, MEASURE, RECORDS},
    "bagel_perf.arming": {"bagel_perf.followed"},
    "bagel_perf.followed": {SYNCS, SIMULATED, RULES, RECORDS},
    # What others load: it finds or gives the order of a watch, and costs nothing where none is asked for.
    "bagel_perf.watch_orders": {"bagel_perf.arming", "bagel_perf.rules.programs", RECORDS},
    "bagel_perf.ray_hook": {"bagel_perf.watch_orders"},
    "bagel_perf.vllm_plugin": {
        "bagel_perf.arming",
        "bagel_perf.watch_orders",
        "bagel_perf.worker_watch",
        "bagel_perf.verdicts.merging",
        RECORDS,
    },
    "bagel_perf.worker_watch": {SYNCS, SIMULATED, RECORDS},
    "bagel_perf.watched": {"bagel_perf.followed", *USERS_FILES, MEASURE, SYNCS, RECORDS},
    "bagel_perf.pytest_plugin": {
        "bagel_perf.pythons",
        SYNCS,
        SIMULATED,
        REPORT,
        "bagel_perf.verdicts.counts",
        RECORDS,
    },
    # What starts them, and what people type.
    "bagel_perf.launch": {"bagel_perf.pythons", RECORDS},
    "bagel_perf.pythons": {RECORDS},
    "bagel_perf.recorder": {VERDICTS, RECORDS},
    "bagel_perf.commands": {
        "bagel_perf.commands",
        "bagel_perf.launch",
        "bagel_perf.pythons",
        "bagel_perf.recorder",
        "bagel_perf.rules.code_places",
        "bagel_perf.rules.programs",
        "bagel_perf.watch_orders",
        REPORT,
        TRACES,
        VERDICTS,
        RECORDS,
    },
    "bagel_perf.commands.doctor_machine": {"bagel_perf.measure.machine", "bagel_perf.measure.gpu_lock", RECORDS},
    "bagel_perf.commands.serving": {
        "bagel_perf.commands",
        "bagel_perf.launch",
        "bagel_perf.recorder",
        *SERVERS,
        RECORDS,
    },
    "bagel_perf.cli": {"bagel_perf.cli", "bagel_perf.commands", RECORDS},
    "bagel_perf.__main__": {"bagel_perf.cli"},
    "bagel_perf.frames": {REPORT, VERDICTS, RECORDS},
    "bagel_perf.api": {
        "bagel_perf.commands",
        "bagel_perf.frames",
        "bagel_perf.launch",
        "bagel_perf.pythons",
        "bagel_perf.recorder",
        *USERS_FILES,
        MEASURE,
        SIMULATED,
        REPORT,
        TRACES,
        VERDICTS,
        RECORDS,
    },
    "bagel_perf": {"bagel_perf.api", "bagel_perf.pythons", SYNCS},
    # BAGEL's components: a variant imports those below it.
    "kernels_baseline": {"kernels_baseline", *COMPONENTS_SIDE_OF_THE_MODEL},
    "kernels_optimized": set(),
    "kernels_optimized.pr3987": {"kernels_optimized.pr3987", "kernels_baseline", *COMPONENTS_SIDE_OF_THE_MODEL},
    "kernels_optimized.sync_free": {
        "kernels_optimized.sync_free",
        "kernels_optimized.pr3987",
        "kernels_baseline",
        *COMPONENTS_SIDE_OF_THE_MODEL,
    },
    "kernels_optimized.approx_norm": {
        "kernels_optimized.approx_norm",
        "kernels_optimized.fused",
        "kernels_baseline",
        *COMPONENTS_SIDE_OF_THE_MODEL,
    },
    "kernels_optimized.fused": {
        "kernels_optimized.fused",
        "kernels_optimized.captured",
        "kernels_optimized.sync_free",
        "bagel_perf.subjects.bagel.model",
    },
    "kernels_optimized.captured": {
        "kernels_optimized.captured",
        "kernels_optimized.sync_free",
        "bagel_perf.syncs.captures",
        "bagel_perf.subjects.bagel.model.bagel",
        "bagel_perf.subjects.bagel.model.denoise",
        *COMPONENTS_SIDE_OF_THE_MODEL,
    },
}
SERVER = {"h11", "starlette", "uvicorn", "prometheus_client"}
TORCH_SIDE = {"msgspec", "torch", "numpy", "PIL", "safetensors", "transformers", "nvtx"}
OTHERS: dict[str, set[str]] = {
    RECORDS: {"msgspec"},
    "bagel_perf.rules.table": {"msgspec"},
    TRACES: {"msgspec", "numpy"},
    VERDICTS: {"msgspec", "numpy"},
    REPORT: {"msgspec", "rich"},
    "bagel_perf.report.text": {"markupsafe", "msgspec", "rich"},
    "bagel_perf.report.html": {"jinja2", "msgspec", "markupsafe", "matplotlib", "PIL"},
    RULES: {"msgspec", "torch"},
    SIMULATED: TORCH_SIDE,
    SYNCS: TORCH_SIDE,
    MEASURE: TORCH_SIDE,
    "bagel_perf.measure.telemetry_process": {"pynvml"},
    "bagel_perf.subjects": TORCH_SIDE,
    "bagel_perf.serve": TORCH_SIDE | SERVER,
    "bagel_perf.serve.split": {"torch", "ray"},
    "bagel_perf.subjects.pictures": {"numpy", "PIL"},
    **{key: {"httpx2", "msgspec"} for key in sorted(SERVERS)},
    "bagel_perf.worker": {"msgspec", "torch"},
    "bagel_perf.rules.programs": set(),
    "bagel_perf.rules.expressions": set(),
    "bagel_perf.rules.source_marks": set(),
    "bagel_perf.rules.code_places": {"msgspec"},
    "bagel_perf.arming": set(),
    "bagel_perf.followed": {"msgspec", "torch"},
    "bagel_perf.watch_orders": {"pynvml"},
    "bagel_perf.ray_hook": set(),
    "bagel_perf.vllm_plugin": {"msgspec"},
    "bagel_perf.worker_watch": {"msgspec", "torch"},
    "bagel_perf.watched": {"msgspec", "torch"},
    "bagel_perf.pytest_plugin": {"msgspec", "pytest", "torch"},
    "bagel_perf.commands.common": {"msgspec", "pynvml"},
    "bagel_perf.commands.doctor_machine": {"pynvml"},
    "bagel_perf.measure.machine": set(),
    "bagel_perf.cli": {"msgspec", "typer"},
    "bagel_perf.frames": {"msgspec", "pandas", "matplotlib"},
    "bagel_perf.api": {"msgspec", "pandas", "matplotlib"},
    "bagel_perf": {"msgspec"},
    "kernels_baseline": {"torch"},
    "kernels_optimized": {"torch"},
    "kernels_optimized.approx_norm": {"torch", "triton"},
    "kernels_optimized.fused": {"torch", "triton"},
}
WITHOUT_TORCH = (
    "records",
    "rules.table",
    "rules.code_places",
    "rules.programs",
    "traces",
    "verdicts",
    "report",
    "launch",
    "recorder",
    "subjects.servers",
    "watch_orders",
    "ray_hook",
    "vllm_plugin",
    "commands",
    "cli",
)
SLOW = {"torch", "numpy", "pandas", "rich", "PIL", "transformers", "jinja2", "matplotlib"}
DISTRIBUTIONS = {"PIL": "pillow", "pynvml": "nvidia-ml-py", "prometheus_client": "prometheus-client"}
FORMS = {"python-multipart"}
"""What starlette reads forms with, and does not name as needed."""

HOSTS = {"pytest"}
"""Programs that import the package, and not the other way round."""
WITH_TORCH = {"triton"}
"""What torch's CUDA builds bring along; without it nothing imports it."""

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


def is_under_any(name: str, prefixes: Sequence[str]) -> bool:
    return any(is_under(name, prefix) for prefix in prefixes)


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


def test_a_module_imports_only_what_its_row_allows() -> None:
    assert broken(FILES, violations) == {}


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("bagel_perf.records.runs", "import torch"),
        ("bagel_perf.cli", "def f() -> None:\n    import torch"),
        ("bagel_perf.cli", "from bagel_perf import worker"),
        ("bagel_perf.verdicts.statistics", "from bagel_perf import report"),
        ("bagel_perf.syncs", "from bagel_perf.subjects.bagel.model.bagel import Bagel"),
        ("bagel_perf.subjects.bagel.model.vit", "from bagel_perf.measure import syncs"),
        ("kernels_baseline.loop", "from kernels_optimized.pr3987 import routing"),
        ("kernels_optimized.pr3987.routing", "import kernels_optimized.sync_free.routing"),
        ("kernels_optimized.captured.loop", "import kernels_optimized.fused.step"),
        ("kernels_optimized.captured.loop", "import triton"),
        ("kernels_optimized.fused.step", "from kernels_optimized.approx_norm import normalize"),
        ("kernels_baseline.normalize", "from kernels_optimized.approx_norm import normalize"),
        ("kernels_optimized.sync_free.loop", "from bagel_perf.subjects.bagel.model.decoder import decode"),
    ],
)
def test_the_check_sees_a_forbidden_import(module: str, line: str) -> None:
    assert violations(module, line) != []


def part_of(name: str) -> str:
    """The package that a module belongs to, as far as imports go; one by itself that stands in none."""
    inner = (f"{BAGEL}.model", BAGEL, "bagel_perf.rules.table")
    return next((part for part in inner if is_under(name, part)), ".".join(name.split(".")[:2]))


def test_no_package_imports_one_that_imports_it() -> None:
    graph: dict[str, set[str]] = {}
    for module in FILES:
        parts = {part_of(name) for name in imports_of(source_of(module)) if name.split(".")[0] in PACKAGES}
        graph.setdefault(part_of(module), set()).update(parts - {part_of(module)})
    assert {"bagel_perf.records", BAGEL} < set(TopologicalSorter(graph).static_order())


def test_importing_a_module_has_no_effect() -> None:
    assert broken(FILES, lambda module, source: effects(source)) == {}


@pytest.mark.parametrize(
    "source", ["torch.set_grad_enabled(False)", "torch.backends.cudnn.benchmark = True", "os.environ['A'] = '1'"]
)
def test_the_check_sees_an_effect(source: str) -> None:
    assert effects(source) == [1]


def too_long(source: str) -> list[str]:
    """Functions over their ceiling, and the file if it is over its own."""
    functions = [node for node in nodes_of(source) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    found = [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES]
    return [*found, *(["the file"] if source.count("\n") > MAX_FILE_LINES else [])]


def test_files_and_functions_keep_to_their_ceilings() -> None:
    assert broken(FILES, lambda _, source: too_long(source)) == {}


def test_the_check_sees_what_is_too_long() -> None:
    function = "def f() -> None:\n" + "    f()\n" * MAX_FUNCTION_LINES
    assert too_long(function) == ["f"] and too_long("# a\n" * (MAX_FILE_LINES + 1)) == ["the file"]
    assert too_long("def f() -> None:\n" + "    f()\n" * (MAX_FUNCTION_LINES - 1)) == []
    assert too_long("# a\n" * MAX_FILE_LINES) == []


def test_the_side_without_torch_runs_without_torch() -> None:
    names = [name for name in FILES if any(is_under(name, f"bagel_perf.{part}") for part in WITHOUT_TORCH)]
    assert imported_with(names, {"torch", "transformers"}) == set()


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


def distributions(sources: list[str]) -> set[str]:
    """What has to be installed for these sources, as packages are called that pip installs."""
    tops = {name.split(".")[0] for source in sources for name in imports_of(source)}
    tops |= {match for source in sources for match in re.findall(r'= needed\("(\w+)"\)', source)}
    return {DISTRIBUTIONS.get(top, top) for top in tops - set(PACKAGES) - sys.stdlib_module_names - HOSTS - WITH_TORCH}


def test_dependencies_of_each_extra_are_what_its_side_imports_and_each_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: set(lines) for name, lines in project["optional-dependencies"].items()}
    nested = {
        "bagel": "torch",
        "serve": "bagel",
        "split": "serve",
        "examples": "bagel",
        "dev": "examples,servers,split",
    }
    for name, inner in nested.items():
        extras[name].remove(f"bagel-perf[{inner}]")
    declared = {name: {re.split(r"[<>=!~ ]", line)[0] for line in lines} for name, lines in extras.items()}
    base = {re.split(r"[<>=!~ ]", line)[0] for line in project["dependencies"]}

    servers = distributions([source_of(name) for name in SERVERS]) - base
    assert declared["servers"] == servers
    assert base == distributions([source_of(name) for name in FILES if "torch" not in row_of(name, OTHERS)]) - servers
    apart = ("bagel_perf.subjects.bagel.model", "bagel_perf.serve")
    torch_side = distributions([source_of(name) for name in FILES if not is_under_any(name, apart)]) - base - servers
    assert declared["torch"] == torch_side
    model_side = distributions([source_of(name) for name in FILES if not is_under(name, "bagel_perf.serve")])
    assert declared["bagel"] == model_side - base - torch_side - servers
    split = {"bagel_perf.serve.split"} & FILES.keys()
    server_side = distributions([source_of(name) for name in FILES if name not in split]) - model_side
    assert declared["serve"] == server_side | FORMS
    assert declared["split"] == distributions([source_of(name) for name in FILES]) - model_side - server_side
    examples = [path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.py")]
    assert declared["examples"] <= distributions(examples)

    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0] for line in pins if "==" in line}
    assert base.union(*declared.values()) <= pinned


def test_the_workflow_tests_the_releases_of_torch_that_counts_call_tested() -> None:
    from bagel_perf.records.torch_releases import TESTED

    text = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    matrix = re.search(r"torch: \[(.*)\]", text)
    assert matrix is not None
    assert tuple(".".join(each.split(".")[:2]) for each in re.findall(r'"([0-9.]+)"', matrix[1])) == TESTED
