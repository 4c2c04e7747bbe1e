"""Records to JSON values and back: frozen dataclasses, tuples, mappings, optional values, literals and scalars.

JSON has no NaN or infinity, so a number that is not finite travels as null and comes back as NaN. What a type asks of
its values is worked out once a type, so that a file of 100 MB takes seconds.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from bagel_perf.schema.errors import UsageError

_T = TypeVar("_T")
_Decoder = Callable[[Any], Any]

_SCALARS: dict[Any, tuple[type, ...]] = {str: (str,), bool: (bool,), int: (int,), float: (float, int)}
_MISSING = object()


def to_json(value: object) -> Any:
    """A JSON value (dict, list, scalar) that ``from_json`` turns back into ``value``."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    assert dataclasses.is_dataclass(value) and not isinstance(value, type), f"no JSON for {type(value)}"
    return {name: to_json(getattr(value, name)) for name in _names(cast(Hashable, type(value)))}


def from_json(record: type[_T], data: object, where: str = "") -> _T:
    """A record of class ``record`` from a JSON object; keys that the record does not have are ignored.

    ``where`` is the place of ``data`` in the document, for messages. Raises ``UsageError`` naming the key that is
    missing or holds a value of a wrong type, and whatever the record itself raises.
    """
    try:
        return cast(_T, _decoder(cast(Hashable, record))(data))
    except _Misfit as misfit:
        raise misfit.error(where, record.__name__) from None


def check_header(data: object, schema: str, version: int) -> Mapping[str, Any]:
    """``data`` if it is an object with this schema name and a version that this program reads, else ``UsageError``."""
    found = data.get("schema") if isinstance(data, Mapping) else None
    if found != schema or not isinstance(data, Mapping):
        shown = None if found is None else str(found)[:80]
        raise UsageError(f"this is no {schema}", value=shown, allowed=f'"schema" must be "{schema}"')
    number = data.get("version")
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= version:
        allowed = f"this program reads versions 1 to {version}"
        raise UsageError(f"{schema} of a version that cannot be read", value=str(number)[:80], allowed=allowed)
    return data


class _Misfit(Exception):
    """A value of a wrong type, or a key that is missing; each container on the way out puts its own place in front."""

    def __init__(self, data: object, expected: str) -> None:
        super().__init__(expected)
        self.data, self.expected = data, expected
        self.place = ""

    def below(self, place: str) -> _Misfit:
        self.place = place + self.place
        return self

    def error(self, where: str, record: str) -> UsageError:
        place = where + self.place if where else self.place.removeprefix(".")
        if self.data is _MISSING:
            return UsageError("key is missing", value=place)
        what, allowed = f"{place or record} has a wrong value", f"it must be {self.expected}"
        return UsageError(what, value=repr(self.data)[:80], allowed=allowed)


@functools.cache
def _names(record: Hashable) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cast(Any, record)))


@functools.cache
def _decoder(hint: Hashable) -> _Decoder:
    """What makes a value of this type; it raises ``_Misfit``."""
    origin, options = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _union(options)
    if origin is Literal:
        return _literal(options)
    if origin is tuple:
        return _list(options) if len(options) == 2 and options[1] is Ellipsis else _fixed_list(options)
    if origin is dict:
        return _mapping(options[1])
    return _record(hint) if dataclasses.is_dataclass(hint) else _scalar(hint)


def _record(record: Any) -> _Decoder:
    hints = get_type_hints(record)
    fields = dataclasses.fields(record)
    decoders = [(field.name, _decoder(hints[field.name])) for field in fields]
    needed = {
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }

    def decode(data: Any) -> Any:
        if not isinstance(data, Mapping):
            raise _Misfit(data, "an object")
        values = {}
        for name, decoder in decoders:
            value = data.get(name, _MISSING)
            if value is not _MISSING:
                try:
                    values[name] = decoder(value)
                except _Misfit as misfit:
                    raise misfit.below(f".{name}") from None
            elif name in needed:
                raise _Misfit(_MISSING, "there").below(f".{name}")
        return record(**values)

    return decode


def _union(options: tuple[Any, ...]) -> _Decoder:
    decoders = [_decoder(option) for option in options if option is not types.NoneType]
    is_optional = types.NoneType in options

    def decode(data: Any) -> Any:
        if data is None and is_optional:
            return None
        problems: list[_Misfit | UsageError] = []
        for decoder in decoders:
            try:
                return decoder(data)
            except (_Misfit, UsageError) as problem:
                problems.append(problem)
        raise problems[0]

    return decode


def _literal(options: tuple[Any, ...]) -> _Decoder:
    def decode(data: Any) -> Any:
        if data not in options:
            raise _Misfit(data, "one of " + ", ".join(map(str, options)))
        return data

    return decode


def _list(options: tuple[Any, ...]) -> _Decoder:
    decoder = _decoder(options[0])

    def decode(data: Any) -> Any:
        if not isinstance(data, list):
            raise _Misfit(data, "a list")
        found: list[Any] = []
        try:
            for item in data:
                found.append(decoder(item))
        except _Misfit as misfit:
            raise misfit.below(f"[{len(found)}]") from None
        return tuple(found)

    return decode


def _fixed_list(options: tuple[Any, ...]) -> _Decoder:
    decoders = [_decoder(option) for option in options]

    def decode(data: Any) -> Any:
        if not isinstance(data, list) or len(data) != len(decoders):
            raise _Misfit(data, f"a list of {len(decoders)}")
        found: list[Any] = []
        try:
            for decoder, item in zip(decoders, data, strict=True):
                found.append(decoder(item))
        except _Misfit as misfit:
            raise misfit.below(f"[{len(found)}]") from None
        return tuple(found)

    return decode


def _mapping(option: Any) -> _Decoder:
    decoder = _decoder(option)

    def decode(data: Any) -> Any:
        if not isinstance(data, Mapping):
            raise _Misfit(data, "an object")
        found = {}
        for key, item in data.items():
            try:
                found[str(key)] = decoder(item)
            except _Misfit as misfit:
                raise misfit.below(f".{key}") from None
        return found

    return decode


def _scalar(hint: Any) -> _Decoder:
    accepted = _SCALARS[hint]

    def decode(data: Any) -> Any:
        if hint is float and data is None:
            return math.nan
        if not isinstance(data, accepted) or (isinstance(data, bool) and hint is not bool):
            raise _Misfit(data, hint.__name__)
        return float(cast(float, data)) if hint is float else data

    return decode
