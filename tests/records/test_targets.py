"""A target is a file or a function of one; its label is given, or as short as tells it from the others."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bagel_perf.records.errors import UsageError
from bagel_perf.records.targets import Target, is_target, parse_target, parse_targets


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("loop.py", Target(label="loop", file="loop.py")),
        ("a/b/loop.py", Target(label="loop", file="a/b/loop.py")),
        ("loop.py:fast", Target(label="fast", file="loop.py", function="fast")),
        ("new=loop.py", Target(label="new", file="loop.py")),
        ("my label=a/loop.py:fast", Target(label="my label", file="a/loop.py", function="fast")),
        ("new@/venvs/a=edit.py", Target(label="new", file="edit.py", environment="/venvs/a")),
        ("new@venvs/a@b=edit.py:go", Target(label="new", file="edit.py", function="go", environment="venvs/a@b")),
        ("./a=b.py", Target(label="a=b", file="./a=b.py")),
        ("runs/x@y=z/loop.py", Target(label="loop", file="runs/x@y=z/loop.py")),
        (" loop.py ", Target(label="loop", file="loop.py")),
    ],
)
def test_a_target_is_taken_apart(text: str, target: Target) -> None:
    assert parse_target(text) == target
    assert is_target(text)


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        (["a/loop.py", "b/loop.py"], ["a/loop", "b/loop"]),
        (["loop.py", "old/loop.py"], ["loop", "old/loop"]),
        (["x/a/loop.py", "y/a/loop.py", "other.py"], ["x/a/loop", "y/a/loop", "other"]),
        (["loop.py:plain", "loop.py:fast"], ["plain", "fast"]),
        (["a.py:run", "b.py:run"], ["a.run", "b.run"]),
        (["a/loop.py:run", "b/loop.py:run"], ["a/loop.run", "b/loop.run"]),
        (["loop=x.py", "loop.py", "a/loop.py"], ["loop", "a/loop"]),
        (["old@/venvs/a=e.py", "new@/venvs/b=e.py"], ["old", "new"]),
    ],
)
def test_labels_are_as_long_as_tells_them_apart(texts: list[str], labels: list[str]) -> None:
    if "loop=x.py" in texts:
        with pytest.raises(UsageError, match=r"two targets have one name \(loop\); give them labels"):
            parse_targets(texts)
        texts = [text for text in texts if text != "loop.py"]
    assert [target.label for target in parse_targets(texts)] == labels


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["loop"], "target is not understood (loop); FILE.py, FILE.py:NAME"),
        ([""], "target is not understood ('')"),
        ([".py"], "target is not understood (.py)"),
        (["a/.py"], "target is not understood (a/.py)"),
        (["http://host:80/x.py"], "target is not understood (http://host:80/x.py)"),
        (["loop.py:"], "target names no function (loop.py:)"),
        (["loop.py:a.b"], "target names no function (loop.py:a.b)"),
        (["=loop.py"], "label is empty (=loop.py)"),
        (["a:b=loop.py"], "label may not contain : (a:b=loop.py)"),
        (["a,b=loop.py"], "label may not contain , (a,b=loop.py)"),
        (["-a=loop.py"], "label may not begin with a dash (-a=loop.py)"),
        (["a\u202eb=loop.py"], "label is not plain text on one line"),
        (["x" * 81 + "=loop.py"], "label has more than 80 characters"),
        (["a@=loop.py"], "label names no environment (a@=loop.py)"),
        (["a=b=loop"], "target is not understood (a=b=loop)"),
        (["a=x.py", "a=y.py"], "label is given twice (a); name each target once"),
        (["x.py", "x.py"], "two targets have one name (x); give them labels: before=x.py after=x.py"),
        (["x.py:f", "./x.py:f"], "two targets have one name (x.f); give them labels"),
    ],
)
def test_what_is_no_target_is_one_line(texts: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_targets(texts)
    assert str(caught.value).startswith(message)
    assert str(caught.value).isprintable()


def test_a_name_without_its_suffix_is_recognized() -> None:
    with pytest.raises(UsageError, match=r"did you mean loop\.py"):
        parse_target("loop")


@pytest.mark.parametrize("text", ["baseline", "sync_free+merge_kv", "fused-merge_kv", "mine=baseline", "loop.pyc"])
def test_a_variant_of_bagel_is_no_target(text: str) -> None:
    assert not is_target(text)


NAMES = st.text(string.ascii_letters + string.digits + "_. -=@", min_size=1, max_size=8)


@given(st.lists(st.tuples(st.lists(NAMES, min_size=1, max_size=3), st.sampled_from([None, "run", "fast"])), max_size=4))
def test_labels_are_unique_or_the_targets_are_refused(names: list[tuple[list[str], str | None]]) -> None:
    texts = [f"./{'/'.join(path)}.py" + (f":{function}" if function else "") for path, function in names]
    try:
        targets = parse_targets(texts)
    except UsageError:
        return
    assert len({target.label for target in targets}) == len(targets)
    assert [target.place for target in targets] == [text.strip() for text in texts]
