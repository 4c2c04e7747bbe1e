"""What other benchmarks of servers wrote: ``vllm bench serve`` and vLLM-Omni's own, and SGLang's ``--perf-dump-path``.

They hold summaries of many requests, or one request. Durations are turned into ms here; what they do not tell, or tell
in an unknown unit, stays unknown, and a 0 that stands for "nothing was measured" too.

Fields as these programs write them: vLLM ``completed``, ``failed``, ``duration``, ``request_throughput`` and
``mean_e2el_ms``, ``median_e2el_ms``, ``p99_e2el_ms``; vLLM-Omni ``completed_requests``, ``failed_requests``,
``duration``, ``throughput_qps``, ``latency_mean``, ``latency_median``, ``latency_p50`` and ``latency_p99`` in seconds;
both ``stage_durations_mean``, ``_p50`` and ``_p99`` by stage, and ``peak_memory_mb_max``. SGLang ``total_duration_ms``,
``steps`` of ``name`` and ``duration_ms``, and ``meta``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from bagel_perf.records import codec
from bagel_perf.records.codec import parse_json
from bagel_perf.records.errors import UsageError, one_line
from bagel_perf.records.outlines import WHOLE, Scalar
from bagel_perf.records.results import LINES_FILE, RESULT_FILE
from bagel_perf.records.servers import durations_ms

Form = Literal["vLLM", "vLLM-Omni", "SGLang"]
SCHEMA = "bagel-perf.bench"
VERSION = 1
MAX_FILES = 100
MAX_BYTES = 512 * 1024 * 1024
ALLOWED = "JSON of vllm bench serve, of vLLM-Omni's benchmark, or of SGLang's --perf-dump-path"
ASKED = ("backend", "dataset", "dataset_name", "task", "num_prompts", "max_concurrency", "request_rate")
"""What a benchmark of vLLM was told to send, where its file says so."""


class BenchStage(msgspec.Struct, frozen=True, kw_only=True):
    """A stage in ms over the requests of a file, or the whole (``e2e``); None what the file does not tell."""

    stage: str
    mean_ms: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None

    @property
    def typical_ms(self) -> float | None:
        """The median, else the mean."""
        return self.mean_ms if self.p50_ms is None else self.p50_ms


class BenchFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file. ``num_requests`` are those that were answered; ``asked`` is what was sent, as far as it is told.

    ``unknown`` are stages whose unit is not known. Of SGLang ``e2e`` is the server's own, else the client's.
    """

    name: str
    form: Form
    model: str | None = None
    num_requests: int | None = None
    num_failed: int | None = None
    duration_s: float | None = None
    throughput_rps: float | None = None
    peak_bytes: int | None = None
    stages: tuple[BenchStage, ...]
    unknown: tuple[str, ...] = ()
    asked: dict[str, Scalar] = {}

    def typical_ms(self, stage: str) -> float | None:
        """The median, else the mean of a stage; None where the file has none."""
        return next((each.typical_ms for each in self.stages if each.stage == stage), None)


def bench_to_json(files: tuple[BenchFile, ...]) -> dict[str, Any]:
    """The files as a JSON object."""
    return {"schema": SCHEMA, "version": VERSION, "files": [codec.to_json(each) for each in files]}


def bench_files(path: Path) -> tuple[BenchFile, ...]:
    """Reads a file of another benchmark, or a folder of such files, in the order of their names; none where it is ours.

    Raises ``UsageError`` for a folder of unlike files, and for a file whose numbers cannot be.
    """
    if not path.is_dir():
        found = _read(path)
        return () if found is None else (found,)
    if (path / RESULT_FILE).exists() or (path / LINES_FILE).exists():
        return ()
    paths = sorted(each for each in path.glob("*.json") if each.is_file())
    if len(paths) > MAX_FILES:
        raise UsageError("folder has too many files", value=path, allowed=f"at most {MAX_FILES}, a run each")
    files = [(each, _read(each)) for each in paths]
    known = tuple(found for _, found in files if found is not None)
    for each, found in files:
        if known and (found is None or found.form != known[0].form):
            allowed = f"a folder holds files of one form; {known[0].name} is of {known[0].form}"
            raise UsageError("folder holds something else", value=each, allowed=allowed)
    return known


def _read(path: Path) -> BenchFile | None:
    """None where it is no such file, which whoever else reads it explains."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        data = parse_json(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(data, Mapping) or "schema" in data:
        return None
    name = one_line(path.name)
    try:
        if "total_duration_ms" in data and isinstance(data.get("steps"), list):
            return _sglang(name, data)
        if "throughput_qps" in data and "completed_requests" in data:
            return _omni(name, data)
        if "request_throughput" in data and "completed" in data:
            return _vllm(name, data)
    except UsageError as problem:
        raise UsageError("benchmark file is not usable", value=path, allowed=str(problem)) from problem
    return None


def _sglang(name: str, data: Mapping[str, Any]) -> BenchFile:
    """Of one request; a stage that ran several times is the sum of them."""
    stages: dict[str, float] = {}
    for number, step in enumerate(data["steps"]):
        place = f"steps[{number}]"
        if not isinstance(step, Mapping) or not isinstance(step.get("name"), str):
            raise UsageError(f"{place} has no name")
        stage = one_line(step["name"])[:80]
        stages[stage] = stages.get(stage, 0.0) + _needed(step, "duration_ms", place)
    stages.pop(WHOLE, None)
    total_ms = _needed(data, "total_duration_ms", "")
    meta = data.get("meta")
    peaks = [_number(each, "peak_allocated_mb") for each in _members(data.get("memory_checkpoints"))]
    return BenchFile(
        name=name,
        form="SGLang",
        model=_text(meta, "model") if isinstance(meta, Mapping) else None,
        num_requests=1,
        stages=tuple(
            BenchStage(stage=stage, mean_ms=ms, p50_ms=ms)
            for stage, ms in {**stages, WHOLE: total_ms}.items()
            if ms > 0
        ),
        peak_bytes=_bytes(max((each for each in peaks if each is not None), default=None)),
    )


def _omni(name: str, data: Mapping[str, Any]) -> BenchFile:
    median = _number(data, "latency_p50") or _number(data, "latency_median")
    whole = _whole(_number(data, "latency_mean"), median, _number(data, "latency_p99"), ms_per_unit=1e3)
    keys = {"num_requests": "completed_requests", "num_failed": "failed_requests", "throughput_rps": "throughput_qps"}
    return _of_many(name, "vLLM-Omni", data, whole, keys, _text(data, "model"))


def _vllm(name: str, data: Mapping[str, Any]) -> BenchFile:
    median = _number(data, "p50_e2el_ms") or _number(data, "median_e2el_ms")
    whole = _whole(_number(data, "mean_e2el_ms"), median, _number(data, "p99_e2el_ms"))
    keys = {"num_requests": "completed", "num_failed": "failed", "throughput_rps": "request_throughput"}
    return _of_many(name, "vLLM", data, whole, keys, _text(data, "model_id") or _text(data, "model"))


def _whole(*values: float | None, ms_per_unit: float = 1.0) -> BenchStage:
    """Mean, median and 99th percentile of whole requests, in ms."""
    mean, p50, p99 = (None if value is None else _positive(value * ms_per_unit) for value in values)
    return BenchStage(stage=WHOLE, mean_ms=mean, p50_ms=p50, p99_ms=p99)


def _of_many(
    name: str, form: Form, data: Mapping[str, Any], whole: BenchStage, keys: Mapping[str, str], model: str | None
) -> BenchFile:
    """A summary of many requests; ``keys`` are the names that this form has for what all forms tell."""
    stages, unknown = _stages(data)
    stages = (*stages, *([] if whole.typical_ms is None else [whole]))
    if not stages:
        remedy = "vllm bench serve tells e2el where --percentile-metrics names it"
        raise UsageError("no duration in it", allowed="latencies or stage_durations_mean", remedy=remedy)
    failed = keys["num_failed"]
    return BenchFile(
        name=name,
        form=form,
        model=model,
        num_requests=_count(data, keys["num_requests"]),
        num_failed=_count(data, failed) if failed in data else None,
        duration_s=_positive(_number(data, "duration")),
        throughput_rps=_positive(_number(data, keys["throughput_rps"])),
        peak_bytes=_bytes(_number(data, "peak_memory_mb_max")),
        stages=stages,
        unknown=unknown,
        asked={key: _scalar(data[key]) for key in ASKED if key in data},
    )


def _stages(data: Mapping[str, Any]) -> tuple[tuple[BenchStage, ...], tuple[str, ...]]:
    """Stages in ms, and the names of those whose unit is not known."""
    told = {key: data.get(f"stage_durations_{key}") for key in ("mean", "p50", "p99")}
    tables = {key: value for key, value in told.items() if isinstance(value, Mapping)}
    in_ms = {key: durations_ms(table) for key, table in tables.items()}
    names = dict.fromkeys(one_line(stage)[:80] for table in tables.values() for stage in table)
    known = [stage for stage in names if any(stage in table for table in in_ms.values()) and stage != WHOLE]
    stages = (
        BenchStage(stage=stage, **{f"{key}_ms": _positive(table.get(stage)) for key, table in in_ms.items()})
        for stage in known
    )
    return tuple(each for each in stages if each.typical_ms is not None), tuple(n for n in names if n not in known)


def _needed(data: Mapping[str, Any], key: str, place: str) -> float:
    found = _number(data, key)
    if found is None or found < 0:
        where = f"{place}.{key}" if place else key
        raise UsageError(f"{where} is no duration", value=data.get(key), allowed="ms, 0 or more")
    return found


def _number(data: Mapping[str, Any], key: str) -> float | None:
    """A finite number; None where there is none."""
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _count(data: Mapping[str, Any], key: str) -> int:
    found = _number(data, key)
    if found is None or found < 0 or found != int(found):
        raise UsageError(f"{key} is no number of requests", value=data.get(key))
    return int(found)


def _positive(value: float | None) -> float | None:
    """A duration or a rate; None for 0, with which these programs fill in what was not measured."""
    return value if value is not None and value > 0 else None


def _bytes(megabytes: float | None) -> int | None:
    return None if _positive(megabytes) is None else round((megabytes or 0.0) * 2**20)


def _text(data: Mapping[str, Any], key: str) -> str | None:
    value = data.get(key)
    return one_line(value)[:200] if isinstance(value, str) and value else None


def _scalar(value: object) -> Scalar:
    return value if value is None or isinstance(value, bool | int | float) else one_line(str(value))[:200]


def _members(value: object) -> Iterator[Mapping[str, Any]]:
    return (each for each in value.values() if isinstance(each, Mapping)) if isinstance(value, Mapping) else iter(())
