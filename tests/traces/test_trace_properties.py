"""However a trace is written, it tells the same; whatever is in a file, reading ends in a trace or in one line."""

from __future__ import annotations

import gzip
import json
import random
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bagel_perf.records.errors import UsageError
from bagel_perf.records.traces import TraceReport
from bagel_perf.traces.analyse import analyse
from bagel_perf.traces.formats import kineto_stream
from bagel_perf.traces.formats.reading import read_trace
from kineto_files import HEADER, Event, events
from trace_scenes import Scene, random_scene, two_steps

SHIFTS_NS = (0, 1, 999, 10**6 + 7, 4_759_597_058_852_123, 1_700_000_000_123_456_789, 4_102_444_800_000_000_001)
FEW = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


def found_in(scene: Scene, seed: int) -> list[Event]:
    """Events of a scene whose times have nanoseconds, the same for the same seed; times and lengths are in those."""
    rng = random.Random(seed)
    scene.op("aten::mm", 0, 1)  # a random scene may be empty
    moments = {moment: moment * 1000 + rng.randrange(1000) for moment in range(100_000)}
    found = [event for event in events(scene, 0) if event["ph"] == "X"]
    for event in found:
        end = event["ts"] + event["dur"]
        event["ts"] = moments[event["ts"]]
        event["dur"] = moments[end] - event["ts"]
    return found


def text_of(found: list[Event], shift_ns: int = 0, *, as_text: bool = False) -> str:
    """The events as JSON, with times in microseconds that have all their digits."""
    lines = []
    for event in found:
        line = json.dumps({**event, "ts": "TS", "dur": "DUR"})
        for key, value in (("TS", event["ts"] + shift_ns), ("DUR", event["dur"])):
            number = f"{value // 1000}.{value % 1000:03d}"
            line = line.replace(f'"{key}"', f'"{number}"' if as_text else number)
        lines.append(line)
    return json.dumps(HEADER)[:-1] + ', "traceEvents": [' + ",\n".join(lines) + "]}"


def told(path: Path, data: str | bytes) -> TraceReport:
    """What is told of a file of these data."""
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    report = analyse(read_trace(path))
    return replace(report, source=replace(report.source, num_bytes=0))


@FEW
@given(seed=st.integers(0, 10**6), shift_ns=st.sampled_from(SHIFTS_NS))
def test_a_trace_tells_the_same_from_any_zero(tmp_path: Path, seed: int, shift_ns: int) -> None:
    found = found_in(random_scene(seed), seed)
    path = tmp_path / "a.json"
    assert told(path, text_of(found, shift_ns)) == told(path, text_of(found))


@FEW
@given(seed=st.integers(0, 10**6), order=st.randoms(use_true_random=False))
def test_a_trace_tells_the_same_in_any_order(tmp_path: Path, seed: int, order: random.Random) -> None:
    found = found_in(random_scene(seed), seed)
    path = tmp_path / "a.json"
    whole = told(path, text_of(found))
    order.shuffle(found)
    assert told(path, text_of(found)) == whole


@FEW
@given(seed=st.integers(0, 10**6), shift_ns=st.sampled_from(SHIFTS_NS), chunk_bytes=st.integers(1, 5000))
def test_a_trace_tells_the_same_packed_as_text_and_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, shift_ns: int, chunk_bytes: int
) -> None:
    found = found_in(random_scene(seed), seed)
    path = tmp_path / "a.json"
    whole = told(path, text_of(found, shift_ns))
    assert told(path, gzip.compress(text_of(found, shift_ns, as_text=True).encode())) == whole
    with monkeypatch.context() as patched:
        patched.setattr(kineto_stream, "CHUNK_BYTES", max(chunk_bytes, 500))
        assert told(path, text_of(found, shift_ns)) == whole


@pytest.mark.parametrize("says_so", [True, False])
def test_times_in_nanoseconds_are_told_by_their_launches(tmp_path: Path, says_so: bool) -> None:
    found = [event for event in events(two_steps(), 1000) if event["ph"] == "X"]
    header = HEADER | ({"displayTimeUnit": "ns"} if says_so else {})
    fine = [{**event, "ts": event["ts"] * 1000, "dur": event["dur"] * 1000} for event in found]
    usual = told(tmp_path / "us.json", json.dumps(HEADER | {"traceEvents": found}))
    scaled = told(tmp_path / "ns.json", json.dumps(header | {"traceEvents": fine}))
    note = "ts and dur are taken for nanoseconds: in microseconds each launch would take milliseconds"
    assert note in scaled.notes and note not in usual.notes
    assert replace(scaled, notes=usual.notes, source=usual.source) == usual


def test_the_unit_of_display_is_not_the_unit_of_times(tmp_path: Path) -> None:
    found = found_in(random_scene(5), 5)
    text = text_of(found)
    assert told(tmp_path / "a.json", text.replace('"displayTimeUnit": "ms"', '"displayTimeUnit": "ns"')) == told(
        tmp_path / "a.json", text
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
FIELDS = ("ph", "cat", "name", "pid", "tid", "ts", "dur", "args")


@settings(FEW, max_examples=100)
@given(changes=st.lists(st.tuples(st.integers(0, 40), st.sampled_from(FIELDS), JSON), max_size=4), header=JSON)
@example(changes=[(0, "ts", float("inf"))], header=10**400)
def test_any_value_in_any_field_ends_in_a_report_or_in_one_line(
    tmp_path: Path, changes: list[tuple[int, str, object]], header: object
) -> None:
    found = events(random_scene(3), 0)
    for place, field, value in changes:
        found[place % len(found)][field] = value
    text = json.dumps({"deviceProperties": header, "distributedInfo": header, "traceEvents": found})
    _read_or_refuse(tmp_path / "a.json", text.encode())


@settings(FEW, max_examples=100)
@given(cut=st.integers(0, 10**6), noise=st.binary(max_size=6), packed=st.booleans())
def test_any_bytes_in_a_trace_end_in_a_report_or_in_one_line(
    tmp_path: Path, cut: int, noise: bytes, packed: bool
) -> None:
    data = json.dumps({"traceEvents": events(random_scene(4), 0)}).encode()
    data = gzip.compress(data) if packed else data
    place = cut % len(data)
    _read_or_refuse(tmp_path / "a.json", data[:place] + noise + data[place + len(noise) :])


def _read_or_refuse(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            report = analyse(read_trace(path))
        except UsageError as problem:
            said = str(problem)
        else:
            said = ""
            json.dumps(report.to_json(), allow_nan=False).encode()
    assert "\n" not in said
    assert len(said) < 1000
