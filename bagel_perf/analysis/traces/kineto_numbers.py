"""Numbers and texts of Kineto's JSON, whatever is written in their place."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from operator import attrgetter
from typing import Any

import numpy as np

from bagel_perf.analysis.traces.kineto_events import AnySlice, clean
from bagel_perf.analysis.traces.table import Floats, Mask

MAX_SPAN_US = 30 * 86400e6
"""No recording is longer; what lies further from the rest of its trace has no time that can be believed."""
MAX_TIME_US = float(2**53)
"""Microseconds that a float64 counts one by one: 285 years."""
MAX_IDENTITY = 2**31 - 1
MAX_LABEL = 40
MAX_VERSION = 100

_TS = attrgetter("ts")
_DIGITS = re.compile(r"[0-9]+")


def floats(values: Sequence[float | Decimal]) -> Floats:
    """The numbers, NaN for those that are none."""
    try:
        return np.fromiter(values, np.float64, len(values))
    except (ValueError, ArithmeticError):
        return np.array([_float(value) for value in values], np.float64)


def is_within(values: Floats, limit: float) -> Mask:
    """Which of the values are numbers between ``-limit`` and ``limit``."""
    known = np.isfinite(values)
    within: Mask = known & (np.abs(np.where(known, values, 0.0)) <= limit)
    return within


def origin_of(slices: Sequence[AnySlice]) -> Decimal | None:
    """A whole time in the middle of those that can be read, to count others from; None if none can be read."""
    times_us = floats([each.ts for each in slices])
    readable = np.flatnonzero(is_within(times_us, MAX_TIME_US))
    if not len(readable):
        return None
    middle = readable[np.argsort(times_us[readable])[len(readable) // 2]]
    return Decimal(math.floor(slices[int(middle)].ts))


def since(slices: Sequence[AnySlice], origin: Decimal | None) -> Floats:
    """The begin of each slice after ``origin``, exactly where the slices are exact; NaN where it cannot be read."""
    if origin is None:
        return np.full(len(slices), np.nan)
    if not isinstance(slices[0].ts, Decimal):
        return floats(list(map(_TS, slices))) - float(origin)
    return np.array([_difference(each.ts, origin) for each in slices])


def number_in(identity: int | str) -> int:
    """The number in ``7`` or ``stream 7``, 0 if there is none that a device or stream can have."""
    found = _DIGITS.search(str(identity))
    number = int(found.group()) if found and len(found.group()) <= 10 else 0
    return number if number <= MAX_IDENTITY else 0


def shortened(text: str, max_chars: int) -> str:
    """The text, with a mark in place of what is beyond ``max_chars``."""
    return text if len(text) <= max_chars else f"{text[:max_chars]}…"


def versions(header: Mapping[str, Any]) -> dict[str, str]:
    """Everything of the header that is called a version, and the rank."""
    found = {key: value for key, value in header.items() if key.endswith(("version", "Version"))}
    info = header.get("distributedInfo")
    if isinstance(info, Mapping) and "rank" in info:
        found["rank"] = info["rank"]
    return {
        shortened(clean(key), MAX_VERSION): shortened(clean(str(value)), MAX_VERSION)
        for key, value in found.items()
        if isinstance(value, (str, int, float))
    }


def device_names(header: Mapping[str, Any]) -> dict[int, str]:
    """Names of devices by number, without those of devices that have no number."""
    devices = header.get("deviceProperties") or header.get("computeProperties")
    named = [device for device in devices if isinstance(device, Mapping)] if isinstance(devices, list) else []
    return {
        device["id"]: shortened(clean(device["name"]), MAX_VERSION)
        for device in named
        if type(device.get("id")) is int and isinstance(device.get("name"), str) and device["name"]
    }


def _float(value: float | Decimal) -> float:
    try:
        return float(value)
    except (ValueError, ArithmeticError):
        return float("nan")


def _difference(time: float | Decimal, origin: Decimal) -> float:
    try:
        return float(Decimal(time) - origin)
    except (ValueError, ArithmeticError):
        return float("nan")
