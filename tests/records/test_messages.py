"""Errors and events cross the process border unchanged."""

from __future__ import annotations

import json
import math

import pytest

from bagel_perf.records.errors import (
    BagelPerfError,
    CountersDrifted,
    EnvironmentUnfit,
    Inconclusive,
    LatencyRegressed,
    OutputsDiffer,
    RunFailed,
    UsageError,
    error_from_json,
    error_to_json,
    reworded,
)
from bagel_perf.records.events import (
    DoneEvent,
    EnvironmentEvent,
    ErrorEvent,
    Event,
    ProgressEvent,
    RunEvent,
    TensorEvent,
    WarningEvent,
    parse_event,
    to_line,
)
from bagel_perf.records.runs import TensorCheck
from scripted import ENVIRONMENT, make_plan, make_runs

EXIT_CODES: dict[type[BagelPerfError], int] = {
    LatencyRegressed: 1,
    UsageError: 2,
    OutputsDiffer: 3,
    Inconclusive: 4,
    EnvironmentUnfit: 5,
    RunFailed: 6,
    CountersDrifted: 7,
}


def test_each_error_has_the_exit_code_of_the_contract() -> None:
    assert {kind: kind.exit_code for kind in BagelPerfError.__subclasses__()} == EXIT_CODES


def test_an_error_in_other_words_keeps_the_rest_and_its_notes() -> None:
    error = UsageError("bad size", value=17, allowed="16 or 32")
    error.add_note("a note")
    told = reworded(error, what="a.py: bad size", remedy="use 16")
    assert (type(told), str(told), told.__notes__) == (UsageError, "a.py: bad size (17); 16 or 32; use 16", ["a note"])


def test_a_usage_error_is_a_value_error() -> None:
    assert issubclass(UsageError, ValueError)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UsageError("bad size", value=17, allowed="16 or 32", remedy="use 16"), "bad size (17); 16 or 32; use 16"),
        (RunFailed("interrupted"), "interrupted"),
        (RunFailed("zero is a value", value=0), "zero is a value (0)"),
        (RunFailed("two\nlines", value="a\n  b", remedy="try\r\nagain"), "two lines (a b); try again"),
    ],
)
def test_an_error_is_one_line_without_its_empty_parts(error: BagelPerfError, line: str) -> None:
    assert str(error) == line


@pytest.mark.parametrize("kind", EXIT_CODES)
def test_an_error_survives_json(kind: type[BagelPerfError]) -> None:
    error = kind("what", value=3, remedy="mend it")
    back = error_from_json(json.loads(json.dumps(error_to_json(error))))
    assert type(back) is kind
    assert str(back) == str(error)


@pytest.mark.parametrize("data", [None, 3, {}, {"type": "SystemExit", "what": "x"}])
def test_an_unintelligible_error_is_a_failed_run(data: object) -> None:
    assert isinstance(error_from_json(data), RunFailed)


EVENTS: tuple[Event, ...] = (
    EnvironmentEvent(environment=ENVIRONMENT, pairs=5, warmup=1),
    ProgressEvent(text="two\nlines", done=3, total=12),
    *(RunEvent(run=run) for run in make_runs(make_plan(), 1)),
    TensorEvent(check=TensorCheck(variant="baseline", tensor="x", error=0.5, limit=1.0, ok=True)),
    WarningEvent(text="hot"),
    DoneEvent(),
)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_one_line_and_survives_it(event: Event) -> None:
    line = to_line(event)
    assert "\n" not in line
    assert parse_event(line) == event


def test_an_error_event_keeps_kind_and_words() -> None:
    event = parse_event(to_line(ErrorEvent(error=EnvironmentUnfit("no CUDA", remedy="use --device cpu"))))
    assert isinstance(event, ErrorEvent)
    assert isinstance(event.error, EnvironmentUnfit)
    assert str(event.error) == "no CUDA; use --device cpu"


def test_a_number_that_is_not_finite_travels_as_null() -> None:
    line = to_line(TensorEvent(check=TensorCheck(variant="a", tensor="x", error=math.inf, limit=1.0, ok=False)))
    assert json.loads(line)["check"]["error"] is None
    event = parse_event(line)
    assert isinstance(event, TensorEvent)
    assert math.isnan(event.check.error)


@pytest.mark.parametrize("line", ["", "hello", "{}", "[1]", '{"event": "party"}', '{"event": 3}', '{"event": "run"}'])
def test_a_line_that_is_no_event_is_refused(line: str) -> None:
    with pytest.raises(UsageError):
        parse_event(line)


def test_a_wrong_type_deep_inside_is_named() -> None:
    data = json.loads(to_line(RunEvent(run=next(iter(make_runs(make_plan()))))))
    data["run"]["measurements"][1]["host_syncs"] = "many"
    with pytest.raises(UsageError, match=r"run\.measurements\[1\]\.host_syncs.*'many'.*int"):
        parse_event(json.dumps(data))
