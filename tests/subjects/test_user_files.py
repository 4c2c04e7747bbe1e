"""A user's file is executed once and looked at: what it declares wrongly is one line, what it raises names its line."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from bagel_perf.measure.stages import run_stages
from bagel_perf.records.errors import BagelPerfError, RunFailed, UsageError
from bagel_perf.records.outlines import Tolerance
from bagel_perf.subjects.files import UserFile

Write = Callable[..., Path]
RUN = "def run(state, case, seed):\n    return state, case, seed\n"
STAGES = """
def stages(state, case, seed):
    yield "encode", lambda value: (value, case)
    yield "denoise", lambda value: [value, seed]
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a file into a folder that is not the current one; what it imports is forgotten afterwards."""
    folder = tmp_path / "subject"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)

    def write_text(text: str | bytes, name: str = "toy_loop.py") -> Path:
        path = folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path.relative_to(tmp_path)

    yield write_text
    for name in set(sys.modules) - known:
        del sys.modules[name]


def output(file: UserFile, function: str | None = None, case: str = "default", state: object = 7) -> object:
    return run_stages(file.subject(function, state, case, 42))


def message(write: Write, text: str | bytes, act: Callable[[UserFile], object] = lambda file: None) -> str:
    """The one line that a file ends in."""
    with pytest.raises(BagelPerfError) as caught:
        act(UserFile.load(write(text)))
    assert "\n" not in str(caught.value)
    return f"{type(caught.value).__name__}: {caught.value}"


def test_run_is_one_stage_and_gets_state_case_and_seed(write: Write) -> None:
    file = UserFile.load(write(f"CASES = {{'a': [1], 'b': [2]}}\nTOLERANCE = 'psnr:40'\n{RUN}"))
    assert file.cases == ("a", "b")
    assert file.tolerance == Tolerance(kind="psnr", limit=40.0)
    assert [stage.name for stage in file.subject(None, 7, "b", 42).stages] == ["run"]
    assert output(file, case="b") == (7, [2], 42)


def test_without_cases_the_value_is_none(write: Write) -> None:
    file = UserFile.load(write(RUN))
    assert (file.cases, file.tolerance) == (("default",), None)
    assert output(file) == (7, None, 42)


def test_each_stage_gets_the_value_of_the_one_before(write: Write) -> None:
    file = UserFile.load(write(STAGES))
    assert [stage.name for stage in file.subject(None, None, "default", 42).stages] == ["encode", "denoise"]
    assert output(file) == [(None, None), 42]


def test_a_function_is_named_and_a_generator_function_has_stages(write: Write) -> None:
    text = f"{RUN}\ndef fast(s, c, seed=0, *, extra=1):\n    return s * 2\n{STAGES.replace('stages', 'in_parts')}"
    file = UserFile.load(write(text))
    assert output(file, "fast") == 14
    assert output(file, "in_parts") == [(None, None), 42]
    file.check("fast")


def test_decorated_functions_are_what_they_are_around(write: Write) -> None:
    text = f"""
import functools, torch
@torch.no_grad()
{STAGES.strip()}
def plain(scale, state, case, seed):
    return scale * state
partial = functools.partial(plain, 3)
@torch.inference_mode()
def quick(state, case, seed):
    return torch.is_inference_mode_enabled()
"""
    file = UserFile.load(write(text))
    assert output(file) == [(None, None), 42]
    assert (output(file, "partial"), output(file, "quick")) == (21, True)


def test_set_up_gets_the_device_and_gives_the_state(write: Write) -> None:
    file = UserFile.load(write(f"def setup(device):\n    return [device]\n{RUN}"))
    assert file.set_up(torch.device("cpu")) == [torch.device("cpu")]
    assert UserFile.load(write(RUN, "other_loop.py")).set_up(torch.device("cpu")) is None


def test_the_files_own_folder_and_not_the_current_one_is_imported_from(write: Write, tmp_path: Path) -> None:
    (tmp_path / "toy_helper.py").write_text("WHERE = 'current'\n")
    write("WHERE = 'own'\n", "toy_helper.py")
    sys.path[:] = [str(tmp_path), *sys.path]  # not ours to take away, but behind
    file = UserFile.load(write("import toy_helper\ndef run(state, case, seed):\n    return toy_helper.WHERE\n"))
    assert output(file) == "own"


def test_classes_of_the_file_can_be_pickled(write: Write) -> None:
    text = """
from __future__ import annotations
import dataclasses
@dataclasses.dataclass
class Latents:
    steps: dataclasses.InitVar[int]
    values: list[int] = dataclasses.field(default_factory=list)
def run(state, case, seed):
    return Latents(3, [1, 2])
"""
    found = output(UserFile.load(write(text)))
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize(
    ("text", "message_start"),
    [
        ("", "UsageError: file is empty (subject/toy_loop.py)"),
        (" \n", "UsageError: file is empty"),
        ("def run(:\n", "UsageError: file is no Python (subject/toy_loop.py:1); invalid syntax"),
        ("x = 1\nif x:\ny = 2\n", "UsageError: file is no Python (subject/toy_loop.py:3); expected an indented block"),
        (b"x = '\xff'\n", "UsageError: file is no Python (subject/toy_loop.py"),
        (b"x = 1\0\n", "UsageError: file is no Python (subject/toy_loop.py"),
        ("x = 1\n1 / 0\n", "RunFailed: file fails (subject/toy_loop.py:2); ZeroDivisionError: division by zero"),
        ("import no_such_thing\n", "RunFailed: file fails (subject/toy_loop.py:1); ModuleNotFoundError: No module"),
        (
            "import sys\nsys.exit('no')\n",
            "RunFailed: file fails (subject/toy_loop.py:2); it ends the process with 'no'",
        ),
        ("CASES = ['a']\n", "UsageError: CASES is of type list (subject/toy_loop.py); names and values"),
        ("CASES = {}\n", "UsageError: CASES is empty"),
        ("CASES = {1: 2}\n", "UsageError: name of a case is no str (CASES of subject/toy_loop.py: 1)"),
        ("CASES = {'a:b': 2}\n", "UsageError: name of a case may not contain : (CASES of subject/toy_loop.py: 'a:b')"),
        ("CASES = {'a\\nb': 2}\n", "UsageError: name of a case is not plain text on one line"),
        ("TOLERANCE = 40\n", "UsageError: TOLERANCE of subject/toy_loop.py: tolerance is not understood (40); psnr:DB"),
        (
            "def setup(): ...\n",
            "UsageError: a function has the wrong arguments (setup of subject/toy_loop.py); def setu",
        ),
        ("async def setup(device): ...\n", "UsageError: an async function cannot be run (setup of"),
        ("def setup(device): yield\n", "UsageError: setup may not yield (setup of"),
        ("class setup: ...\n", "UsageError: a class (setup) is no function (setup of"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(write: Write, text: str | bytes, message_start: str) -> None:
    assert message(write, text).startswith(message_start)


@pytest.mark.parametrize(
    ("text", "function", "message_start"),
    [
        ("x = 1\n", None, "file has neither run nor stages (subject/toy_loop.py); def run(state, case, seed), or st"),
        (
            RUN + STAGES,
            None,
            "file has run and stages (subject/toy_loop.py); def run(state, case, seed), or stages; leav",
        ),
        (
            "def run(s, c, seed):\n    yield 1\n",
            None,
            "run yields (subject/toy_loop.py); call it stages, or name it: s",
        ),
        ("def stages(s, c, d):\n    return []\n", None, "stages yields nothing (subject/toy_loop.py); call it run"),
        (RUN, "rum", "subject/toy_loop.py has no such function (rum); did you mean run"),
        ("x = 1\n", "zzz", "subject/toy_loop.py has no such function (zzz); there are none"),
        (
            "def run(state, seed): ...\n",
            None,
            "a function has the wrong arguments (run of subject/toy_loop.py); def run(state, case, seed); it is def "
            "run(state, seed)",
        ),
        ("def run(a, b, c, *, must): ...\n", "run", "a function has the wrong arguments"),
        ("async def run(a, b, c): ...\n", "run", "an async function cannot be run"),
        ("async def run(a, b, c): yield\n", "run", "an async function cannot be run"),
        ("class run: ...\n", "run", "a class (run) is no function (run of subject/toy_loop.py); def run(state, case"),
        ("run = 5\n", "run", "of type int is no function"),
        ("import torch\nrun = torch.nn.Linear(2, 2)\n", "run", "of type Linear is no function"),
    ],
)
def test_a_function_that_cannot_be_run_is_one_line(
    write: Write, text: str, function: str | None, message_start: str
) -> None:
    found = message(write, text, lambda file: file.check(function))
    assert found.startswith(f"UsageError: {message_start}")


@pytest.mark.parametrize(
    ("body", "message_start"),
    [
        ("if False: yield 1", "stages yields nothing (subject/toy_loop.py); at least one stage"),
        ("yield 1", "stages yields (name, function) (subject/toy_loop.py); as: yield"),
        ("yield 'a', 1", "stages yields (name, function)"),
        ("yield 1, print", "stages yields (name, function)"),
        ("yield 'a', print; yield 'a', print", "name of a stage is yielded twice (stages of subject/toy_loop.py: 'a')"),
        ("yield 'e2e', print", "name of a stage is the name of all stages together (e2e)"),
        ("yield '', print", "name of a stage is empty"),
        ("yield 'a/b', print", "name of a stage may not contain /"),
        ("yield 'a:b', print", "name of a stage may not contain :"),
        ("yield 'a\\x1b[0m', print", "name of a stage is not plain text on one line"),
    ],
)
def test_stages_that_are_none_are_refused(write: Write, body: str, message_start: str) -> None:
    text = f"def stages(state, case, seed):\n    {body}\n"
    assert message(write, text, output).startswith(f"UsageError: {message_start}")


def test_an_error_of_a_stage_names_the_innermost_line_of_the_file_and_keeps_the_traceback(write: Write) -> None:
    text = """
import json
def read(text):
    return json.loads(text)
def stages(state, case, seed):
    yield "read", lambda value: read("{")
"""
    with pytest.raises(RunFailed) as caught:
        output(UserFile.load(write(text)))
    assert str(caught.value).startswith("stage read fails (subject/toy_loop.py:4); JSONDecodeError: Expecting")
    (note,) = caught.value.__notes__
    assert "in read" in note and "json/decoder.py" in note and "subjects/files.py" not in note


def test_errors_outside_of_stages_say_where(write: Write) -> None:
    assert message(write, "def setup(device):\n    raise OSError\n", lambda f: f.set_up(torch.device("cpu"))) == (
        "RunFailed: setup fails (subject/toy_loop.py:2); OSError"
    )
    text = "def stages(state, case, seed):\n    yield 'a', print\n    1 / 0\n"
    assert message(write, text, output).startswith("RunFailed: stages fails (subject/toy_loop.py:3); ZeroDivision")
    assert message(write, "def run(s, c, d):\n    raise ValueError('a\\nb' * 900)\n", output).endswith("...")


def test_a_file_that_fails_leaves_no_module_behind(write: Write) -> None:
    assert message(write, "1 / 0\n").startswith("RunFailed")
    assert "toy_loop" not in sys.modules


def test_what_a_case_asks_for_is_told_in_plain_values(write: Write) -> None:
    file = UserFile.load(write(f"CASES = {{'a': {{'side': 256, 'prompt': 'x\\ny', 'mask': [1]}}, 'b': 3}}\n{RUN}"))
    assert file.asked("a") == {"side": 256, "prompt": "x y", "mask": "of type list"}
    assert file.asked("b") == {"value": 3}
    assert UserFile.load(write(RUN)).asked("default") == {}


def test_ctrl_c_and_errors_of_ours_pass(write: Write) -> None:
    file = UserFile.load(write("def run(state, case, seed):\n    raise state\n"))
    for problem in (KeyboardInterrupt(), UsageError("ours")):
        with pytest.raises(type(problem)) as caught:
            output(file, state=problem)
        assert caught.value is problem


def test_an_unknown_case_is_refused(write: Write) -> None:
    text = f"CASES = {{'small': 1, 'large': 2}}\n{RUN}"
    assert message(write, text, lambda file: output(file, case="smal")) == (
        "UsageError: unknown case (smal); did you mean small; name one of subject/toy_loop.py with --case"
    )
    assert message(write, RUN, lambda file: output(file, case="small")).endswith(
        "(small); there are default; name one of subject/toy_loop.py with --case"
    )


def test_a_file_may_not_take_the_name_of_a_module_in_use(write: Write) -> None:
    torch_before = sys.modules["torch"]
    with pytest.raises(UsageError, match="file has the name of another module"):
        UserFile.load(write(RUN, "torch.py"))
    assert sys.modules["torch"] is torch_before


def test_a_file_that_is_missing_a_folder_or_of_another_kind_is_one_line(write: Write, tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    for name, what in (
        ("missing.py", r"file does not exist \(missing.py\)"),
        ("folder.py", "file cannot be read"),
        ("loop.txt", "file is no Python file"),
    ):
        with pytest.raises(UsageError, match=what):
            UserFile.load(name)
