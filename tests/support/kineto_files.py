"""Scenes as Kineto files of every kind: of old and new versions, of other writers, packed or not."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trace_scenes import Call, Scene, Span, Sync, Work

PID = 100
# Kineto counts from a base time, older versions from 1970.
BASE_US = 4759597058852
EPOCH_US = 1621401187223000

Event = dict[str, Any]

OLD_CATEGORIES = {
    "cpu_op": "Operator",
    "cuda_runtime": "Runtime",
    "kernel": "Kernel",
    "gpu_memcpy": "Memcpy",
    "gpu_memset": "Memset",
}
HEADER: Event = {
    "schemaVersion": 1,
    "deviceProperties": [{"id": 0, "name": "Made-up GPU"}, {"id": 1, "name": "Made-up GPU"}],
    "cuda_runtime_version": 12040,
    "displayTimeUnit": "ms",
    "baseTimeNanoseconds": 1790857026000000000,
}


def events(scene: Scene, base_us: float = BASE_US) -> list[Event]:
    """The events of a scene as new versions write them, with what a reader has to leave aside."""
    found = [_span("cpu_op", span, base_us) for span in scene.ops]
    found += [_span("user_annotation", span, base_us) for span in scene.annotations]
    found += [_span("python_function", span, base_us) for span in scene.frames]
    found += [_span("overhead", span, base_us) for span in scene.overhead]
    found += [_call(call, base_us) for call in scene.calls]
    found += [_work(work, base_us) for work in scene.works]
    found += [_sync(sync, base_us) for sync in scene.syncs]
    for call in scene.calls:
        found.append({"ph": "s", "id": call.correlation, "pid": PID, "tid": call.thread, "ts": base_us, "cat": "ac2g"})
    found.append({"name": "process_name", "ph": "M", "ts": base_us, "pid": PID, "tid": 0, "args": {"name": "python"}})
    found.append({"ph": "i", "name": "Iteration Start", "pid": "Traces", "tid": "Trace", "ts": base_us, "s": "g"})
    return found


def new_file(scene: Scene) -> str:
    """As torch.profiler writes since 2.4: lines, header before and name after the list."""
    body = ",\n".join(json.dumps(event) for event in events(scene))
    head = json.dumps(HEADER)[:-1]
    return f'\n  {head},\n  "traceEvents": [\n{body}\n  ],\n  "traceName": "/somewhere/trace.json"\n}}'


def old_file(scene: Scene) -> str:
    """As PyTorch 1.8 to 1.12 wrote: other categories, numbers of threads as text, whole microseconds since 1970."""
    found = []
    for event in events(scene, EPOCH_US):
        event["cat"] = OLD_CATEGORIES.get(event.get("cat", ""), event.get("cat", ""))
        event["tid"] = f"stream {event['tid']}" if event["cat"] in ("Kernel", "Memcpy", "Memset") else str(event["tid"])
        if event["cat"] == "Runtime":
            event["args"]["external id"] = 1
        if event["cat"] == "user_annotation":
            event["cat"] = "Operator" if event["name"].startswith("ProfilerStep") else event["cat"]
        if event["cat"] == "cuda_sync":
            continue
        found.append(event)
    head = {"schemaVersion": 1, "computeProperties": HEADER["deviceProperties"]}
    return json.dumps({**head, "traceEvents": found}, indent=2)


def one_line(scene: Scene) -> str:
    """All on one line, without a blank."""
    return json.dumps({**HEADER, "traceEvents": events(scene)}, separators=(",", ":"))


def list_first(scene: Scene) -> str:
    """The list before all other keys, which hold lists of objects themselves."""
    return json.dumps({"traceEvents": events(scene), **HEADER, "stackFrames": [{"a": 1}, {"b": [{}, {}]}]})


def bare_list(scene: Scene) -> str:
    """The array form of the Chrome format."""
    return json.dumps(events(scene), indent=1)


def open_list(scene: Scene) -> str:
    """The array form with a comma instead of the bracket at its end, as the Chrome format allows."""
    return bare_list(scene).rstrip().removesuffix("]") + ",\n"


def sorted_keys(scene: Scene) -> str:
    """Keys of each event by name: the phase is none of the first."""
    return json.dumps({**HEADER, "traceEvents": events(scene)}, sort_keys=True)


def texts_for_numbers(scene: Scene) -> str:
    """Times, lengths and identities as text."""
    found = [
        {key: str(value) if key in ("ts", "dur", "pid", "tid") else value for key, value in event.items()}
        for event in events(scene)
    ]
    return json.dumps({**HEADER, "traceEvents": found})


def begins_and_ends(scene: Scene) -> str:
    """Operators, annotations and calls as two events each."""
    found = []
    for event in events(scene):
        if event["ph"] == "X" and event["tid"] not in (7, 20, 1):
            end = {"ph": "E", "pid": event["pid"], "tid": event["tid"], "ts": event["ts"] + event["dur"]}
            found += [{**event, "ph": "B"}, end]
        else:
            found.append(event)
    order = {"E": 0, "B": 1}
    found.sort(key=lambda event: (event["ts"], order.get(event["ph"], 2), -event.get("dur", 0)))
    for event in found:
        if event["ph"] == "B":
            del event["dur"]
    return json.dumps({**HEADER, "traceEvents": found})


def fractions_since_1970(scene: Scene) -> str:
    """Times since 1970 with nanoseconds, which a float64 cannot hold (PyTorch 2.2 and 2.3)."""
    lines = []
    for event in events(scene, 0):
        whole = EPOCH_US * 1000 + round(event["ts"] * 1000) + 7
        text = json.dumps({**event, "ts": "TIME"})
        lines.append(text.replace('"TIME"', f"{whole // 1000}.{whole % 1000:03d}"))
    return json.dumps(HEADER)[:-1] + ', "traceEvents": [' + ",\n".join(lines) + "]}"


def odd_numbers(scene: Scene) -> str:
    """Arguments that are no JSON, as older versions wrote them: nan, inf, a trailing comma."""
    text = new_file(scene).replace('"bytes": 4', '"bytes": 4, "bandwidth": inf, "other": -nan')
    return text.replace("\n  ],", ",\n  ],")


def sync_on_virtual_threads(scene: Scene) -> str:
    """Sync rows on the thread number of their stream plus a million (newer Kineto)."""
    found = [
        {**event, "tid": event["tid"] + 1000000} if event.get("cat") == "cuda_sync" else event
        for event in events(scene)
    ]
    return json.dumps({**HEADER, "traceEvents": found})


FILES: dict[str, Callable[[Scene], str]] = {
    writer.__name__: writer
    for writer in (
        *(new_file, old_file, one_line, list_first, bare_list, open_list, sorted_keys, texts_for_numbers),
        *(begins_and_ends, fractions_since_1970, odd_numbers, sync_on_virtual_threads),
    )
}


def write(path: Path, text: str, *, packed: bool = False) -> Path:
    """Writes a file, gzipped if asked; returns its path."""
    data = text.encode("utf-8")
    path.write_bytes(gzip.compress(data) if packed else data)
    return path


def _span(category: str, span: Span, base_us: float) -> Event:
    return _event(category, span.name, span.start, span.end, base_us, span.thread, {"External id": 1})


def _call(call: Call, base_us: float) -> Event:
    category = "cuda_driver" if call.name.startswith("cu") and not call.name.startswith("cuda") else "cuda_runtime"
    args = {"External id": 1, "cbid": 211, "correlation": call.correlation}
    return _event(category, call.name, call.start, call.end, base_us, call.thread, args)


def _work(work: Work, base_us: float) -> Event:
    category, name = {"kernel": "kernel", "memset": "gpu_memset"}.get(work.kind, "gpu_memcpy"), work.name
    if work.copy is not None:
        ends = {"HtoD": f"{work.memory} -> Device", "DtoH": f"Device -> {work.memory}", "DtoD": "Device -> Device"}
        name = f"Memcpy {work.copy} ({ends[work.copy]})"
    args = {"device": work.device, "stream": work.stream, "correlation": work.correlation, "bytes": work.num_bytes}
    event = _event(category, name, work.start, work.end, base_us, work.stream, {**args, "grid": [1, 1, 1]})
    return {**event, "pid": work.device}


def _sync(sync: Sync, base_us: float) -> Event:
    args = {"cuda_sync_kind": sync.name, "stream": 7, "correlation": sync.correlation, "device": 0}
    event = _event("cuda_sync", sync.name, sync.start, sync.end, base_us, 7, args)
    return {**event, "pid": 0}


def _event(category: str, name: str, start: int, end: int, base_us: float, thread: int, args: Event) -> Event:
    times = {"ts": base_us + start, "dur": end - start, "args": args}
    return {"ph": "X", "cat": category, "name": name, "pid": PID, "tid": thread, **times}
