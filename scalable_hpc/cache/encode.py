"""Values as canonical bytes: equal types and values give equal bytes, anything else different ones.

Every item is a tag, then fixed-size fields or a length and that many bytes, so no two values share an encoding by
running into each other. Dict and set order does not matter; the type always does: ``1``, ``1.0``, ``True``, ``"1"``
and ``b"1"`` differ, and so do ``0.0`` and ``-0.0``.

Rule 1: no salted ``hash()``, no ``id()``, no pickle bytes may reach an encoding.
Rule 2: what an object is comes from its class's identity and from the parts it would be rebuilt from
    (``__reduce_ex__``), each encoded in turn; what cannot be rebuilt cannot be encoded.
Rule 3: libraries' types live in plug-ins that are imported only once the library itself has been.
Rule 4: any change to what is emitted must raise ``keys.ENCODING``.

Confessed: two references to one list encode like two equal lists, and ``NaN`` equals itself here.
"""

from __future__ import annotations

import array
import copyreg
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import importlib
import operator
import pickle
import struct
import sys
import types
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Any

from blake3 import blake3

from scalable_hpc.cache.content import file_digest, tree_digest
from scalable_hpc.cache.markers import DirType, FileType
from scalable_hpc.errors import ScalableError
from scalable_hpc.model.tasks import ResultRef

LARGE = 4096
"""Bytes above which a buffer enters by its digest: hashed where it lies, in parallel, never copied."""
PACKED = 16
"""Items from which a list of one plain type is encoded as one buffer."""
REDUCE_PROTOCOL = 4
"""The protocol whose ``__reduce_ex__`` names every part openly; 5 would hide arrays in buffers."""

_COUNT = struct.Struct("<cQ")
_INT = struct.Struct("<cq")
_FLOAT = struct.Struct("<cd")
_COMPLEX = struct.Struct("<cdd")
_SPAN = struct.Struct("<cqqq")

Handler = Callable[["Encoder", Any], None]
CodeOf = Callable[[Any], bytes]
"""Gives the identity of a function or class as bytes: its name, and its code where that is the user's."""


class Unencodable(ScalableError):
    """A value has no canonical encoding; says which type, and where in the value it sits."""

    def __init__(self, type_name: str, where: str = "", reason: str = "") -> None:
        self.type_name = type_name
        self.where = where
        self.reason = reason
        super().__init__(self._text())

    def _text(self) -> str:
        place = f" at {self.where}" if self.where else ""
        because = f": {self.reason}" if self.reason else ""
        return f"no cache key can be made from a {self.type_name!r}{place}{because}"

    def under(self, where: str) -> Unencodable:
        """Return the same complaint, seen from one container further out."""
        return Unencodable(self.type_name, where + self.where, self.reason)


def type_name(cls: type) -> str:
    """Return ``module.QualName`` of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


class Encoder:
    """One encoding in progress."""

    __slots__ = ("_open", "code_of", "out", "unordered")

    def __init__(self, code_of: CodeOf) -> None:
        self.out = bytearray()
        self.code_of = code_of
        self.unordered = 0
        """How many sets and dict keys enclose this point: there the order of visits means nothing."""
        self._open: dict[int, int] = {}

    def add(self, value: object) -> None:
        """Append the encoding of any value.

        Raises:
            Unencodable: it has none.
        """
        cls = type(value)
        (_EXACT.get(cls) or _handler_for(cls))(self, value)

    def digest(self) -> bytes:
        """Return the BLAKE3 digest (32 bytes) of what was added."""
        return blake3(self.out).digest()

    def buffer(self, tag: bytes, data: bytes | bytearray | memoryview) -> None:
        """Append raw bytes: themselves when short, else their digest (the length tells which)."""
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        self.out += _COUNT.pack(tag, size)
        if size <= LARGE:
            self.out += data
        else:
            self.out += blake3(data, max_threads=blake3.AUTO).digest()

    def text(self, tag: bytes, text: str) -> None:
        """Append text under a tag."""
        self.buffer(tag, text.encode("utf-8", "surrogatepass"))

    def reference(self, code: object) -> None:
        """Append the identity of a function or class."""
        self.buffer(b"C", self.code_of(code))

    def apart(self, value: object) -> bytes:
        """Return the encoding of a value whose place among its siblings is not known yet."""
        outer, self.out = self.out, bytearray()
        self.unordered += 1
        try:
            self.add(value)
            return bytes(self.out)
        finally:
            self.unordered -= 1
            self.out = outer

    def enter(self, value: object) -> bool:
        """Open a container; False if it is open already, in which case the distance up to it was appended."""
        level = self._open.get(id(value))
        if level is not None:
            self.out += _COUNT.pack(b"R", len(self._open) - level)
            return False
        self._open[id(value)] = len(self._open)
        return True

    def leave(self, value: object) -> None:
        """Close a container that ``enter`` opened."""
        del self._open[id(value)]

    def items(self, tag: bytes, values: list[Any] | tuple[Any, ...]) -> None:
        """Append an ordered container's items."""
        self.out += _COUNT.pack(tag, len(values))
        if len(values) >= PACKED and _packed(self, values):
            return
        for position, value in enumerate(values):
            try:
                self.add(value)
            except Unencodable as problem:
                raise problem.under(f"[{position}]") from problem

    def fields(self, tag: bytes, pairs: Iterable[tuple[str, Any]]) -> None:
        """Append named values in the order given."""
        named = list(pairs)
        self.out += _COUNT.pack(tag, len(named))
        for name, value in named:
            self.text(b"k", name)
            try:
                self.add(value)
            except Unencodable as problem:
                raise problem.under(f".{name}") from problem


def digest(value: object, code_of: CodeOf) -> bytes:
    """Return the BLAKE3 digest (32 bytes) of one value.

    Raises:
        Unencodable: it has no canonical encoding.
    """
    encoder = Encoder(code_of)
    try:
        encoder.add(value)
    except RecursionError as err:
        raise Unencodable(type_name(type(value)), reason="it is nested too deeply") from err
    return encoder.digest()


def register(cls: type, handler: Handler) -> None:
    """Let exactly this class be encoded by ``handler``; for the plug-ins."""
    _EXACT[cls] = handler


def register_family(belongs: Callable[[type], bool], handler: Handler) -> None:
    """Let every class for which ``belongs`` is true, and that has no handler of its own, be encoded by ``handler``."""
    _FAMILIES.append((belongs, handler))


def _packed(encoder: Encoder, values: list[Any] | tuple[Any, ...]) -> bool:
    kinds = set(map(type, values))
    pack = _PACKERS.get(kinds.pop()) if len(kinds) == 1 else None
    return pack is not None and pack(encoder, values)


def _little_endian(code: str, values: Iterable[Any]) -> memoryview:
    numbers = array.array(code, values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return memoryview(numbers).cast("B")


def _pack_floats(encoder: Encoder, values: Iterable[float]) -> bool:
    encoder.buffer(b"*", _little_endian("d", values))
    return True


def _pack_ints(encoder: Encoder, values: Iterable[int]) -> bool:
    try:
        numbers = _little_endian("q", values)
    except OverflowError:
        return False
    encoder.buffer(b"#", numbers)
    return True


def _pack_strings(encoder: Encoder, values: Iterable[str]) -> bool:
    encoder.buffer(b"$", _little_endian("q", map(len, values)))
    encoder.text(b"$", "".join(values))
    return True


_PACKERS: dict[type, Callable[[Encoder, Any], bool]] = {float: _pack_floats, int: _pack_ints, str: _pack_strings}


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
    try:
        encoder.out += _COUNT.pack(b"d", len(value))
        for key, encoded in _sorted_keys(encoder, value):
            encoder.out += encoded
            try:
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
        encoder.out += _COUNT.pack(tag, len(encoded))
        encoder.out += b"".join(encoded)

    return handler


def _range(encoder: Encoder, value: range) -> None:
    encoder.items(b"r", (value.start, value.stop, value.step))


def _slice(encoder: Encoder, value: slice) -> None:
    encoder.items(b":", (value.start, value.stop, value.step))


def _datetime(encoder: Encoder, value: datetime.datetime) -> None:
    encoder.text(b"D", value.replace(tzinfo=None).isoformat())
    encoder.out += b"1" if value.fold else b"0"
    encoder.add(value.tzinfo)


def _time(encoder: Encoder, value: datetime.time) -> None:
    encoder.text(b"M", value.replace(tzinfo=None).isoformat())
    encoder.out += b"1" if value.fold else b"0"
    encoder.add(value.tzinfo)


def _date(encoder: Encoder, value: datetime.date) -> None:
    encoder.text(b"Y", value.isoformat())


def _timedelta(encoder: Encoder, value: datetime.timedelta) -> None:
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


def _path(encoder: Encoder, value: PurePath) -> None:
    encoder.text(b"p", str(value))


def _enum(encoder: Encoder, value: enum.Enum) -> None:
    encoder.out += b"u"
    encoder.reference(type(value))
    encoder.add(value.name)
    encoder.add(value.value)


def _result_ref(encoder: Encoder, value: ResultRef) -> None:
    encoder.text(b"^", value.key)


def _marker(tag: bytes, content: Callable[[str], bytes]) -> Handler:
    def handler(encoder: Encoder, value: FileType | DirType) -> None:
        try:
            encoder.buffer(tag, content(value.path))
        except OSError as err:
            raise Unencodable(type(value).__name__, reason=str(err)) from err

    return handler


def _code(encoder: Encoder, value: object) -> None:
    encoder.reference(value)


def _builtin(encoder: Encoder, value: types.BuiltinFunctionType) -> None:
    owner = value.__self__
    if owner is None or isinstance(owner, types.ModuleType):
        encoder.reference(value)
        return
    encoder.text(b"m", value.__name__)
    encoder.add(owner)


def _method(encoder: Encoder, value: types.MethodType) -> None:
    encoder.out += b"m"
    encoder.add(value.__func__)
    encoder.add(value.__self__)


def _partial(encoder: Encoder, value: functools.partial[Any]) -> None:
    encoder.out += b"P"
    encoder.add(value.func)
    encoder.add(value.args)
    encoder.add(value.keywords)


def _is_namedtuple(cls: type) -> bool:
    return issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple)


def _namedtuple(encoder: Encoder, value: Any) -> None:
    if not encoder.enter(value):
        return
    try:
        encoder.out += b"t"
        encoder.reference(type(value))
        encoder.fields(b"(", zip(value._fields, value, strict=True))  # noqa: SLF001 - its documented name
    finally:
        encoder.leave(value)


def _dataclass(encoder: Encoder, value: Any) -> None:
    if not encoder.enter(value):
        return
    try:
        encoder.out += b"o"
        encoder.reference(type(value))
        names = [field.name for field in dataclasses.fields(value)]
        present = [(name, getattr(value, name)) for name in names if hasattr(value, name)]
        encoder.fields(b"{", present)
        more = getattr(value, "__dict__", {})
        encoder.fields(b"}", sorted((name, more[name]) for name in more.keys() - set(names)))
    finally:
        encoder.leave(value)


def _wrapping(cls: type) -> bool:
    return isinstance(getattr(cls, "__wrapped__", None), types.MemberDescriptorType | types.GetSetDescriptorType) or (
        type_name(cls) == "functools._lru_cache_wrapper"
    )


def _wrapped(encoder: Encoder, value: Any) -> None:
    encoder.text(b"w", type_name(type(value)))
    encoder.add(value.__wrapped__)


def _rebuilt(encoder: Encoder, value: object) -> None:
    """Encode an object by its class and the parts that it would be rebuilt from."""
    if not encoder.enter(value):
        return
    try:
        parts = _parts(value)
        encoder.out += b"o"
        encoder.reference(type(value))
        if isinstance(parts, str):
            encoder.text(b"g", f"{pickle.whichmodule(value, parts)}.{parts}")
            return
        encoder.items(b"(", parts)
    finally:
        encoder.leave(value)


def _parts(value: object) -> str | tuple[Any, ...]:
    cls = type(value)
    reduce = copyreg.dispatch_table.get(cls)
    try:
        parts: Any = reduce(value) if reduce else value.__reduce_ex__(REDUCE_PROTOCOL)
    except Exception as err:  # a user's own __reduce__ may raise anything, and means the same by all of it
        raise Unencodable(type_name(cls), reason=str(err)) from err
    if isinstance(parts, str):
        return parts
    if not isinstance(parts, tuple):
        raise Unencodable(type_name(cls), reason="its __reduce__ returned neither text nor a tuple")
    build, arguments, state, listed, mapped, *rest = (*parts, None, None, None)
    keyed: Any = None
    if mapped is not None:
        pairs = list(mapped)
        keyed = pairs if isinstance(value, OrderedDict) else dict(pairs)
    return (build, arguments, state, None if listed is None else list(listed), keyed, *rest[: len(parts) - 5])


_EXACT: dict[type, Handler] = {
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
    datetime.datetime: _datetime,
    datetime.time: _time,
    datetime.date: _date,
    datetime.timedelta: _timedelta,
    decimal.Decimal: _decimal,
    fractions.Fraction: _fraction,
    uuid.UUID: _uuid,
    ResultRef: _result_ref,
    FileType: _marker(b"@", file_digest),
    DirType: _marker(b"&", tree_digest),
    types.FunctionType: _code,
    types.BuiltinFunctionType: _builtin,
    types.MethodType: _method,
    functools.partial: _partial,
}
_FAMILIES: list[tuple[Callable[[type], bool], Handler]] = [
    (lambda cls: issubclass(cls, type), _code),
    (lambda cls: issubclass(cls, enum.Enum), _enum),
    (lambda cls: issubclass(cls, PurePath), _path),
    (lambda cls: type_name(cls) == "zoneinfo.ZoneInfo", _zone),
    (_is_namedtuple, _namedtuple),
    (dataclasses.is_dataclass, _dataclass),
    (_wrapping, _wrapped),
]
_PLUGINS = {
    "numpy": "scalable_hpc.cache.encode_numpy",
    "pandas": "scalable_hpc.cache.encode_pandas",
}
_plugged: set[str] = set()
_resolved: weakref.WeakKeyDictionary[type, Handler] = weakref.WeakKeyDictionary()


def _handler_for(cls: type) -> Handler:
    """Return the handler of a class that the exact table does not know (yet)."""
    handler = _resolved.get(cls)
    if handler is not None:
        return handler
    for library, plugin in _PLUGINS.items():
        if library in sys.modules and library not in _plugged:
            importlib.import_module(plugin)
            _plugged.add(library)
    handler = _EXACT.get(cls)
    if handler is None:
        handler = next((handle for belongs, handle in _FAMILIES if belongs(cls)), _rebuilt)
    _resolved[cls] = handler
    return handler
