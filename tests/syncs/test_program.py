"""A program that is watched ends as under plain Python: both run it, and what they print and return is compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from bagel_perf.cli import main
from bagel_perf.records.syncs import SyncReport
from forked_programs import fork_programs

ROOT = Path(__file__).resolve().parents[2]

DRIVER = """
import sys
from bagel_perf.program import run_program

is_module, sys.argv = sys.argv[1] == "-m", sys.argv[1 + (sys.argv[1] == "-m"):]
code = run_program(sys.argv[0], is_module=is_module)
print("returned", file=sys.stderr)
sys.exit(code)
"""
"""Runs a program as ``watched`` does, without torch; says when it had its exit code."""


class End(NamedTuple):
    """What became of a process, its files without their folder."""

    out: str
    err: str
    code: int


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current one, and empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def run(*arguments: str) -> End:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=20, check=False)
    here = f"{os.getcwd()}{os.sep}"
    return End(done.stdout, done.stderr.replace(here, ""), done.returncode)


def watched(*arguments: str, flags: tuple[str, ...] = ()) -> End:
    """Runs the program inside ``run_program``, and takes off what the driver said after everything else."""
    end = run(*flags, "-c", DRIVER, *arguments)
    assert end.err.endswith("returned\n"), end.err
    return end._replace(err=end.err.removesuffix("returned\n"))


def script(text: str, name: str = "script.py") -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)
    return name


HANDLERS = """
import atexit, sys
X = "of the program"
def say(what, end="; "):
    print(what, X, end=end)
assert atexit.register(say, "first") is say
@atexit.register
def second():
    say("second")
atexit.register(say, "third", end=", ")
print("main")
"""
UNREGISTERED = """
import atexit
def say(what):
    print(what)
atexit.register(say, "gone")
atexit.register(print, "stays")
atexit.register(say, what="gone too")
atexit.unregister(say)
atexit.unregister(len)
"""
FROM_ATEXIT = "from atexit import register, unregister\nregister(print, 1)\nregister(id, 2)\nunregister(id)\n"
HANDLERS_AFTER_AN_ERROR = "import atexit\natexit.register(print, 'handler')\n1 / 0\n"
A_THREAD_REGISTERS = """
import atexit, threading, time
def work():
    time.sleep(0.1)
    print("thread")
    atexit.register(print, "of the thread")
atexit.register(print, "of the main thread")
threading.Thread(target=work).start()
print("main")
"""
THREADS_THAT_START_THREADS = """
import threading, time
def work(left):
    time.sleep(0.03)
    print(left)
    if left:
        threading.Thread(target=work, args=(left - 1,)).start()
threading.Thread(target=work, args=(3,)).start()
"""
A_DAEMON = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
AN_EXECUTOR = """
import atexit, concurrent.futures, sys, time
atexit.register(print, "handler")
sys.kept = pool = concurrent.futures.ThreadPoolExecutor(1)
for number in range(3):
    pool.submit(lambda number=number: (time.sleep(0.03), print(number)))
print("main")
"""
AN_EXECUTOR_AND_AN_ERROR = "import concurrent.futures as futures, time\n" + (
    "pool = futures.ThreadPoolExecutor(1)\npool.submit(lambda: (time.sleep(0.1), print('work')))\nraise KeyError('x')\n"
)
A_THREAD_FAILS = "import threading\nthreading.Thread(target=lambda: 1 / 0, name='worker').start()\n"
A_FINALIZER = "import weakref\nclass A: pass\na = A()\nweakref.finalize(a, print, 'finalized')\nprint('main')\n"
A_PROCESS = """
import multiprocessing, time
def work():
    time.sleep(0.1)
    print("child", flush=True)
if __name__ == "__main__":
    multiprocessing.get_context("fork").Process(target=work).start()
    print("main", flush=True)
"""
A_POOL = """
import multiprocessing
def double(x):
    return 2 * x
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(double, [1, 2]))
"""
CLASSES_OF_MAIN = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
class Outer:
    class Inner(Exception):
        pass
def make(x):
    return Outer(), Outer.Inner(x), make
def fail(x):
    raise Outer.Inner(x)
def put(queue):
    queue.put(Outer())
if __name__ == "__main__":
    def late(x):
        return x
    method = multiprocessing.get_context(sys.argv[1])
    with method.Pool(1) as pool:
        made = pool.map(make, [1])[0]
        print(made[0].__class__ is Outer, made[1], made[2] is make, made[0].__class__)
        try:
            pool.apply(fail, (2,))
        except Outer.Inner as problem:
            print("failed", problem)
        if sys.argv[1] == "fork":
            print(pool.apply(late, (3,)))
    with ProcessPoolExecutor(1, mp_context=method) as pool:
        print(pool.submit(make, 4).result()[0].__class__ is Outer)
    queue = method.SimpleQueue()
    process = method.Process(target=put, args=(queue,))
    process.start()
    print(type(queue.get()) is Outer)
    process.join()
    print(process.exitcode, sys.modules["__mp_main__"] is sys.modules["__main__"])
"""
AN_OPEN_PROCESS_POOL = """
from concurrent.futures import ProcessPoolExecutor
if __name__ == "__main__":
    pool = ProcessPoolExecutor(1)
    print(pool.submit(abs, -3).result(), flush=True)
"""
A_HANDLER_THAT_PICKLES = """
import atexit, pickle
class K: pass
atexit.register(lambda: print(len(pickle.dumps(K())) > 0))
"""
A_FOLDER_THAT_IS_LEFT = """
import os
from pathlib import Path
os.mkdir("sub")
os.chdir("sub")
print(Path(__file__).exists())
os.chdir("..")
os.rmdir("sub")
"""
A_HOOK = "import sys\nsys.excepthook = lambda kind, *rest: print('hook', kind)\n1 / 0\n"
A_PARTIAL = """
import atexit, functools
p = functools.partial(print, "gone")
atexit.register(p)
atexit.unregister(p)
q = functools.partial(print, "stays")
atexit.register(q)
atexit.unregister(print)
"""
A_HANDLER_FAILS = """
import atexit
def fails():
    raise SystemExit("text")
atexit.register(print, "after")
atexit.register(atexit.register, print, "too late")
"""
MAIN = """
import sys, __main__
assert sys.modules["__main__"].__dict__ is globals()
print(__name__, __spec__, __doc__, sys.argv, sys.path[0])
"""


@pytest.mark.parametrize(
    "text",
    [
        *(HANDLERS, UNREGISTERED, FROM_ATEXIT, HANDLERS_AFTER_AN_ERROR, A_THREAD_REGISTERS),
        *(AN_OPEN_PROCESS_POOL, A_HANDLER_THAT_PICKLES, A_FOLDER_THAT_IS_LEFT, A_HOOK, A_PARTIAL, A_HANDLER_FAILS),
        *(THREADS_THAT_START_THREADS, A_DAEMON, AN_EXECUTOR, AN_EXECUTOR_AND_AN_ERROR, A_THREAD_FAILS),
        *(A_FINALIZER, A_PROCESS, A_POOL, MAIN),
    ],
    ids=lambda text: text.strip().replace("\n", " ")[:40],
)
def test_a_program_prints_and_returns_what_it_does_under_plain_python(text: str) -> None:
    name = script(text)
    assert watched(name, "x", "-m") == run(name, "x", "-m")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("arguments", [("script.py",), ("-m", "script")], ids=["script", "module"])
def test_what_main_defines_comes_back_from_its_processes(method: str, arguments: tuple[str, ...]) -> None:
    script(CLASSES_OF_MAIN)
    end = watched(*arguments, method)
    assert end == run(*arguments, method)
    assert end.out.endswith("0 True\n")


@pytest.mark.parametrize("end", ["", "None", "0", "3", "True", "300", "-1", "2.5", "'why'", "(1, 'why')"])
def test_the_exit_code_is_pythons(end: str) -> None:
    name = script(f"import sys\nsys.exit({end})\n")
    assert watched(name) == run(name)


@pytest.mark.parametrize(
    "text",
    [
        "1 / 0",
        "try:\n    1 / 0\nexcept ZeroDivisionError as problem:\n    raise KeyError('x') from problem",
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise KeyError('x')",
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise KeyError('x') from None",
        "raise ExceptionGroup('both', [KeyError(1), ValueError(2)])",
        "problem = KeyError('x')\nproblem.add_note('a note')\nraise problem",
        "raise GeneratorExit('g')",
        "x = (",
        "import missing_module",
    ],
)
def test_a_traceback_is_pythons(text: str) -> None:
    name = script(f"{text}\n")
    assert watched(name) == run(name)


def test_a_handler_from_before_the_program_may_be_taken_back_by_it() -> None:
    early = "import atexit\natexit.register(print, 'early')\n"
    assert run("-c", early + DRIVER, script("print('main')\n")).out == "main\nearly\n"
    assert run("-c", early + DRIVER, script("import atexit\natexit.unregister(print)\n")).out == ""


def test_finalizers_are_left_to_pythons_own_end_as_not_all_are_the_programs() -> None:
    text = (
        "import sys, weakref\nclass A: pass\nsys.kept = A()\nweakref.finalize(sys.kept, sys.stderr.write, 'final\\n')\n"
    )
    assert run("-c", DRIVER, script(text)).err == "returned\nfinal\n"


def test_handlers_run_once_each_before_the_exit_code_is_known() -> None:
    end = run("-c", DRIVER, script(HANDLERS.replace("print(what, X, end=end)", "print(what, X, file=sys.stderr)")))
    assert end.err.splitlines() == [*(f"{each} of the program" for each in ("third", "second", "first")), "returned"]


@pytest.mark.parametrize("problem", ["raise KeyError('mine')", "sys.exit(5)", "raise KeyboardInterrupt"])
def test_an_error_in_a_handler_keeps_neither_the_others_nor_the_exit_code(problem: str) -> None:
    name = script(
        "import atexit, sys\natexit.register(print, 'last')\n"
        f"@atexit.register\ndef fail():\n    {problem}\n"
        "atexit.register(print, 'first')\nsys.exit(3)\n"
    )
    end, plain = watched(name), run(name)
    assert (end.out, end.code) == (plain.out, plain.code) == ("first\nlast\n", 3)
    if "mine" in problem:
        assert all("in fail" in each.err and "KeyError: 'mine'" in each.err for each in (end, plain))


@pytest.mark.parametrize("flags", [(), ("-P",)])
def test_imports_are_looked_for_beside_the_script_unless_python_was_told_not_to(flags: tuple[str, ...]) -> None:
    script("VALUE = 'beside'\n", "inner/helper.py")
    script("VALUE = 'in the current folder'\n", "helper.py")
    name = script("import sys\nimport helper\nprint(helper.VALUE, sys.path[0])\n", "inner/script.py")
    end, plain = watched(name, flags=flags), run(*flags, name)
    assert (end.out, end.code) == (plain.out, plain.code)
    assert plain.code == (1 if flags else 0)


def test_a_bagel_perf_that_was_found_in_the_current_folder_alone_is_found_still() -> None:
    lone = f"import sys\nsys.path[:] = [{str(ROOT)!r}, *(each for each in sys.path[1:] if each != {str(ROOT)!r})]\n"
    name = script("import sys\nprint(sys.path[0], sys.path.index(sys.path[-1]) > 0, sys.path[-1])\n", "in/script.py")
    assert run("-c", lone + DRIVER, name).out.split() == [os.path.abspath("in"), "True", str(ROOT)]


PACKAGE = {
    "package/__init__.py": "",
    "package/__main__.py": "from . import tool\nprint('main of', __package__, tool.__name__)\n",
    "package/tool.py": (
        "import sys\nfrom package import helper\nfrom .helper import VALUE\n"
        "print(__name__, __package__, __spec__.name, __file__, VALUE, sys.argv, sys.path[0])\n"
        "if __name__ == '__main__':\n    sys.exit(4)\n"
    ),
    "package/helper.py": "VALUE = 7\n",
}


@pytest.mark.parametrize("module", ["package", "package.tool", "package.__main__"])
def test_a_module_runs_as_after_m(module: str) -> None:
    for name, text in PACKAGE.items():
        script(text, name)
    assert watched("-m", module, "a", "--flag") == run("-m", module, "a", "--flag")


def test_waits_in_threads_and_exit_handlers_are_counted_and_the_command_ends_as_python_does(
    capfd: pytest.CaptureFixture[str],
) -> None:
    name = script(
        "import atexit, concurrent.futures, sys, threading, time, torch\n"
        "x = torch.ones(3, device='cuda')\n"
        "def read(what):\n"
        "    time.sleep(0.05)\n"
        "    print(f'{what} {x.sum().item()}\\n', end='', flush=True)\n"
        "atexit.register(read, 'handler')\n"
        "threading.Thread(target=read, args=('thread',)).start()\n"
        "concurrent.futures.ThreadPoolExecutor(1).submit(read, 'executor')\n"
        "print('main')\n"
        "sys.exit(9)\n"
    )
    assert main(["syncs", "--device", "cpu", "--json", "out.json", "--quiet", "--", "python", name]) == 9
    lines = capfd.readouterr().out.splitlines()
    assert (lines[0], set(lines[1:3]), lines[3:]) == ("main", {"thread 3.0", "executor 3.0"}, ["handler 3.0"])
    (site,) = SyncReport.from_json(json.loads(Path("out.json").read_text())).sites
    assert (site.file, site.line, site.count) == (name, 5, 3)


def test_executors_work_again_after_the_program() -> None:
    name = script("import concurrent.futures as futures\nfutures.ThreadPoolExecutor(1).submit(int)\n")
    driver = DRIVER.replace("print(", "from concurrent.futures import ThreadPoolExecutor\nprint(", 1).replace(
        "sys.exit(code)", "print(ThreadPoolExecutor(1).submit(abs, -3).result())\nsys.exit(code)"
    )
    assert run("-c", driver, name).out == "3\n"


def test_processes_of_its_own_are_said_to_be_unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    fork_programs(monkeypatch)
    name = script(
        "import multiprocessing, os, subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', ''])\n"
        "subprocess.run(['true'])\n"
        "process = multiprocessing.get_context('fork').Process(target=print)\n"
        "process.start(); process.join()\n"
        "if os.fork() == 0: os._exit(0)\n"
        "os.wait()\n"
    )
    assert main(["syncs", "--device", "cpu", "--json", "out.json", "--quiet", "--", "python", name]) == 0
    report = SyncReport.from_json(json.loads(Path("out.json").read_text()))
    (other,) = report.unwatched
    assert (other.argv, other.watched, other.host_syncs) == ((sys.executable, "-c", ""), False, None)


def test_a_daemon_thread_may_outlive_the_program(capfd: pytest.CaptureFixture[str]) -> None:
    name = script(
        "import threading, time, torch\n"
        "x, begun = torch.ones(3, device='cuda'), threading.Event()\n"
        "def run():\n"
        "    while True:\n"
        "        x.sum(); begun.set(); time.sleep(0.001)\n"
        "threading.Thread(target=run, daemon=True).start()\n"
        "begun.wait()\n"
    )
    assert main(["syncs", "--device", "cpu", "--quiet", "--", "python", name]) == 0
    assert capfd.readouterr() == ("", "")
