"""Values as canonical bytes: equal types and values give equal bytes, anything else different ones.

Every item is a tag, then fixed-size fields or a length and that many bytes, so no two values share an encoding by
running into each other. Dict and set order does not matter; the type always does: ``1``, ``1.0``, ``True``, ``"1"``
and ``b"1"`` differ, and so do ``0.0`` and ``-0.0``.

Rule 1: no salted ``hash()``, no ``id()``, no pickle bytes may reach an encoding.
Rule 2: how a type is encoded lives in a plug-in; a library's is imported only once the library itself has been.
Rule 3: any change to what is emitted must raise ``keys.ENCODING``.

Confessed: two references to one list encode like two equal lists, and ``NaN`` equals itself here.
"""

from __future__ import annotations

import array
import functools
import importlib
import struct
import sys
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from blake3 import blake3

from scalable_hpc.errors import ScalableError

LARGE = 4096
"""Bytes above which a buffer enters by its digest: hashed where it lies, in parallel, never copied."""
_LARGE_INT, _LONG_TEXT = 1 << 64, 64
"""Plain values are remembered: large ones are not."""
PACKED = 16
"""Items from which a list of one plain type is encoded as one buffer."""

_COUNT = struct.Struct("<cQ")

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

    def count(self, tag: bytes, number: int) -> None:
        """Append a tag and a number, most often how many items follow."""
        self.out += _COUNT.pack(tag, number)

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
            self.count(b"R", len(self._open) - level)
            return False
        self._open[id(value)] = len(self._open)
        return True

    def leave(self, value: object) -> None:
        """Close a container that ``enter`` opened."""
        del self._open[id(value)]

    def items(self, tag: bytes, values: list[Any] | tuple[Any, ...]) -> None:
        """Append an ordered container's items."""
        self.count(tag, len(values))
        if len(values) >= PACKED and _packed(self, values):
            return
        position = 0
        try:
            for position, value in enumerate(values):  # noqa: B007 - read where it stopped
                self.add(value)
        except Unencodable as problem:
            raise problem.under(f"[{position}]") from problem

    def fields(self, tag: bytes, pairs: Iterable[tuple[str, Any]]) -> None:
        """Append named values in the order given."""
        named = list(pairs)
        self.count(tag, len(named))
        name = ""
        try:
            for name, value in named:
                self.text(b"k", name)
                self.add(value)
        except Unencodable as problem:
            raise problem.under(f".{name}") from problem


def digest(value: object, code_of: CodeOf) -> bytes:
    """Return the BLAKE3 digest (32 bytes) of one value.

    Raises:
        Unencodable: it has no canonical encoding.
    """
    short = _SHORT.get(type(value))
    if short is not None and (raw := short(value)) is not None:
        return blake3(raw).digest()
    encoder = Encoder(code_of)
    try:
        encoder.add(value)
    except Unencodable:
        raise
    except RecursionError as err:
        raise Unencodable(type_name(type(value)), reason="it is nested too deeply") from err
    except Exception as err:  # a strange object may raise anything when it is looked at, and must not end the call
        raise Unencodable(type_name(type(value)), reason=f"{type(err).__name__}: {err}") from err
    return encoder.digest()


def is_plain(value: object) -> bool:
    """Say whether a value is of the small, plain kind that calls are made with again and again."""
    cls = type(value)
    if cls is int:
        return -_LARGE_INT < value < _LARGE_INT  # type: ignore[operator]
    return (cls is str and len(value) <= _LONG_TEXT) or cls is bool or value is None  # type: ignore[arg-type]


@functools.lru_cache(maxsize=4096, typed=True)
def digest_of_plain(value: object) -> bytes:
    """Return ``digest`` of a plain value, remembered; of no float, where ``0.0`` and ``-0.0`` are one to a dict."""
    return digest(value, _no_code)


def _no_code(code: object) -> bytes:
    raise AssertionError(f"a plain value has no code: {code!r}")


def register(cls: type, handler: Handler) -> None:
    """Let exactly this class be encoded by ``handler``; for the plug-ins."""
    _EXACT[cls] = handler


def register_short(cls: type, make: Callable[[Any], bytes | None]) -> None:
    """Let a lone value of exactly this class be encoded at once, into the bytes that its handler would append."""
    _SHORT[cls] = make


def reconsider() -> None:
    """Forget which family each class was found to belong to: a class has changed."""
    _resolved.clear()


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


_SHORT: dict[type, Callable[[Any], bytes | None]] = {}
"""What ``Encoder`` would make of plain values, without one; None where it is not that simple."""
_EXACT: dict[type, Handler] = {}
_FAMILIES: list[tuple[Callable[[type], bool], Handler]] = []
_PLUGINS = (
    ("builtins", "scalable_hpc.cache.encode_object"),
    ("builtins", "scalable_hpc.cache.encode_builtin"),
    ("numpy", "scalable_hpc.cache.encode_numpy"),
    ("pandas", "scalable_hpc.cache.encode_pandas"),
)
_plugged: set[str] = set()
_resolved: weakref.WeakKeyDictionary[type, Handler] = weakref.WeakKeyDictionary()


def _handler_for(cls: type) -> Handler:
    """Return the handler of a class that the exact table does not know (yet)."""
    handler = _resolved.get(cls)
    if handler is not None:
        return handler
    for library, plugin in _PLUGINS:
        if library in sys.modules and plugin not in _plugged:
            importlib.import_module(plugin)
            _plugged.add(plugin)
    handler = _EXACT.get(cls)
    if handler is None:
        # the last family that was registered first: libraries' own before the rebuilding of any object
        handler = next(handle for belongs, handle in reversed(_FAMILIES) if belongs(cls))
    _resolved[cls] = handler
    return handler
