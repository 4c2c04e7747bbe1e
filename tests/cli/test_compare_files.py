"""``compare`` of somebody's files: outputs, waits by stage and line, and what is refused before anything is timed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bagel_perf.cli import main
from bagel_perf.records.outlines import Tolerance
from bagel_perf.records.results import Result
from bagel_perf.records.runs import CountedRun, runs_of
from bagel_perf.verdicts.reading import load_checked
from forked_workers import fork_workers

Capture = pytest.CaptureFixture[str]

LOOP = """
import torch

CASES = {"small": {"steps": 3, "width": 4}, "large": {"steps": 5, "width": 8}}


def setup(device):
    return {"device": device, "weight": torch.eye(8).to(device)}


def start(state, case, seed):
    return torch.randn(case["width"], 8, generator=torch.Generator().manual_seed(seed)).to(state["device"])


def stages(state, case, seed):
    def loop(x):
        for _ in range(case["steps"]):
            x = x @ state["weight"] * 1.01
            WAIT
        return x

    yield "start", lambda _: start(state, case, seed)
    yield "loop", loop
    yield "finish", lambda x: x.cpu()
"""
WAITS, FREE = LOOP.replace("WAIT", "if x.max().item() > 1e9: break"), LOOP.replace("            WAIT\n", "")
ONE_STAGE = "import torch\n\n\ndef run(state, case, seed):\n    return {body}\n"
NOISE = "torch.randn(9, generator=torch.Generator().manual_seed(seed))"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, and workers that are forked."""
    monkeypatch.chdir(tmp_path)
    fork_workers(monkeypatch)
    return tmp_path


def compared(*arguments: str, code: int = 0) -> Result:
    """The result of a comparison that ends in this code."""
    assert main(["compare", *arguments, "--out", "kept", "--quiet"]) == code
    return load_checked(Path("kept"))


def two_functions(**bodies: str) -> list[str]:
    """Targets in one file, whose functions return these expressions."""
    functions = [f"def {name}(state, case, seed):\n    return {body}\n" for name, body in bodies.items()]
    Path("loop.py").write_text("import torch\n\n\n" + "\n\n".join(functions))
    return [f"loop.py:{name}" for name in bodies]


def test_two_files_are_counted_by_stage_and_line_and_their_outputs_are_identical() -> None:
    Path("before.py").write_text(WAITS)
    Path("after.py").write_text(FREE)
    found = compared("before.py", "after.py")
    assert (found.verdict, found.cases, found.stages) == ("pass", ("small", "large"), ("start", "loop", "finish"))
    assert [(each.name, each.target) for each in found.variants] == [("before", "before.py"), ("after", "after.py")]
    counts = {(cell.case, cell.stage, cell.variant): cell.host_syncs for cell in found.cells}
    assert [counts[case, "loop", "before"] for case in found.cases] == [3, 5]
    assert [counts[case, "loop", "after"] for case in found.cases] == [0, 0]
    assert [counts["small", "e2e", name] for name in found.named] == [5, 2]
    (wait,) = {
        (site.file, site.function, site.expressions)
        for run in runs_of(CountedRun, found.runs)
        for site in run.sites
        if site.kind == "scalar_read"
    }
    assert wait == ("before.py", "stages.<locals>.loop", ("x.max().item()",))
    assert all(check.identical and check.num_runs == 6 for check in found.identity)
    assert {cell.sync_device for cell in found.cells} == {"simulated"}
    assert found.subject.asked["small"] == {"steps": 3, "width": 4}
    assert all((Path("kept") / str(each.path)).is_file() for each in found.outputs)
    assert found.subject.title == "before.py, after.py"


def test_two_functions_share_a_process_and_its_state() -> None:
    source = "import os\n\n\ndef setup(device):\n    return [0]\n"
    for name in ("plain", "fast"):
        source += f"\n\ndef {name}(state, case, seed):\n    state[0] += 1\n    return seed, os.getpid()\n"
    Path("loop.py").write_text(source)
    found = compared("loop.py:plain", "loop.py:fast", "new=loop.py:fast")
    assert found.named == ("plain", "fast", "new")
    assert (found.stages, {cell.stage for cell in found.cells}) == (("run",), {"e2e"})
    assert all(check.identical for check in found.identity) and found.stage_sums == ()


def test_a_file_under_two_environments_runs_in_both() -> None:
    Path("edit.py").write_text(ONE_STAGE.format(body=NOISE))
    found = compared("edit.py", "--before-env", sys.prefix, "--after-env", sys.prefix)
    assert found.named == ("before", "after") and found.verdict == "pass"
    assert all(each.made_with == {} for each in found.variants)


def test_another_output_ends_in_3_and_names_the_variant(capsys: Capture) -> None:
    targets = two_functions(plain=NOISE, wrong=f"{NOISE} * 1.0000001")
    found = compared(*targets, code=3)
    assert found.findings == ("wrong at default differs from plain",)
    assert [cell.median_ms is None for cell in found.cells] == [False, True]
    assert "outputs differ (wrong at default differs from plain)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("torch.full((3,), float('nan')) + seed", "not finite"),
        ("torch.full((3,), 7.0) + seed", "all numbers are equal"),
        ("torch.rand(5)", "differs from itself"),
        ("{'a': [torch.rand(5) * float('inf')], 'seed': seed}", "not finite"),
        ("b''", "all numbers are equal"),
    ],
)
def test_an_output_that_shows_nothing_is_refused_before_anything_is_timed(body: str, why: str, capsys: Capture) -> None:
    found = compared(*two_functions(plain=body, fast=body), code=3)
    assert why in capsys.readouterr().err
    assert not [run for run in found.runs if run.purpose == "timed"]


def test_an_output_that_no_seed_changes_passes_with_a_warning() -> None:
    found = compared(*two_functions(plain="torch.arange(4)", fast="torch.arange(4)"))
    assert found.verdict == "pass" and any("another seed gives the same output" in each for each in found.warnings)


@pytest.mark.parametrize(("tolerance", "code"), [("rel_l2:1e-5", 0), ("max_abs:1e-9", 3)])
def test_a_tolerance_of_the_candidates_file_is_held(tolerance: str, code: int) -> None:
    Path("before.py").write_text(ONE_STAGE.format(body=NOISE))
    Path("after.py").write_text(f'TOLERANCE = "{tolerance}"\n' + ONE_STAGE.format(body=f"{NOISE} * 1.000001"))
    found = compared("before.py", "after.py", code=code)
    (check,) = found.identity
    assert check.tolerance == Tolerance.parse(tolerance) and not check.identical and check.is_ok == (code == 0)
    assert check.distance is not None and 1e-7 < check.distance < 1e-5
    assert found.variants[0].tolerance is None


def test_an_operation_that_nobody_can_judge_leaves_counts_unknown(capsys: Capture) -> None:
    setup = "import torch\n\n\ndef setup(device):\n    return torch.eye(2).to(device)\n"
    for name, body in (("plain", "torch.linalg.eigh(state)[0].sum() + seed"), ("fast", "state.sum() * seed")):
        setup += f"\n\ndef {name}(state, case, seed):\n    return {{'x': [0.0, {body}]}}\n"
    Path("loop.py").write_text(setup)
    assert main(["compare", "loop.py:plain", "loop.py:fast", "--out", "kept"]) == 3
    found = load_checked(Path("kept"))
    counts = {run.variant: run.measurements[0].host_syncs for run in runs_of(CountedRun, found.runs)}
    assert counts == {"plain": None, "fast": 0}
    (warning,) = (each for each in found.warnings if "unknown" in each)
    assert "_linalg_eigh" in warning and "-     0" in capsys.readouterr().out


def test_a_set_up_that_changes_the_folder_is_run_where_it_began() -> None:
    text = "import os\nimport torch\n\n\ndef setup(device):\n    os.chdir('/')\n    return device\n"
    for name in ("plain", "fast"):
        text += f"\n\ndef {name}(state, case, seed):\n    return torch.arange(4, device=state).sum().item() + seed\n"
    Path("loop.py").write_text(text)
    assert main(["compare", "loop.py:plain", "loop.py:fast", "--pairs", "2", "--quiet", "--out", "kept"]) == 0


def test_one_case_is_chosen() -> None:
    Path("before.py").write_text(WAITS)
    Path("after.py").write_text(FREE)
    assert compared("before.py", "after.py", "--case", "large").cases == ("large",)


def test_what_lies_where_we_stand_is_not_imported(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "elsewhere").mkdir()
    for name in ("loop.py", "helper.py"):
        (here / "elsewhere" / name).write_text(
            "import helper\n\n\ndef run(state, case, seed):\n    return helper.x, seed\n"
        )
    (here / "elsewhere" / "helper.py").write_text("x = 1\n")
    for name in ("helper", "tokenizers", "kernels_baseline", "msgspec", "numpy"):
        (here / f"{name}.py").write_text("raise SystemExit('the wrong file')\n")
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert compared("elsewhere/loop.py", "again=elsewhere/loop.py").verdict == "pass"


REFUSED: list[tuple[Callable[[], Any], list[str], int, str]] = [
    (lambda: None, ["a.py", "b.py"], 2, "file does not exist (a.py)"),
    (lambda: Path("a.py").write_text("x = ("), ["a.py", "a.py:f"], 2, "file is no Python (a.py:1)"),
    (lambda: two_functions(f="seed"), ["loop.py:f"], 2, "one target has nothing to be compared with (loop.py:f)"),
    (lambda: two_functions(f="seed"), ["loop.py:f", "fused"], 2, "a variant of BAGEL among files (fused)"),
    (lambda: two_functions(f="seed"), ["loop.py:f", "loop.py:g"], 2, "loop.py has no such function (g)"),
    (lambda: two_functions(f="seed"), ["loop.py:f", "a=loop.py:f", "--res", "64"], 2, "--res is for BAGEL"),
    (lambda: two_functions(f="seed"), ["loop.py:f", "a=loop.py:f", "--case", "x"], 2, "unknown case (x)"),
    (lambda: two_functions(f="1 / 0"), ["loop.py:f", "a=loop.py:f"], 6, "f fails (loop.py:5); ZeroDivisionError"),
    (lambda: two_functions(f="seed"), ["a@nowhere=loop.py:f", "loop.py:f"], 2, "no Python in that environment"),
    (lambda: None, ["baseline", "pr3987", "--case", "x"], 2, "--case is for files"),
    (
        lambda: two_functions(f="torch.set_num_threads(3) or seed"),
        ["loop.py:f", "a=loop.py:f"],
        5,
        "threads",
    ),
]


@pytest.mark.parametrize(("make", "arguments", "code", "message"), REFUSED)
def test_what_cannot_be_compared_is_one_line(
    make: Callable[[], Any], arguments: list[str], code: int, message: str, capsys: Capture
) -> None:
    make()
    assert main(["compare", *arguments, "--out", "kept", "--quiet"]) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and err.startswith("error: ") and message in err


def test_files_whose_cases_differ_are_refused(capsys: Capture) -> None:
    Path("a.py").write_text('CASES = {"x": {"steps": 3}}\n' + ONE_STAGE.format(body="seed"))
    Path("b.py").write_text('CASES = {"y": {"steps": 3}}\n' + ONE_STAGE.format(body="seed"))
    Path("c.py").write_text('CASES = {"x": {"steps": 4}}\n' + ONE_STAGE.format(body="seed"))
    assert main(["compare", "a.py", "b.py", "--quiet"]) == 2
    assert "files have no case in common (x; y)" in capsys.readouterr().err
    assert main(["compare", "a.py", "c.py", "--quiet"]) == 2
    assert "case x asks for other things in c.py (steps 3 and 4)" in capsys.readouterr().err


def test_functions_with_other_stages_are_compared_as_a_whole() -> None:
    Path("before.py").write_text(WAITS.split("CASES")[0] + ONE_STAGE.format(body=NOISE))
    staged = (
        "def stages(state, case, seed):\n    yield 'make', lambda _: " + NOISE + "\n    yield 'keep', lambda x: x\n"
    )
    Path("after.py").write_text("import torch\n\n\n" + staged)
    found = compared("before.py", "after.py")
    assert found.stages == ("run",) and found.verdict == "pass"


def test_a_worker_that_dies_is_named_and_what_was_measured_is_kept(capsys: Capture) -> None:
    Path("a.py").write_text(ONE_STAGE.format(body="seed"))
    Path("b.py").write_text("import os\n\n\ndef run(state, case, seed):\n    os._exit(9)\n")
    found = compared("a.py", "b.py", code=6)
    assert {run.variant for run in found.runs} == {"a"}
    assert "error: b: the worker ended early (exit code 9)" in capsys.readouterr().err


def test_an_output_that_the_next_run_writes_into_is_looked_at_before_that() -> None:
    """As the static output of a CUDA graph is, and as a wrong one might be."""
    Path("loop.py").write_text(
        "import torch\n\n\ndef setup(device):\n    return torch.zeros(9, device=device)\n\n\n"
        "def noise(seed):\n    return torch.randn(9, generator=torch.Generator().manual_seed(seed))\n\n\n"
        "def fresh(state, case, seed):\n    yield 'a', lambda _: noise(seed)\n"
        "    yield 'b', lambda x: x.to(state.device)\n\n\n"
        "def static(state, case, seed):\n    yield 'a', lambda _: noise(seed)\n"
        "    yield 'b', lambda x: state.copy_(x)\n\n\n"
        "def wrong(state, case, seed):\n    yield 'a', lambda _: noise(seed) + 100 * (seed > 43)\n"
        "    yield 'b', lambda x: state.copy_(x)\n"
    )
    assert compared("loop.py:fresh", "loop.py:static", "--pairs", "2").verdict == "pass"
    assert main(["compare", "loop.py:static", "loop.py:wrong", "--quiet", "--out", "other"]) == 3


def test_work_in_front_of_a_yield_is_in_its_stage() -> None:
    body = "    x = state.sum().item() + {noise}[0]\n    yield 'a', lambda _: x + seed\n    yield 'b', lambda y: y\n"
    Path("loop.py").write_text(
        "import torch\n\n\ndef setup(device):\n    return torch.ones(3).to(device)\n\n\n"
        "def early(state, case, seed):\n" + body.format(noise=NOISE) + "\n\n"
        "def late(state, case, seed):\n"
        f"    yield 'a', lambda _: state.sum().item() + {NOISE}[0] + seed\n    yield 'b', lambda y: y\n"
    )
    found = compared("loop.py:early", "loop.py:late")
    counts = {(cell.stage, cell.variant): cell.host_syncs for cell in found.cells}
    assert [counts["a", name] for name in found.named] == [1, 1]


def test_stages_that_differ_from_run_to_run_are_refused(capsys: Capture) -> None:
    Path("loop.py").write_text(
        "runs = [0]\n\n\ndef f(state, case, seed):\n    runs[0] += 1\n"
        "    yield 'a' if runs[0] < 6 else 'b', lambda _: seed\n"
    )
    assert main(["compare", "loop.py:f", "g=loop.py:f", "--quiet", "--out", "kept"]) == 2
    assert "stages differ from run to run" in capsys.readouterr().err


def test_a_file_that_reads_stdin_finds_its_end() -> None:
    Path("a.py").write_text("import sys\n\n\ndef run(state, case, seed):\n    return sys.stdin.read(), seed\n")
    Path("b.py").write_text("import sys\n\n\ndef run(state, case, seed):\n    return sys.stdin.readline(), seed\n")
    assert compared("a.py", "b.py").verdict == "pass"


def test_functions_of_a_file_with_a_tolerance_give_a_result_that_can_be_read() -> None:
    targets = two_functions(plain=NOISE, near=f"{NOISE} * 1.000001")
    Path("loop.py").write_text('TOLERANCE = "rel_l2:1e-3"\n' + Path("loop.py").read_text())
    found = compared(*targets)
    assert [each.tolerance is None for each in found.variants] == [True, False]
    assert main(["show", "kept", "--quiet"]) == 0


def test_cases_whose_names_come_to_one_name_of_a_file_are_kept_apart() -> None:
    head = 'CASES = {"a b": 1, "a|b": 2}\nTOLERANCE = "max_abs:0.01"\n'
    Path("a.py").write_text(head + ONE_STAGE.format(body=f"{NOISE} * case"))
    Path("b.py").write_text(head + ONE_STAGE.format(body=f"{NOISE} * case + 1e-4"))
    found = compared("a.py", "b.py")
    assert all(check.distance is not None and check.distance < 2e-4 for check in found.identity)
    assert len({each.path for each in found.outputs}) == 4


def test_a_module_that_keeps_tensors_is_loaded_anew_for_the_simulated_device() -> None:
    Path("loop.py").write_text(
        "import functools\n\nimport torch\n\n\n"
        "def setup(device):\n    return device, torch.randn(3, 3).to(device)\n\n\n"
        "@functools.lru_cache\ndef table(device):\n    return torch.arange(3.0, device=device)\n\n\n"
        "def f(state, case, seed):\n    return state[1] @ table(state[0]) * seed\n"
    )
    assert compared("loop.py:f", "g=loop.py:f").verdict == "pass"


def test_a_list_with_commas_is_one_of_targets_and_a_path_may_hold_one() -> None:
    two_functions(f="seed", g="seed")
    Path("x,y").mkdir()
    Path("x,y/loop.py").write_text(Path("loop.py").read_text())
    assert compared("loop.py:f,loop.py:g").named == ("f", "g")
    assert main(["compare", "x,y/loop.py:f", "q=x,y/loop.py:g", "--quiet", "--out", "other"]) == 0


@pytest.mark.parametrize(
    ("body", "why"),
    [("torch.ones(3)", "all numbers are equal"), ("torch.tensor([1.0, float('nan')])", "not finite")],
)
def test_an_output_that_proves_nothing_is_not_said_to_differ(body: str, why: str, capsys: Capture) -> None:
    two_functions(f=body, g=body)
    assert main(["compare", "loop.py:f", "loop.py:g", "--out", "kept"]) == 3
    out, err = capsys.readouterr()
    assert "verdict: output proves nothing (exit code 3)" in out and "outputs differ" not in out + err
    last = err.splitlines()[-1]
    assert last.startswith("error: output proves nothing (f (loop.py:f) at default gives an output ") and why in last
    assert "choose another input, seed or --case" in last


@pytest.mark.parametrize("body", ["None", "None if seed == 43 else torch.arange(3)", "[iter([])]"])
def test_an_output_that_is_refused_names_its_function_and_case(body: str, capsys: Capture) -> None:
    two_functions(f=body)
    assert main(["compare", "loop.py:f", "again=loop.py:f", "--out", "kept", "--quiet"]) == 2
    assert capsys.readouterr().err.startswith("error: f (loop.py:f) at default: ")


def test_counts_of_what_used_no_device_are_warned_of(capsys: Capture) -> None:
    text = "import torch\n\n\ndef setup(device):\n    return torch.arange(3, device=device)\n"
    for name, body in (("used", "state * 2 + seed"), ("unused", "torch.arange(3) * 2 + seed")):
        text += f"\n\ndef {name}(state, case, seed):\n    return {body}\n"
    Path("loop.py").write_text(text)
    assert main(["compare", "loop.py:used", "loop.py:unused", "--out", "kept"]) == 0
    found = [each for each in load_checked(Path("kept")).warnings if "nothing ran on the device" in each]
    assert [each.partition(":")[0] for each in found] == ["default unused"]
    assert "nothing ran on the device" in capsys.readouterr().out


def test_an_error_in_a_file_says_how_its_traceback_is_shown(capsys: Capture) -> None:
    two_functions(f="1 / 0")
    words = ["compare", "loop.py:f", "a=loop.py:f", "--quiet", "--out", "kept"]
    assert main(words) == 6
    assert capsys.readouterr().err.rstrip().endswith("; --debug shows the traceback")
    assert main([*words, "--debug"]) == 6
    err = capsys.readouterr().err
    assert "1 / 0" in err and "--debug shows" not in err.splitlines()[-1]
