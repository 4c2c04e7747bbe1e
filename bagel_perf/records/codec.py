"""Records to JSON values and back: what msgspec's conversion leaves open, and its errors as lines that people can use.

JSON that is read says one thing: no key twice in an object, no number that JSON does not have, no nesting without end.
``json`` takes the last of two equal keys, where another reader takes the first, and makes infinity of ``1e999``. JSON
has no NaN or infinity, so a number that is not finite travels as null and comes back as NaN. An error of another
process travels as its parts.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar, overload

import msgspec
from msgspec import inspect

from bagel_perf.records.errors import REPLACEMENT, BagelPerfError, UsageError, error_from_json, error_to_json


def parse_json(content: str | bytes) -> Any:
    """The value of a document, UTF-8 where it is bytes.

    ``ValueError`` says in one line why it is none, ``RecursionError`` is raised where it is nested too deeply.
    """
    text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
    return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse, parse_float=_finite_number)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"key {json.dumps(name[:80])} is given twice in an object")
    return found


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"number {text[:40]} is out of range")
    return number


_T = TypeVar("_T")
_Mender = Callable[[Any], Any]

_NULL_FOR_FLOAT = "Expected `float`, got `null`"
_MISFIT = re.compile(r"(?P<what>.*?)(?: - at `(?:key` in `)?\$(?P<place>.*)`)?", re.DOTALL)
_MISSING_KEY = re.compile(r"Object missing required field `(.*)`")
_EXPECTED = re.compile(r"Expected `(.*?)`(?: of length (\d+))?(?:, got .*)?")
_STEP = re.compile(r"\[(?P<number>\d+|\.\.\.)\]|\.(?P<name>[^.\[]+)")
_SCALARS = (
    inspect.FloatType,
    inspect.IntType,
    inspect.StrType,
    inspect.BoolType,
    inspect.NoneType,
    inspect.LiteralType,
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_WORDS = {"object": "an object", "array": "a list"}


def to_json(value: object) -> Any:
    """A JSON value (dict, list, scalar) that ``from_json`` turns back into ``value``."""
    return _finite(msgspec.to_builtins(value, str_keys=True, enc_hook=_plain))


@overload
def from_json(record: type[_T], data: object, where: str = "") -> _T: ...
@overload
def from_json(record: Any, data: object, where: str = "") -> Any: ...
def from_json(record: Any, data: object, where: str = "") -> Any:
    """A record of class ``record``, or of one of a union, from a JSON object; keys that it does not have are ignored.

    ``where`` is the place of ``data`` in the document, for messages. Raises ``UsageError`` naming the key that is
    missing or holds a value of a wrong type, and whatever the record itself raises.
    """
    try:
        return _converted(record, data)
    except UnicodeEncodeError:  # msgspec compares texts as UTF-8, which has no lone surrogates
        return from_json(record, _without_surrogates(data), where)
    except msgspec.ValidationError as problem:
        if isinstance(problem.__cause__, BagelPerfError):
            raise problem.__cause__ from None
        raise _misfit(str(problem), record, data, where) from None


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


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, (list, tuple)) else value


def _plain(value: Any) -> Any:
    """An error as its parts; a text or number of a class of its own, as torch's version and numpy's floats are."""
    if isinstance(value, BagelPerfError):
        return error_to_json(value)
    kind = next((kind for kind in (str, float, int) if isinstance(value, kind)), None)
    assert kind is not None, f"no JSON for {type(value)}"
    return kind(value)


def _error_from_json(kind: type, data: object) -> BagelPerfError:
    assert kind is BagelPerfError, f"no {kind} from JSON"
    return error_from_json(data)


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub(REPLACEMENT, value)
    if isinstance(value, Mapping):
        return {_without_surrogates(name): _without_surrogates(each) for name, each in value.items()}
    return list(map(_without_surrogates, value)) if isinstance(value, (list, tuple)) else value


def _converted(record: Any, data: object) -> Any:
    try:
        return msgspec.convert(data, record, dec_hook=_error_from_json)
    except msgspec.ValidationError as problem:
        if not str(problem).startswith(_NULL_FOR_FLOAT):
            raise
    return msgspec.convert(_mended(_mender_of(record), data), record, dec_hook=_error_from_json)


@functools.cache
def _type_of(record: Any) -> inspect.Type:
    return inspect.type_info(record)


@functools.cache
def _mender_of(record: Any) -> _Mender | None:
    return _mender(_type_of(record))


def _mender(kind: inspect.Type) -> _Mender | None:
    """What puts NaN for each null that stands where nothing but a float can; None where none can stand."""
    if isinstance(kind, inspect.FloatType):
        return lambda data: math.nan if data is None else data
    if isinstance(kind, inspect.UnionType):
        return _union_mender(kind)
    if isinstance(kind, inspect.TupleType):
        items = dict(enumerate(map(_mender, kind.item_types)))
        return lambda data: [_mended(items.get(i), x) for i, x in enumerate(data)] if isinstance(data, list) else data
    if isinstance(kind, (inspect.VarTupleType, inspect.DictType)):
        return _items_mender(_mender(kind.item_type if isinstance(kind, inspect.VarTupleType) else kind.value_type))
    if isinstance(kind, inspect.StructType):
        fields = {field.encode_name: mend for field in kind.fields if (mend := _mender(field.type))}
        return lambda data: _mended_fields(fields, data)
    return None


def _items_mender(mend: _Mender | None) -> _Mender | None:
    def mended(data: Any) -> Any:
        if isinstance(data, list):
            return [_mended(mend, each) for each in data]
        return {key: _mended(mend, each) for key, each in data.items()} if isinstance(data, dict) else data

    return None if mend is None else mended


def _mended(mend: _Mender | None, data: Any) -> Any:
    return data if mend is None else mend(data)


def _mended_fields(fields: Mapping[str, _Mender], data: Any) -> Any:
    if not isinstance(data, Mapping):
        return data
    return {**data, **{name: mend(data[name]) for name, mend in fields.items() if name in data}}


def _union_mender(kind: inspect.UnionType) -> _Mender | None:
    """Null is a member of the union, or msgspec says that it is none; of tagged records the one with the tag counts."""
    menders = {getattr(each, "tag", None): _mender(each) for each in kind.types if not isinstance(each, _SCALARS)}
    tag_field = next((each.tag_field for each in kind.types if isinstance(each, inspect.StructType)), None)

    def mend(data: Any) -> Any:
        tag = data.get(tag_field) if tag_field is not None and isinstance(data, Mapping) else None
        return data if data is None else _mended(menders.get(tag if isinstance(tag, str) else None), data)

    return mend if any(menders.values()) else None


def _members(data: object, kind: inspect.UnionType) -> list[inspect.Type]:
    """The types of a union that a value may be of: of tagged records the one that has its tag."""
    return [
        each
        for each in kind.types
        if not isinstance(each, inspect.StructType)
        or each.tag_field is None
        or (isinstance(data, Mapping) and data.get(each.tag_field) == each.tag)
    ]


def _inside(kind: inspect.Type, step: object) -> inspect.Type:
    """The type at a name or number inside of a value of this type; any where there is none."""
    if isinstance(kind, inspect.VarTupleType):
        return kind.item_type
    if isinstance(kind, inspect.TupleType) and isinstance(step, int) and step < len(kind.item_types):
        return kind.item_types[step]
    if isinstance(kind, inspect.DictType):
        return kind.value_type
    if isinstance(kind, inspect.StructType):
        return next((field.type for field in kind.fields if field.encode_name == step), inspect.AnyType())
    return inspect.AnyType()


def _misfit(problem: str, record: Any, data: object, where: str) -> UsageError:
    """What msgspec says of a value, with the value and, where only some are allowed, all of those."""
    match = _MISFIT.fullmatch(problem)
    assert match is not None
    what, path = match["what"], match["place"] or ""
    missing = _MISSING_KEY.fullmatch(what)
    place = f"{where}{path}{f'.{missing[1]}' if missing else ''}"
    place = place if where else place.removeprefix(".")
    if missing:
        return UsageError("key is missing", value=place)
    found, choices = _found(data, record, path)
    expected = _EXPECTED.fullmatch(what)
    if choices:
        allowed = f"it must be one of {choices}"
    elif expected is None:
        allowed = what[:1].lower() + what[1:]
    else:
        kind = expected[1].removesuffix(" | null")
        allowed = f"it must be {_WORDS.get(kind, kind)}{f' of {expected[2]}' if expected[2] else ''}"
    return UsageError(
        f"{place or getattr(record, '__name__', 'record')} has a wrong value", value=found, allowed=allowed
    )


def _found(data: Any, record: Any, path: str) -> tuple[str | None, str]:
    """The value at a path, None where msgspec names no key, and all that is allowed there, "" for all of a type."""
    kind = _type_of(record)
    for step in _STEP.finditer(path):
        if step["number"] == "...":
            return None, ""
        key: str | int = step["name"] if step["number"] is None else int(step["number"])
        tags = [each.tag for each in getattr(kind, "types", ()) if getattr(each, "tag_field", None) == key]
        members = _members(data, kind) if isinstance(kind, inspect.UnionType) else [kind]
        data = data[key]
        if tags:
            return repr(data)[:80], ", ".join(map(str, tags))
        inner = (_inside(each, key) for each in members)
        kind = next((each for each in inner if not isinstance(each, inspect.AnyType)), inspect.AnyType())
    members = list(kind.types) if isinstance(kind, inspect.UnionType) else [kind]
    choices = [str(value) for each in members if isinstance(each, inspect.LiteralType) for value in each.values]
    return repr(data)[:80], ", ".join(choices)
