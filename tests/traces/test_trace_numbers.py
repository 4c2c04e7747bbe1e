"""What no clock gives is refused in one line; what is no time at all is left out and counted, and moves nothing."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from bagel_perf.records.errors import UsageError
from bagel_perf.traces.analyse import analyse
from bagel_perf.traces.formats.reading import read_trace
from bagel_perf.traces.trace import Trace
from kineto_files import EPOCH_US, events
from trace_scenes import two_steps

DIGITS = "9" * 5000
LEFT_OUT = ("null", "true", "[]", "{}", '"noon"', '""', "1.7e18", "1e15")
NO_TIMES = (
    *("1e300", "-1e300", "1e308", '"NaN"', '"Infinity"', '"-inf"', "NaN", "-Infinity", "nan", "inf", '"sNaN"', "1e400"),
    *(DIGITS, f"-{DIGITS}", f'"{DIGITS}"', "123456789012345678901"),
)
ARGUMENTS = (
    *("null", "5", "[]", '"x"', "true", '{"correlation": 1e300, "device": "x", "stream": []}', '{"correlation": NaN}'),
    '{"device": 99999999999999999999, "stream": 4000000000000000000}',
    *('{"bytes": -5}', '{"x": "\\ud800"}', '{"CallFrom": 5}'),
)
OTHERS = {
    "pid": ("null", "1e300", "[]", "18446744073709551615"),
    "tid": ("null", '"stream 99999999999999999999"', "-5"),
    "name": ("null", "5", "[]", '{"a": 1}'),
    "cat": ("null", "5", "[]"),
    "ph": ("null", "5", '"Q"', "[]", '""'),
    "args": ARGUMENTS,
}
NO_VALUES = (
    *(("pid", DIGITS), ("tid", DIGITS), ("name", DIGITS), ("args", f'{{"correlation": {DIGITS}}}')),
    *(
        ("pid", '"\\ud800"'),
        ("tid", '"\\udfff"'),
        ("name", '"\\ud800"'),
        ("name", '"\\ud800\\u0041"'),
        ("cat", '"\\ud800"'),
    ),
)
EVENT = {"ph": '"X"', "cat": '"kernel"', "name": '"k"', "pid": "0", "tid": "7", "ts": "340", "dur": "1", "args": "{}"}


def read(tmp_path: Path, text: str) -> Trace:
    path = tmp_path / "a.json"
    path.write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trace = read_trace(path)
        json.dumps(analyse(trace).to_json()).encode()
    return trace


def with_event(fields: dict[str, str], base_us: int = 0, *, first: bool = False) -> str:
    """Two steps with an event of odd fields."""
    event = "{" + ", ".join(f'"{key}": {value}' for key, value in (EVENT | fields).items()) + "}"
    others = json.dumps(events(two_steps(), base_us))[1:-1]
    return '{"traceEvents": [' + ", ".join([event, others] if first else [others, event]) + "]}"


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("field", ["ts", "dur"])
@pytest.mark.parametrize("value", LEFT_OUT)
def test_an_event_without_a_time_is_left_out_and_counted(tmp_path: Path, value: str, field: str, first: bool) -> None:
    trace = read(tmp_path, with_event({field: value}, first=first))
    whole = read(tmp_path, json.dumps({"traceEvents": events(two_steps(), 0)}))
    assert trace.end_us == whole.end_us
    assert len(trace.activities) == len(whole.activities)
    assert trace.source.notes == (
        "events left out because their time cannot be read: 1",
        "events of the GPU among those left out: 1",
    )
    assert trace.source.num_unreadable_activities == 1


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("field", ["ts", "dur"])
@pytest.mark.parametrize("value", NO_TIMES, ids=range(len(NO_TIMES)))
def test_a_time_that_is_no_number_of_any_clock_is_refused(tmp_path: Path, value: str, field: str, first: bool) -> None:
    with pytest.raises(UsageError, match="trace has a value that cannot be") as caught:
        read(tmp_path, with_event({field: value}, first=first))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("field", "value"), NO_VALUES, ids=range(len(NO_VALUES)))
def test_thousands_of_digits_and_halves_of_characters_are_refused(tmp_path: Path, field: str, value: str) -> None:
    with pytest.raises(UsageError, match="trace has a value that cannot be") as caught:
        read(tmp_path, with_event({field: value}))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in OTHERS.items() for value in values])
def test_odd_fields_neither_stop_the_reader_nor_are_shown_at_length(tmp_path: Path, field: str, value: str) -> None:
    trace = read(tmp_path, with_event({field: value}))
    assert trace.end_us < 1000
    assert max(map(len, (*trace.threads, *trace.names))) < 200
    assert all(text.encode("utf-8") for text in (*trace.threads, *trace.names) if text)


def test_numbers_of_more_than_64_bits_are_unknown_and_counted(tmp_path: Path) -> None:
    trace = read(tmp_path, with_event({"args": '{"correlation": 18446744073709551616, "device": 0, "stream": 7}'}))
    assert trace.source.notes == ("numbers of more than 64 bits, taken as unknown: 1",)


def test_a_time_of_0_does_not_stretch_a_trace_of_today(tmp_path: Path) -> None:
    trace = read(tmp_path, with_event({"ts": "0"}, EPOCH_US, first=True))
    assert trace.end_us < 1000
    assert trace.source.num_unreadable_activities == 1


@pytest.mark.parametrize("value", ["5", "[5, null]", '[{"id": "x", "name": 3}]', f'[{{"id": {DIGITS}, "name": "a"}}]'])
@pytest.mark.parametrize("place", ["header", "trailer"])
def test_odd_properties_of_devices_name_none(tmp_path: Path, value: str, place: str) -> None:
    listed, properties = f'"traceEvents": {json.dumps(events(two_steps()))}', f'"deviceProperties": {value}'
    order = (properties, listed) if place == "header" else (listed, properties)
    assert read(tmp_path, "{" + ", ".join(order) + "}").source.device_names == {}


def test_texts_of_the_header_are_short_and_can_be_written(tmp_path: Path) -> None:
    properties = '[{"id": 0, "name": "\\ud800 GPU"}]'
    header = f'"deviceProperties": {properties}, "x_version": {DIGITS}, "y_version": "{DIGITS}"'
    source = read(tmp_path, f'{{{header}, "traceEvents": {json.dumps(events(two_steps()))}}}').source
    assert source.device_names == {0: "? GPU"}
    assert max(map(len, source.versions.values())) <= 101


def test_a_trace_none_of_whose_times_can_be_read_says_what_they_count(tmp_path: Path) -> None:
    text = json.dumps({"traceEvents": [{"ph": "X", "cat": "kernel", "name": "k", "ts": "noon", "dur": 1}]})
    with pytest.raises(UsageError, match="ts and dur count microseconds"):
        read(tmp_path, text)


@pytest.mark.parametrize("place", ["header", "trailer", "args", "events"])
def test_text_nested_by_the_hundred_thousand_is_refused_as_that(tmp_path: Path, place: str) -> None:
    deep, listed = "[" * 100_000 + "]" * 100_000, json.dumps(events(two_steps()))
    text = {
        "header": f'{{"x": {deep}, "traceEvents": {listed}}}',
        "trailer": f'{{"traceEvents": {listed}, "x": {deep}}}',
        "args": with_event({"args": f'{{"x": {deep}}}'}),
        "events": f'{{"traceEvents": {deep}}}',
    }[place]
    with pytest.raises(UsageError, match="nested too deeply"):
        read(tmp_path, text)
