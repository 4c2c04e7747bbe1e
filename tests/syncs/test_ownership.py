"""Whose code a file is: the program's, what it imports from elsewhere, or an installed package's; and its name."""

from __future__ import annotations

import json
import linecache
import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import bagel_perf
from bagel_perf.syncs.frames import ELSEWHERE, INSTALLED, OWN, FileNames, Folders, Ownership

NAMES = {OWN: "own", ELSEWHERE: "elsewhere", INSTALLED: "installed"}
Owner = Callable[[str], str]
OURS = Path(bagel_perf.__file__).parent


def made(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Owner:
    """Whose a file is when ``app/scripts/train.py`` was started in ``start``; paths are relative to the test's."""
    (tmp_path / "start").mkdir()
    made(tmp_path / "app" / "pyproject.toml")
    script = made(tmp_path / "app" / "scripts" / "train.py")
    monkeypatch.chdir(tmp_path / "start")
    monkeypatch.setattr(sys, "argv", [str(script)])
    monkeypatch.delenv("PYTHONPATH", raising=False)

    def of(path: str) -> str:
        return NAMES[Ownership().of(path if path.startswith("<") else str(tmp_path / path))]

    return of


def test_the_programs_own_code_is_beside_the_script_in_its_project_and_where_it_started(owner: Owner) -> None:
    for path in ("app/scripts/train.py", "app/scripts/lib/a.py", "app/src/pkg/a.py", "start/b.py", "<stdin>"):
        assert owner(path) == "own", path
    for path in ("other/a.py", "<string>", "<eval_with_key>.3"):
        assert owner(path) == "elsewhere", path


@pytest.mark.parametrize(
    "path",
    [
        "venv/lib/python3.11/site-packages/torchvision/ops.py",
        "app/.venv/lib/python3.12/site-packages/pkg/a.py",
        "home/.local/lib/python3.11/site-packages/pkg/a.py",
        "usr/lib/python3/dist-packages/pkg/a.py",
        "start/lib64/site-packages/pkg/_vendor/a.py",
        os.path.join(sysconfig.get_path("stdlib"), "contextlib.py"),
        str(OURS / "followed.py"),
        str(OURS / "syncs" / "regions.py"),
        "<frozen importlib._bootstrap>",
    ],
)
def test_a_folder_for_packages_is_no_users_wherever_it_is(owner: Owner, path: str) -> None:
    assert owner(path) == "installed"


def test_a_model_of_this_package_is_measured_code_and_its_harness_is_not(owner: Owner) -> None:
    assert owner(str(OURS / "model" / "bagel.py")) == "elsewhere"


def test_what_pythonpath_brings_is_elsewhere_even_inside_the_program(
    owner: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert owner("app/libs/pkg/a.py") == "own"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "app" / "libs"), "relative", str(tmp_path / "q")]))
    for path in ("app/libs/pkg/a.py", "start/relative/a.py", "q/a.py"):
        assert owner(path) == "elsewhere", path
    assert owner("app/scripts/a.py") == "own"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "app" / "scripts"))
    assert owner("app/scripts/a.py") == "own", "the script's own folder stays the program's"


def test_a_project_of_its_own_and_foreign_folders_are_elsewhere(owner: Owner, tmp_path: Path) -> None:
    made(tmp_path / "app" / "repos" / "vllm" / "setup.py")
    for path in ("app/repos/vllm/vllm/a.py", "app/third_party/b/a.py", "app/scripts/_vendor/a.py"):
        assert owner(path) == "elsewhere", path


def test_a_distribution_in_any_folder_is_installed_and_what_stands_beside_it_is_not(
    owner: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "app" / "deps"
    made(target / "pkg-1.0.dist-info" / "METADATA", "Metadata-Version: 2.1\nName: pkg\nVersion: 1.0\n")
    made(target / "pkg-1.0.dist-info" / "RECORD", "pkg/__init__.py,,\nsingle.py,,\npkg-1.0.dist-info/RECORD,,\n")
    monkeypatch.syspath_prepend(str(target))
    found = [owner(f"app/deps/{name}") for name in ("pkg/deep/a.py", "single.py", "mine.py")]
    assert found == ["installed", "installed", "own"]


def test_an_archive_is_elsewhere_unless_it_is_the_program(
    owner: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = made(tmp_path / "app" / "scripts" / "lib.zip")
    assert owner("app/scripts/lib.zip/pkg/a.py") == "elsewhere"
    monkeypatch.setattr(sys, "argv", [str(archive)])
    assert owner("app/scripts/lib.zip/pkg/a.py") == "own"


def test_a_cell_of_a_notebook_is_the_users(owner: Owner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = str(tmp_path / "ipykernel_1" / "2.py")
    assert owner(file) == "elsewhere"
    monkeypatch.setitem(linecache.cache, file, (1, None, ["x\n"], file))
    assert owner(file) == "own"


def test_a_start_in_the_root_folder_does_not_make_everything_the_users(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    assert owner("other/a.py") == "elsewhere"
    assert FileNames().of("/home/somebody/a.py") == "a.py"


def test_names_hold_no_folder_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = tmp_path / "start"
    start.mkdir()
    monkeypatch.chdir(start)
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    monkeypatch.syspath_prepend("/")
    hooked = ModuleType("linked.deep.part")
    hooked.__file__ = str(tmp_path / "src" / "linked" / "deep" / "part.py")
    package = ModuleType("linked")
    package.__file__ = str(tmp_path / "src" / "linked" / "__init__.py")
    monkeypatch.setitem(sys.modules, "linked.deep.part", hooked)
    monkeypatch.setitem(sys.modules, "linked", package)
    cases = {
        str(start / "a" / "b.py"): "a/b.py",
        str(tmp_path / "path" / "p" / "c.py"): "p/c.py",
        str(start / ".venv" / "lib" / "python3.12" / "site-packages" / "p" / "d.py"): "p/d.py",
        "/usr/lib/python3/dist-packages/p/e.py": "p/e.py",
        "/home/me/x.zip/p/f.py": "f.py",
        hooked.__file__: "linked/deep/part.py",
        package.__file__: "linked/__init__.py",
        "../outside/g.py": "g.py",
        "./h.py": "h.py",
        "i.py": "i.py",
        "<string>": "<string>",
        "<doctest /home/me/j.py[0]>": "<j.py[0]>",
    }
    names = FileNames()
    assert {file: names.of(file) for file in cases} == cases
    monkeypatch.chdir(tmp_path)
    assert FileNames().of(str(start / "a.py")) == "start/a.py" and names.of(str(start / "a.py")) == "a.py"


@pytest.mark.parametrize("started", ["-c", "a.py", "/usr/bin/pytest", ""])
def test_a_start_in_a_folder_that_is_gone_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: str
) -> None:
    monkeypatch.setattr(sys, "argv", [started])
    monkeypatch.setenv("PYTHONPATH", ".:lib")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert FileNames().of("/home/me/a.py") == "a.py"
    assert Ownership().of(str(tmp_path / "x.py")) in NAMES


LIBRARY = "def wait(x):\n    return x.item()\n"
PROGRAM = """
import sys, torch
from importlib.util import spec_from_file_location
class Finder:  # as an editable install leaves one
    @staticmethod
    def find_spec(name, path=None, target=None):
        return spec_from_file_location(name, {hooked!r}) if name == "hooked" else None
sys.meta_path.append(Finder)
sys.path.append({archive!r})
import on_pythonpath, hooked, archived, beside
x = torch.ones((), device="cuda")
on_pythonpath.wait(x)
hooked.wait(x)
archived.wait(x)
beside.wait(x)
exec("x.item()")
"""


def test_called_from_names_the_programs_line_whatever_way_a_library_came(tmp_path: Path) -> None:
    hooked = made(tmp_path / "linked" / "hooked.py", LIBRARY)
    made(tmp_path / "path" / "on_pythonpath.py", LIBRARY)
    with zipfile.ZipFile(tmp_path / "lib.zip", "w") as archive:
        archive.writestr("archived.py", LIBRARY)
    made(tmp_path / "app" / "beside.py", LIBRARY)
    script = made(tmp_path / "app" / "x.py", PROGRAM.format(hooked=str(hooked), archive=str(tmp_path / "lib.zip")))
    command = [
        sys.executable,
        "-m",
        "bagel_perf",
        "syncs",
        "--device",
        "cpu",
        "--json",
        "-",
        "--",
        "python",
        str(script),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "path"), str(OURS.parent)])}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path / "app", env=environment)
    assert done.returncode == 0, done.stderr
    sites = json.loads(done.stdout)["sites"]
    assert {site["file"]: (site["caller"], site["expressions"]) for site in sites} == {
        "on_pythonpath.py": ("x.py:12", ["x.item()"]),
        "hooked.py": ("x.py:13", ["x.item()"]),
        "archived.py": ("x.py:14", ["x.item()"]),
        "beside.py": (None, ["x.item()"]),
        "<string>": ("x.py:16", []),
    }
    asked = {"subject", "processes"}  # what was typed, as it was typed
    rest = {name: value for name, value in json.loads(done.stdout).items() if name not in asked}
    assert str(tmp_path) not in json.dumps(rest)


@pytest.mark.parametrize("runner", ["worker.py", "watched.py"])
def test_what_starts_a_worker_is_the_caller_of_nothing_in_an_installed_package(runner: str) -> None:
    """As with a wheel, whose variants lie in a folder for packages; the start is a text on the command line."""
    folder = "/venv/lib/python3.11/site-packages/kernels_baseline/routing.py"
    names = {"find": folder, "run": str(OURS / runner), "start": "<string>"}
    bodies = {"find": "found.append(caller_of(frame()))", "run": "find()", "start": "run()"}
    scope: dict[str, Any] = {"found": [], "caller_of": Folders().caller_of, "frame": sys._getframe}
    for name, body in bodies.items():
        exec(compile(f"def {name}(): {body}", names[name], "exec"), scope)
    scope["start"]()
    assert scope["found"] == [None]
