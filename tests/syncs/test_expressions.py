"""The text that a wait is shown with is the very expression that waited, on each Python that is installed."""

from __future__ import annotations

import ast
import dis
import glob
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

import asked_programs
from bagel_perf.rules.expressions import Expressions
from byte_code import codes_of, texts_of, waiting

SUPPORT = Path(__file__).parents[1] / "support"

CONDITIONS: list[tuple[str, list[str]]] = [
    ("if x is not None and (x < 0).any(): pass", ["(x < 0).any()"]),
    ("if m is not None and torch.any(~m): pass", ["torch.any(~m)"]),
    ("if t > 3 or m.any(): pass", ["t > 3", "m.any()"]),
    ("if not (t or m.any()): pass", ["t", "m.any()"]),
    ("while m is not None and m.all() and t < 5: t += 1", ["m.all()", "t < 5"]),
    ("y = [i for i in x if m is not None and m[i]]", ["m[i]"]),
    ("y = {i: 1 for i in x if t if m[i]}", ["t", "m[i]"]),
    ("y = any(t and m[i] for i in x)", ["t"]),
    ("y = 1 if t and m.any() else 2", ["t", "m.any()"]),
    ("assert t or m.any(), 'message'", ["t", "m.any()"]),
    ("y = t and m.any() or x", ["t", "t and m.any()"]),
    ("if 0 < t < x.max(): pass", ["0 < t", "t < x.max()"]),
    ("if (t + 1) < (x + n) < (n): pass", ["t + 1 < x + n", "x + n < n"]),
    ("if ((t\n        + 1) < (x\n        + n) < (n)): pass", ["t + 1 < x + n", "x + n < n"]),
    ("if (0 < (t) <= 5) and (m).any(): pass", ["0 < t", "t <= 5", "(m).any()"]),
    ("y = 0 < t < x < 9", ["0 < t", "t < x"]),
    ("if t in (1, 2) or m.any(): pass", ["t in (1, 2)", "m.any()"]),
    ("if (n := m.any()) or t: pass", ["m.any()", "t"]),
    ("if (n := m.sum()) > 3: pass", ["(n := m.sum()) > 3"]),
    ("y = not m.any()", ["m.any()"]),
    ("y = not (m.any() and t)", ["m.any()", "m.any() and t"]),
    ("if (m.any() if t.any() else x): pass", ["t.any()", "m.any()", "x"]),
    ("y = (m if t else x) and n", ["t", "m if t else x"]),
    ("f = lambda m: m.any() and m.all()", ["m.any()"]),
    ("y = f(m.any() and t, x) and t", ["m.any()", "f(m.any() and t, x)"]),
    ("y = f'{t if m.any() else x}'", ["m.any()"]),
    ("if f(t, m)[0].any(): return 1", ["f(t, m)[0].any()"]),
    ("y = x; z = y and t", ["y"]),
    ("while m.any():\n        if t: continue\n        x += 1", ["m.any()", "t"]),
    ("try: pass\n    finally:\n        if m.any(): pass", ["m.any()"]),
    ("match t:\n        case 0: pass\n        case n if m.any(): pass", ["case 0", "m.any()"]),
    ("if (\n        m is not None  # x\n        and torch.any(\n            ~m,  # it\n        )\n    ): pass",
     ["torch.any(~m)"]),
    ("if (t\n            and m\n            .any()): pass", ["t", "m.any()"]),
    ("if 'ä' and t == 'ö' and m.any(): pass", ["t == 'ö'", "m.any()"]),
]  # fmt: skip
"""A statement of a function of t, m, x, n, torch and f, and what is asked for its truth, in order."""

VALUES: list[tuple[str, str, list[str]]] = [
    ("x[m] = 3", "STORE_SUBSCR", ["x[m] = ..."]),
    ("x[m] += n", "STORE_SUBSCR", ["x[m] += n"]),
    ("x[m] += n", "BINARY_SUBSCR", ["x[m]"]),
    ("y = f(x.cpu(), m.item())", "CALL", ["x.cpu()", "m.item()", "f(x.cpu(), m.item())"]),
    ("@f(x.item())\n    def inner(): pass", "CALL", ["x.item()", "f(x.item())"]),
    ("y = torch.tensor(\n        [1,  # one\n         2],\n        device=n)", "CALL",
     ["torch.tensor([1, 2], device=n)"]),
    ("y = f'{t:.3f} {m.any()!r} {n}'", "FORMAT", ["f'{t:.3f}'", "f'{m.any()!r}'", "f'{n}'"]),
    ("y = f'''{\n        t:.3f} and {n}'''", "FORMAT", ["f'{t:.3f}'", "f'{n}'"]),
    ("y = t < n", "COMPARE_OP", ["t < n"]),
    ("return x[torch.arange(9)[m]]", "BINARY_SUBSCR", ["torch.arange(9)[m]", "x[torch.arange(9)[m]]"]),
]  # fmt: skip


def written(folder: Path) -> Path:
    """A file with a function for each case."""
    bodies = [body for body, _ in CONDITIONS] + [body for body, *_ in VALUES]
    file = folder / "cases.py"
    functions = [f"def case_{i}(t, m, x, n, torch, f):\n    {body}\n" for i, body in enumerate(bodies)]
    file.write_text("\n".join(functions), encoding="utf-8")
    return file


def asks(name: str) -> bool:
    return "JUMP" in name or name in ("TO_BOOL", "UNARY_NOT")


def check(found: dict[str, list[list[Any]]]) -> None:
    def texts(number: int, wanted: Callable[[str], bool]) -> list[str]:
        name = f"case_{number}"
        rows = [row for each, rows in found.items() if each == name or each.startswith(f"{name}.") for row in rows]
        return list(dict.fromkeys(text for op, text, _ in rows if wanted(op)))

    problems = [
        (body, got)
        for i, (body, expected) in enumerate(CONDITIONS)
        if (got := texts(i, asks)) != expected and not (sorted(got) == sorted(expected) and "for" in body)
    ]
    problems += [
        (body, got)
        for i, (body, name, expected) in enumerate(VALUES, start=len(CONDITIONS))
        if (got := [text for text in texts(i, lambda op, name=name: op.startswith(name)) if text]) != expected  # type: ignore[misc]
    ]
    assert problems == []


def other_pythons() -> list[str]:
    """The interpreters from 3.11 on that are installed besides this one, one of each version."""
    root = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    found: dict[int, str] = {}
    for minor in range(11, 20):
        installed = sorted(glob.glob(f"{root}/versions/3.{minor}.*/bin/python"))
        path = installed[-1] if installed else shutil.which(f"python3.{minor}")
        if path is not None and minor != sys.version_info.minor:
            found[minor] = path
    return list(found.values())


def test_each_condition_shows_the_expression_whose_truth_was_asked(tmp_path: Path) -> None:
    check(texts_of(written(tmp_path)))


@pytest.mark.parametrize("python", other_pythons(), ids=lambda path: Path(path).parts[-3])
def test_other_pythons_show_the_same_expressions(python: str, tmp_path: Path) -> None:
    check(json.loads(printed_by(python, "byte_code.py", written(tmp_path))))


def printed_by(python: str, script: str, *arguments: Path) -> str:
    """What a script of the test support prints under another Python, which has no torch."""
    environment = {"PYTHONPATH": str(SUPPORT), "PYTHONIOENCODING": "utf-8"}
    command = [python, "-S", str(SUPPORT / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_in_random_programs_the_text_is_that_of_the_value_that_was_asked(tmp_path: Path) -> None:
    check_programs(*asked_programs.run(tmp_path, 150))


@pytest.mark.parametrize("python", other_pythons(), ids=lambda path: Path(path).parts[-3])
def test_in_random_programs_other_pythons_find_the_value_too(python: str, tmp_path: Path) -> None:
    check_programs(*json.loads(printed_by(python, "asked_programs.py", tmp_path)))


def check_programs(num_asked: int, num_without: int, wrong: list[list[str]]) -> None:
    assert wrong == []
    assert num_asked > 4000 and num_without < num_asked / 50


def test_words_say_what_is_around_an_expression(tmp_path: Path) -> None:
    file = tmp_path / "words.py"
    file.write_text(
        "def run(x, m, log, out):\n"
        "    x.a()\n"
        "    for i in x.b():\n"
        "        if m.c(): break\n"
        "        print(f'{m.d():.2f}')\n"
        "        out.append(m.e())\n"
        "        out += m.f()\n"
        "        assert m.g()\n"
        "        if m.h(): raise ValueError(m.i())\n"
        "        n = len(x.j()) + x.k().shape[0]\n"
        "        def inner(): return m.l()\n"
        "    while not m.m(): pass\n"
        "    return [m.n() for i in x]\n",
        encoding="utf-8",
    )
    words = {text: words for rows in texts_of(file).values() for op, text, words in rows if op == "CALL"}
    expected = {
        "a": [], "b": [], "c": ["loop", "stop"], "d": ["log", "loop"], "e": ["collect", "loop"], "f": ["loop", "sum"],
        "g": ["check", "loop"], "h": ["check", "loop"], "i": ["loop"], "j": ["count", "loop"], "k": ["count", "loop"],
        "l": [], "m": ["loop", "stop"], "n": ["loop"],
    }  # fmt: skip
    assert {text.split(".")[1][0]: each for text, each in words.items() if text[:2] in ("m.", "x.")} == expected


def test_words_say_what_of_an_expression_waits(tmp_path: Path) -> None:
    file = tmp_path / "words.py"
    file.write_text("def run(x, m, s):\n    if m[s]: pass\n    x[m] += s\n    x[s] = x[s:]\n", encoding="utf-8")
    rows = texts_of(file)["run"]
    asked = {text: words for op, text, words in rows if asks(op)}
    others = {text: words for op, text, words in rows if not asks(op) and not op.startswith("BINARY_OP")}
    assert asked == {"m[s]": ["truth"]}
    assert {text: others[text] for text in ("m[s]", "x[m]", "x[m] += s")} == {
        "m[s]": ["index"],
        "x[m]": ["index", "update"],
        "x[m] += s": ["update"],
    }


def asked_texts(code: CodeType) -> set[str]:
    expressions = Expressions()
    return {expressions.one(each, offset)[0] for each in codes_of(code) for name, offset in waiting(each)}


BEFORE = "def run(m, x):\n    if m.any(): return x.item()\n    return x.cpu()\n"


@pytest.mark.parametrize(
    "after",
    [
        "",
        "\n" + BEFORE,
        "import torch\n" + BEFORE,
        BEFORE.replace("x", "y").replace("m.", "n."),
        BEFORE.replace("any", "all").replace("item", "bool").replace("cpu", "cuda"),
        "def run(m, x):\n    return 1\n",
        "no python (",
        "\0",
    ],
    ids=["empty", "a line more", "an import more", "other variable", "other calls", "shorter", "broken", "null"],
)
def test_a_file_that_was_changed_gives_no_text(after: str, tmp_path: Path) -> None:
    file = tmp_path / "changed.py"
    code = compile(BEFORE, str(file), "exec")
    file.write_text(after, encoding="utf-8")
    assert asked_texts(code) == {""}


def test_a_source_in_another_encoding_and_with_long_strings_shows_its_texts(tmp_path: Path) -> None:
    file = tmp_path / "latin.py"
    text = "# -*- coding: latin-1 -*-\ndef run(m):\n    if 'äöü' and m.any(): return \\\n        m.cpu()\n"
    file.write_bytes(text.encode("latin-1"))
    assert asked_texts(compile(file.read_bytes(), str(file), "exec")) == {"m.any()", "m.cpu()"}


def test_code_without_a_file_gives_no_text() -> None:
    for name in ("<string>", "<stdin>", "/nowhere/at/all.py", "x.so", ""):
        assert asked_texts(compile(BEFORE, name, "exec")) == {""}


def test_a_module_in_an_archive_shows_its_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "lib.zip", "w") as archive:
        archive.writestr("in_archive.py", BEFORE)
    monkeypatch.syspath_prepend(str(tmp_path / "lib.zip"))
    module = __import__("in_archive")
    monkeypatch.delitem(sys.modules, "in_archive", raising=False)
    assert asked_texts(module.run.__code__) == {""}
    monkeypatch.setitem(sys.modules, "in_archive", module)
    assert asked_texts(module.run.__code__) == {"m.any()", "x.item()", "x.cpu()"}


def test_an_assertion_that_pytest_wrote_anew_shows_what_is_asserted() -> None:
    def checked(m: Any, n: Any) -> None:
        assert m.any()
        assert n or m.all()
        assert m.sum() == 3

    texts = {text for text in asked_texts(checked.__code__) if not text.startswith("assert ")}
    assert texts - {""} <= {"m.any()", "n", "m.all()", "n or m.all()", "m.sum()", "m.sum() == 3"}
    assert {"m.any()", "m.all()", "m.sum()"} <= texts


def test_each_file_and_each_code_object_is_read_once_however_many_waits_are_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counted(owner: ModuleType, name: str) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    counted(ast, "walk")
    counted(dis, "get_instructions")
    for number in (50, 400):
        file = tmp_path / f"long_{number}.py"
        file.write_text("def run(x):\n" + "    x.item()\n" * number + "    if x.any(): pass\n", encoding="utf-8")
        (code,) = codes_of(compile(file.read_text(), str(file), "exec"))[1:]
        offsets = [each.offset for each in dis.Bytecode(code) if each.opname == "CALL"]
        calls.clear()
        expressions = Expressions()
        assert [expressions.at(code, [offset])[0] for offset in offsets] == [("x.item()",)] * number + [("x.any()",)]
        assert calls == ["walk", "get_instructions"]
