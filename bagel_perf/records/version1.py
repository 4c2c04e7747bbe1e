"""Reads version 1 of the result, which knew BAGEL alone: resolutions become cases, pictures outputs; and former words.

What is not as version 1 has it stays as it is, so that the reader of this version says what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from bagel_perf.records.bagel import parse_variant
from bagel_perf.records.errors import UsageError

STAGES = ["ar", "dit"]
OF_THE_SUBJECT = ("preset", "attention", "weights", "params", "layers")
"""Fields of an environment that say what was measured, not where."""
SIDE = re.compile(r" at (\d+)(?![\dx])")
"""Of a square, in a sentence."""
BY_RESOLUTION = ("deltas", "steps", "noise", "stage_sums", "excluded", "ablations")
WORDS = {
    "again": "is_control",
    "dropped": "excluded",
    "ladder": "successive",
    "num_dropped": "num_excluded",
    "price_check": "saving_check",
    "price_ms": "predicted_saving_ms",
    "slot": "component",
    "slots": "components",
    "syncs_by_slot": "syncs_by_component",
}
"""Keys that had another name before 2026-12-01, in results, events, sync reports and traces."""

LEFT_OUT = ("request", "requests", "images", "version")

_Json = Mapping[str, Any]


def upgraded(data: _Json) -> dict[str, Any]:
    """A JSON object of version 2 from one of version 1. Raises ``UsageError`` where it names its request twice."""
    requests = _objects(data.get("requests"))
    if data.get("request") not in (None, *requests[:1]):
        raise UsageError("request is not the first of requests")
    environment = data["environment"] if isinstance(data.get("environment"), Mapping) else {}
    names = [name for name in _list(data.get("variants")) if isinstance(name, str)]
    found: dict[str, Any] = {
        **{key: value for key, value in in_words(data).items() if key not in LEFT_OUT},
        "environment": {key: value for key, value in environment.items() if key not in OF_THE_SUBJECT},
        "subject": _subject(environment, requests),
        "cases": [_case_of_size(request) for request in requests],
        "stages": STAGES,
        "variants": _variants(data, names),
        "mixtures": _mixtures(data, names),
        "num_named": len(names),
        "seed": requests[0].get("seed") if requests else None,
        "version": 2,
    }
    for key in BY_RESOLUTION:
        _each(found, key, lambda each: in_words(_with_case(each)))
    _each(found, "ablations", _ablation_in_words)
    for number, cell in enumerate(_objects(found.get("cells"))):
        size, case = _case_of_size(cell), _with_case(cell).get("case")
        if case is not None and {"width", "height"} & cell.keys() and size != case:
            raise UsageError(f"cells[{number}] is {size or 'of no size'}, and its res is {case}")
    _each(found, "cells", lambda cell: in_words(_without(_with_case(cell), "width", "height")))
    _each(found, "identity", _identity)
    _each(found, "runs", lambda run: _run(run, requests))
    _each(found, "floors", _with_case_of_size)
    _each(found, "inputs", lambda picture: {"case": _case_of_size(picture), "output": _output(picture)})
    if isinstance(found.get("findings"), list):
        found["findings"] = [_with_named_case(each) for each in found["findings"]]
    found["outputs"] = data.get("images")
    _each(found, "outputs", lambda image: _renamed(_with_case({"kind": "picture", **image}), "pixels_sha256", "sha256"))
    return {key: value for key, value in found.items() if value is not None or key in {*data, *WORDS.values()}}


def upgraded_event(data: _Json) -> _Json:
    """An event of a worker, or of one of a revision with other words, as a worker sends it now.

    Its outline has no cases: who started it knows those.
    """
    environment, name = data.get("environment"), data.get("event")
    if name == "run" and isinstance(data.get("run"), Mapping):
        run = data["run"]
        return {**data, "run": _run(run, []) if "picture" in run else _run_in_words(run)}
    if name == "input" and isinstance(data.get("picture"), Mapping):
        picture = data["picture"]
        return {**data, "input": {"case": _case_of_size(picture), "output": _output(picture)}}
    if name == "floors" and isinstance(data.get("floors"), list):
        found = dict(data)
        _each(found, "floors", _with_case_of_size)
        return found
    if name == "environment" and isinstance(environment, Mapping) and "preset" in environment:
        outline = {"subject": _subject(environment, []), "cases": [], "stages": STAGES, "variants": []}
        rest = {key: value for key, value in environment.items() if key not in OF_THE_SUBJECT}
        return {**data, "environment": rest, "outline": {**outline, "num_named": 0, "seed": 0}}
    if name == "environment" and isinstance(data.get("outline"), Mapping):
        return {**data, "outline": result_in_words(data["outline"])}
    return data


def result_in_words(data: _Json) -> _Json:
    """A result of version 2, or its outline, with today's names for its keys."""
    if not WORDS.keys() & data.keys():
        return data
    found = in_words(data)
    for key in ("cells", "deltas", "steps", "mixtures"):
        _each(found, key, in_words)
    _each(found, "ablations", _ablation_in_words)
    _each(found, "runs", _run_in_words)
    return found


def _ablation_in_words(ablation: _Json) -> _Json:
    found = in_words(ablation)
    _each(found, "components", in_words)
    return found


def _run_in_words(run: _Json) -> _Json:
    found = in_words(run)
    _each(found, "measurements", in_words)
    _each(found, "sites", in_words)
    return found


def _with_named_case(finding: Any) -> Any:
    """A sentence that names a square as its case is named: ``fused at 256x256 differs``, not ``at 256``."""
    if not isinstance(finding, str):
        return finding
    return SIDE.sub(r" at \1x\1", finding).replace("pairs were dropped", "pairs were excluded")


def _with_case_of_size(record: _Json) -> _Json:
    return _without({"case": _case_of_size(record), **record}, "width", "height") if "width" in record else record


def _subject(environment: _Json, requests: list[_Json]) -> dict[str, Any]:
    first = requests[0] if requests else {}
    return {
        "kind": "bagel",
        "title": f"{environment.get('preset')} preset",
        "summary": f"{first.get('task')}, {first.get('steps')} steps",
        "details": {key: environment[key] for key in OF_THE_SUBJECT if key in environment},
        "asked": {str(_case_of_size(request)): flat(request) for request in requests},
    }


def flat(record: _Json, prefix: str = "") -> dict[str, Any]:
    """The fields of a JSON object and of those inside it, each by its path; a list becomes its text."""
    found: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = " to ".join(map(str, value)) if isinstance(value, list) else value
    return found


def _variants(data: _Json, names: list[str]) -> list[dict[str, Any]]:
    """Those that were named, then all others that ran, with the tolerance that they declare or were held to."""
    ran = [run.get("variant") for run in _objects(data.get("runs"))]
    mixed = [
        name for each in _mixtures(data, names) for name in (each["left_in"], each["left_out"]) if name is not None
    ]
    every = (*names, *dict.fromkeys(name for name in mixed if name in ran and name not in names))
    return [{"name": name, "target": name, "tolerance": _tolerance(data, name)} for name in every]


def _tolerance(data: _Json, name: str) -> dict[str, Any] | None:
    """A name that this program does not know means what was recorded with it."""
    try:
        limit: Any = parse_variant(name).min_psnr_db
    except UsageError:
        checks = [each for each in _objects(data.get("identity")) if each.get("candidate") == name]
        limit = next((each["min_psnr_db"] for each in checks if each.get("min_psnr_db") is not None), None)
    return None if limit is None else {"kind": "psnr", "limit": limit}


def _mixtures(data: _Json, names: list[str]) -> list[dict[str, Any]]:
    """Components left in and out, where runs are of variants that nobody named: as the result's ablation has them."""
    ran = [run.get("variant") for run in _objects(data.get("runs"))]
    ablations = [*_objects(data.get("ablations"))]
    if not ablations or all(name in names for name in ran):
        return []
    whole, base = ablations[0].get("variant"), ablations[0].get("reference")
    components = [*_objects(ablations[0].get("slots"))]
    named = [each.get("slot") for each in components]

    def first(*candidates: str) -> str | None:
        return next((name for name in candidates if name in ran), None)

    found = []
    for component, each in zip(named, components, strict=True):
        others = "".join(f"-{other}" for other in named if other != component)
        left_in, left_out = first(f"{base}+{component}", f"{whole}{others}"), first(f"{whole}-{component}")
        swallowed = each.get("swallowed") is True
        found.append({"component": component, "left_in": left_in, "left_out": left_out, "swallowed": swallowed})
    return found


def _run(run: _Json, requests: list[_Json]) -> dict[str, Any]:
    steps = next((each.get("steps") for each in requests if _case_of_size(each) == _case_of_size(run)), None)
    rest = _without(in_words(run), "width", "height", "picture", "mse", "differing_pixels")
    found = {"case": _case_of_size(run), **rest}
    if isinstance(run.get("picture"), Mapping):
        found["output"] = _output(run["picture"])
    found |= {"distance": run.get("mse"), "num_differing": run.get("differing_pixels")}
    _each(found, "measurements", lambda each: _with_steps(each, steps))
    _each(found, "sites", in_words)
    return found


def _with_steps(measurement: _Json, steps: Any) -> _Json:
    has_steps = measurement.get("loop_work") is not None and isinstance(steps, int)
    return {**in_words(measurement), **({"loop_steps": steps - 1} if has_steps else {})}


def _output(picture: _Json) -> dict[str, Any]:
    width, height, spread = picture.get("width"), picture.get("height"), picture.get("spread")
    shape = [height, width, 3] if isinstance(width, int) and isinstance(height, int) else None
    return {
        **_renamed(_without(picture, "width", "height"), "pixels_sha256", "sha256"),
        "kind": "picture",
        "shape": shape,
        "num_values": shape[0] * shape[1] if shape else None,
        "is_flat": spread == 0,
        "is_finite": spread is not None,
    }


def _identity(check: _Json) -> dict[str, Any]:
    limit = check.get("min_psnr_db")
    renamed = _renamed(_renamed(_with_case(check), "psnr_db", "distance"), "differing_pixels", "num_differing")
    return {
        **_without(renamed, "min_psnr_db"),
        "tolerance": None if limit is None else {"kind": "psnr", "limit": limit},
    }


def _with_case(record: _Json) -> dict[str, Any]:
    res = record.get("res")
    if isinstance(res, bool) or not isinstance(res, int | str):
        return dict(record)
    return {"case": f"{res}x{res}" if isinstance(res, int) else res, **_without(record, "res")}


def _case_of_size(record: _Json) -> str | None:
    width, height = record.get("width"), record.get("height")
    return f"{width}x{height}" if isinstance(width, int) and isinstance(height, int) else None


def _without(record: _Json, *names: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in names}


def in_words(record: _Json) -> dict[str, Any]:
    """A JSON object with today's names for its keys; what is inside it stays as it is."""
    return {WORDS.get(key, key): value for key, value in record.items()}


def _renamed(record: _Json, before: str, after: str) -> dict[str, Any]:
    return {after if key == before else key: value for key, value in record.items()}


def _each(record: dict[str, Any], key: str, change: Callable[[_Json], _Json]) -> None:
    if isinstance(record.get(key), list):
        record[key] = [change(each) if isinstance(each, Mapping) else each for each in record[key]]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _objects(value: object) -> list[_Json]:
    return [each for each in _list(value) if isinstance(each, Mapping)]
