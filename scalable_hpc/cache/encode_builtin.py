"""How the values of Python itself and of its standard library are encoded.

Rule 1: exact types only: a subclass may mean more than its base, and is rebuilt from its parts (``encode_object``).
"""

from __future__ import annotations

import datetime as dt
import decimal
import fractions
import operator
import struct
import types
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from scalable_hpc.cache.encode import (
    LARGE,
    Encoder,
    Handler,
    Unencodable,
    register,
    register_family,
    register_short,
    type_name,
)
from scalable_hpc.cache.inputs import input_file_digest, input_tree_digest
from scalable_hpc.cache.markers import DirType, FileType
from scalable_hpc.model.tasks import ResultRef

_WIDE = 1 << 63
"""What the numbers of one machine word end before."""
_COUNT = struct.Struct("<cQ")
_INT = struct.Struct("<cq")
_FLOAT = struct.Struct("<cd")
_COMPLEX = struct.Struct("<cdd")
_SPAN = struct.Struct("<cqqq")


def _constant(tag: bytes) -> Handler:
    def handler(encoder: Encoder, _value: object) -> None:
        encoder.out += tag

    return handler


def _bool(encoder: Encoder, value: bool) -> None:  # noqa: FBT001 - a handler takes the value alone
    encoder.out += b"T" if value else b"F"


def _int(encoder: Encoder, value: int) -> None:
    try:
        encoder.out += _INT.pack(b"i", value)
    except struct.error:
        size = value.bit_length() // 8 + 1
        encoder.buffer(b"I", value.to_bytes(size, "little", signed=True))


def _float(encoder: Encoder, value: float) -> None:
    encoder.out += _FLOAT.pack(b"f", value)


def _complex(encoder: Encoder, value: complex) -> None:
    encoder.out += _COMPLEX.pack(b"c", value.real, value.imag)


def _str(encoder: Encoder, value: str) -> None:
    encoder.buffer(b"s", value.encode("utf-8", "surrogatepass"))


def _bytes(encoder: Encoder, value: bytes) -> None:
    encoder.buffer(b"b", value)


def _bytearray(encoder: Encoder, value: bytearray) -> None:
    encoder.buffer(b"B", value)


def _memoryview(encoder: Encoder, value: memoryview) -> None:
    encoder.text(b"v", value.format)
    encoder.items(b"(", value.shape or ())
    encoder.buffer(b"v", value if value.contiguous and value.format == "B" else value.tobytes())


def _sequence(tag: bytes) -> Handler:
    def handler(encoder: Encoder, value: list[Any] | tuple[Any, ...]) -> None:
        if not encoder.enter(value):
            return
        try:
            encoder.items(tag, value)
        finally:
            encoder.leave(value)

    return handler


def _dict(encoder: Encoder, value: Mapping[Any, Any]) -> None:
    if not encoder.enter(value):
        return
    key: Any = None
    pairs = _sorted_keys(encoder, value)
    try:
        encoder.count(b"d", len(value))
        for key, encoded in pairs:
            encoder.out += encoded
            encoder.add(value[key])
    except Unencodable as problem:
        raise problem.under(f"[{key!r}]") from problem
    finally:
        encoder.leave(value)


def _sorted_keys(encoder: Encoder, value: Mapping[Any, Any]) -> list[tuple[Any, bytes]]:
    try:
        pairs = [(key, encoder.apart(key)) for key in value]
    except Unencodable as problem:
        raise problem.under(" a key") from problem
    pairs.sort(key=operator.itemgetter(1))
    return pairs


def _set(tag: bytes) -> Handler:
    def handler(encoder: Encoder, value: Iterable[Any]) -> None:
        try:
            encoded = sorted(encoder.apart(item) for item in value)
        except Unencodable as problem:
            raise problem.under(" an element") from problem
        encoder.count(tag, len(encoded))
        encoder.out += b"".join(encoded)

    return handler


def _range(encoder: Encoder, value: range) -> None:
    encoder.items(b"r", (value.start, value.stop, value.step))


def _slice(encoder: Encoder, value: slice) -> None:
    encoder.items(b":", (value.start, value.stop, value.step))


def _datetime(encoder: Encoder, value: dt.datetime) -> None:
    encoder.text(b"D", value.replace(tzinfo=None).isoformat())
    encoder.out += b"1" if value.fold else b"0"
    encoder.add(value.tzinfo)


def _time(encoder: Encoder, value: dt.time) -> None:
    encoder.text(b"M", value.replace(tzinfo=None).isoformat())
    encoder.out += b"1" if value.fold else b"0"
    encoder.add(value.tzinfo)


def _date(encoder: Encoder, value: dt.date) -> None:
    encoder.text(b"Y", value.isoformat())


def _timedelta(encoder: Encoder, value: dt.timedelta) -> None:
    encoder.out += _SPAN.pack(b"+", value.days, value.seconds, value.microseconds)


def _zone(encoder: Encoder, value: Any) -> None:
    if value.key is None:
        raise Unencodable("zoneinfo.ZoneInfo", reason="it was read from a file and has no name")
    encoder.text(b"z", value.key)


def _decimal(encoder: Encoder, value: decimal.Decimal) -> None:
    encoder.text(b"n", str(value))


def _fraction(encoder: Encoder, value: fractions.Fraction) -> None:
    encoder.items(b"/", (value.numerator, value.denominator))


def _uuid(encoder: Encoder, value: uuid.UUID) -> None:
    encoder.buffer(b"U", value.bytes)


def _result_ref(encoder: Encoder, value: ResultRef) -> None:
    encoder.text(b"^", value.key)


def _marker(tag: bytes, content: Callable[[str], bytes]) -> Handler:
    def handler(encoder: Encoder, value: FileType | DirType) -> None:
        try:
            encoder.buffer(tag, content(value.path))
        except OSError as err:
            raise Unencodable(type(value).__name__, reason=str(err)) from err

    return handler


_HANDLERS: dict[type, Handler] = {
    type(None): _constant(b"N"),
    type(Ellipsis): _constant(b"."),
    type(NotImplemented): _constant(b"!"),
    bool: _bool,
    int: _int,
    float: _float,
    complex: _complex,
    str: _str,
    bytes: _bytes,
    bytearray: _bytearray,
    memoryview: _memoryview,
    list: _sequence(b"l"),
    tuple: _sequence(b"t"),
    dict: _dict,
    types.MappingProxyType: _dict,
    set: _set(b"e"),
    frozenset: _set(b"E"),
    range: _range,
    slice: _slice,
    dt.datetime: _datetime,
    dt.time: _time,
    dt.date: _date,
    dt.timedelta: _timedelta,
    decimal.Decimal: _decimal,
    fractions.Fraction: _fraction,
    uuid.UUID: _uuid,
    ResultRef: _result_ref,
    FileType: _marker(b"@", input_file_digest),
    DirType: _marker(b"&", input_tree_digest),
}


def _short_int(value: int) -> bytes | None:
    return _INT.pack(b"i", value) if -_WIDE <= value < _WIDE else None


def _short_str(value: str) -> bytes | None:
    raw = value.encode("utf-8", "surrogatepass")
    return _COUNT.pack(b"s", len(raw)) + raw if len(raw) <= LARGE else None


def _short_bytes(value: bytes) -> bytes | None:
    return _COUNT.pack(b"b", len(value)) + value if len(value) <= LARGE else None


_SHORTS: dict[type, Callable[[Any], bytes | None]] = {
    int: _short_int,
    str: _short_str,
    bytes: _short_bytes,
    float: lambda value: _FLOAT.pack(b"f", value),
    bool: lambda value: b"T" if value else b"F",
    type(None): lambda _: b"N",
}
for _cls, _make in _SHORTS.items():
    register_short(_cls, _make)
for _cls, _handler in _HANDLERS.items():
    register(_cls, _handler)
# by name: importing zoneinfo costs more than all of this
register_family(lambda cls: type_name(cls) == "zoneinfo.ZoneInfo", _zone)
