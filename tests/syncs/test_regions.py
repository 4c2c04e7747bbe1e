from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bagel_perf.syncs.regions import NvtxSink, RecordFunctionSink, current_region, recording, region, traced


class Log:
    def __init__(self) -> None:
        self.entries: list[str] = []

    @contextmanager
    def open(self, name: str) -> Iterator[None]:
        self.entries.append(f"+{name}")
        yield
        self.entries.append(f"-{name}")


def test_a_region_is_nothing_while_nothing_records() -> None:
    assert region("a") is region("b")
    with region("a"):
        assert current_region() == ()


def test_regions_nest_and_are_left_when_an_error_passes() -> None:
    with recording():
        with pytest.raises(KeyError), region("a"), region("b"):
            raise KeyError(current_region())
        assert current_region() == ()


def test_a_sink_sees_regions_open_and_close_in_order() -> None:
    log = Log()
    with recording(log), region("a"), region("b"):
        pass
    with region("c"):
        pass
    assert log.entries == ["+a", "+b", "-b", "-a"]


def test_two_recorders_end_independently() -> None:
    one, other = Log(), Log()
    with recording(one):
        with recording(other), region("a"):
            pass
        with region("b"):
            assert current_region() == ("b",)
    assert one.entries == ["+a", "-a", "+b", "-b"]
    assert other.entries == ["+a", "-a"]


def test_another_thread_has_a_path_of_its_own() -> None:
    paths = []

    def work() -> None:
        with region("b"):
            paths.append(current_region())

    with recording(), region("a"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert paths == [("b",)]


def test_a_traced_function_runs_in_its_region() -> None:
    def where(suffix: str) -> tuple[str, ...]:
        """Where it runs."""
        return (*current_region(), suffix)

    component = traced("component", where)
    assert component.__doc__ == where.__doc__
    assert component("x") == ("x",)
    with recording():
        assert component("x") == ("component", "x")


def test_each_step_of_a_traced_generator_is_in_its_region_and_the_caller_is_not() -> None:
    def steps(count: int) -> Iterator[tuple[str, ...]]:
        for _ in range(count):
            yield current_region()

    with recording():
        for path in traced("component", steps)(2):
            assert path == ("component",)
            assert current_region() == ()
    assert len(list(traced("component", steps)(3))) == 3


@pytest.mark.parametrize("sink", [NvtxSink, RecordFunctionSink])
def test_the_sinks_of_profilers_open_and_close(sink: type[NvtxSink] | type[RecordFunctionSink]) -> None:
    with recording(sink()), region("a"), region("b"):
        assert current_region() == ("a", "b")
