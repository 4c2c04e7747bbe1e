"""Records to JSON values and back: frozen dataclasses, tuples, mappings, optional values, literals and scalars.

JSON has no NaN or infinity, so a number that is not finite travels as null and comes back as NaN.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from collections.abc import Hashable, Mapping
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from bagel_perf.schema.errors import UsageError

_T = TypeVar("_T")

_SCALARS: dict[Any, tuple[type, ...]] = {str: (str,), bool: (bool,), int: (int,), float: (float, int)}


def to_json(value: object) -> Any:
    """A JSON value (dict, list, scalar) that ``from_json`` turns back into ``value``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    assert value is None or isinstance(value, (str, bool, int, float)), f"no JSON for {type(value)}"
    return value


def from_json(record: type[_T], data: object, where: str = "") -> _T:
    """A record of class ``record`` from a JSON object; keys that the record does not have are ignored.

    ``where`` is the place of ``data`` in the document, for messages. Raises ``UsageError`` naming the key that is
    missing or holds a value of a wrong type, and whatever the record itself raises.
    """
    if not isinstance(data, Mapping):
        raise _wrong(where or record.__name__, data, "an object")
    hints = _hints(cast(Hashable, record))
    values: dict[str, Any] = {}
    for field in dataclasses.fields(record):  # type: ignore[arg-type]
        key = f"{where}.{field.name}" if where else field.name
        if field.name in data:
            values[field.name] = _decode(hints[field.name], data[field.name], key)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UsageError("key is missing", value=key)
    return record(**values)


def check_header(data: object, schema: str, version: int) -> Mapping[str, Any]:
    """``data`` if it is an object with this schema name and a version that this program reads, else ``UsageError``."""
    found = data.get("schema") if isinstance(data, Mapping) else None
    if found != schema or not isinstance(data, Mapping):
        raise UsageError(f"this is no {schema}", value=found, allowed=f'"schema" must be "{schema}"')
    number = data.get("version")
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= version:
        allowed = f"this program reads versions 1 to {version}"
        raise UsageError(f"{schema} of a version that cannot be read", value=number, allowed=allowed)
    return data


@functools.cache
def _hints(record: Hashable) -> dict[str, Any]:
    return get_type_hints(record)


def _decode(hint: Any, data: object, where: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _decode_union(get_args(hint), data, where)
    if origin is Literal:
        if data not in get_args(hint):
            raise _wrong(where, data, "one of " + ", ".join(map(str, get_args(hint))))
        return data
    if origin is tuple:
        return _decode_tuple(get_args(hint), data, where)
    if origin is dict:
        if not isinstance(data, Mapping):
            raise _wrong(where, data, "an object")
        return {str(key): _decode(get_args(hint)[1], item, f"{where}.{key}") for key, item in data.items()}
    if dataclasses.is_dataclass(hint):
        return from_json(hint, data, where)  # type: ignore[arg-type]
    return _decode_scalar(hint, data, where)


def _decode_union(options: tuple[Any, ...], data: object, where: str) -> Any:
    if data is None and type(None) in options:
        return None
    problems = []
    for option in (option for option in options if option is not type(None)):
        try:
            return _decode(option, data, where)
        except UsageError as problem:
            problems.append(problem)
    raise problems[0]


def _decode_tuple(items: tuple[Any, ...], data: object, where: str) -> tuple[Any, ...]:
    if not isinstance(data, list):
        raise _wrong(where, data, "a list")
    if len(items) == 2 and items[1] is Ellipsis:
        items = (items[0],) * len(data)
    if len(items) != len(data):
        raise _wrong(where, data, f"a list of {len(items)}")
    return tuple(_decode(item, value, f"{where}[{i}]") for i, (item, value) in enumerate(zip(items, data, strict=True)))


def _decode_scalar(hint: Any, data: object, where: str) -> Any:
    if hint is float and data is None:
        return math.nan
    accepted = _SCALARS[hint]
    if not isinstance(data, accepted) or (isinstance(data, bool) and hint is not bool):
        raise _wrong(where, data, hint.__name__)
    return float(data) if hint is float else data  # type: ignore[arg-type]


def _wrong(where: str, data: object, expected: str) -> UsageError:
    return UsageError(f"{where} has a wrong value", value=repr(data)[:80], allowed=f"it must be {expected}")
