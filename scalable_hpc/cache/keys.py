"""The key of a call: what function, whose code, which arguments; 256 bits that two different calls never share.

Rule 1: every spelling of one call (by position, by name, by default) gives one key.
Rule 2: a key carries the parts it was made from, so that two keys can be told apart in words.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

from blake3 import blake3

from scalable_hpc.cache.code import code_of, identity
from scalable_hpc.cache.code_graph import CodeIdentity
from scalable_hpc.cache.declared import brought_into, for_key
from scalable_hpc.cache.dependencies import Dependency, dependency_digest
from scalable_hpc.cache.encode import Unencodable, digest, digest_of_plain, is_plain
from scalable_hpc.cache.owner import is_users_code, label_of, unwrapped
from scalable_hpc.cache.signature import Bound, Signature

ENCODING = "scalable_hpc key 3"
"""Raised whenever the bytes that make up a key change: then no old key can be met again."""
_CALL, _LINEAGE = "call", "lineage"
_LENGTH = struct.Struct("<I")
_LENGTHS = struct.Struct("<II")
_SEPARATOR = _LENGTHS.pack(0xFFFFFFFF, 0)
"""Between dependencies and arguments: no name is that long."""


@dataclass(frozen=True, slots=True)
class KeyParts:
    """What a key was made from, each part by its digest."""

    function: str
    code: CodeIdentity | None
    """None for a callable that has no code of the user's."""
    version: str
    dependencies: tuple[tuple[str, str], ...]
    """Name and digest (or version, as hex) of what ``depends_on=`` names."""
    arguments: tuple[tuple[str, str], ...]
    """Parameter and digest (64 hex digits), in the order of the signature."""


class CallKey:
    """The key of one call, and its parts, which are put together only for those who ask: a hit never does."""

    __slots__ = ("_arguments", "_made_of", "hex")

    def __init__(self, hex_digits: str, made_of: KeyParts, arguments: list[tuple[str, bytes]]) -> None:
        self.hex = hex_digits
        """64 hex digits."""
        self._made_of = made_of
        self._arguments = arguments

    @property
    def parts(self) -> KeyParts:
        """What it was made from."""
        return replace(self._made_of, arguments=tuple((name, value.hex()) for name, value in self._arguments))


class KeyMaker:
    """Makes the keys of one function's calls; remembers what does not change from call to call."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        version: object = None,
        depends_on: Iterable[Dependency] = (),
        ignore: Iterable[str] = (),
        arg_types: Mapping[str, Any] | None = None,
    ) -> None:
        self.function = function
        self.name = label_of(function)
        self.signature = Signature(function)
        self._version = "" if version is None else f"{type(version).__name__} {version}"
        self._depends_on = tuple(depends_on)
        self._ignore = frozenset(ignore)
        self._code_of = functools.partial(code_of, ignore=self._ignore) if self._ignore else code_of
        self._arg_types = dict(arg_types or {})
        self._code: CodeIdentity | None = None
        self._last_parts: tuple[CodeIdentity | None, list[tuple[str, bytes]], KeyParts] | None = None
        self._last_front: tuple[str, bytes, list[tuple[str, bytes]], bytes] | None = None
        self._heads = {
            kind: b"".join(_framed(text.encode()) for text in (kind, ENCODING, self.name, self._version))
            for kind in (_CALL, _LINEAGE)
        }

    def prepare(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Return the arguments brought into their declared types.

        Raises:
            TypeError: one does not fit, or they do not fit the signature.
        """
        if not self._arg_types:
            return args, kwargs
        bound = self.signature.bind(args, kwargs)
        changed = False
        for name, declared in self._arg_types.items():
            place = bound.named if name in bound.named else bound.extra
            if name in place and not self._is_default(name, place[name]):
                value = brought_into(place[name], declared, name, self.name)
                changed = changed or value is not place[name]
                place[name] = value
        return self.signature.spelled(bound) if changed else (args, kwargs)

    def key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CallKey:
        """Return the key of a call.

        Raises:
            Unencodable: an argument, or something that the code reaches, has no encoding.
            TypeError: the arguments do not fit the signature, or ``ignore`` names nothing.
        """
        code = self.code()
        whole = digest(self.function, self._code_of) if code is None else code.digest
        values = None if kwargs or self._ignore else self.signature.values(args)
        if values is None:
            named = self._each(self.signature.bind(args, kwargs))
        else:
            named = zip(self.signature.by_position, values, strict=True)
        arguments = [(name, self._argument(name, value)) for name, value in named]
        return self._finish(_CALL, code, whole, arguments)

    def lineage(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], unique: str, occurrence: int = 0) -> CallKey:
        """Return a key under which only this very call is known: what has no encoding counts as ``unique`` instead.

        Raises:
            TypeError: the arguments do not fit the signature.
        """
        stand_in = blake3(unique.encode()).digest()
        arguments = [("", occurrence.to_bytes(8, "little"))]
        for name, value in self._each(self.signature.bind(args, kwargs)):
            arguments.append((name, _or_else(stand_in, self._argument, name, value)))
        try:
            code = self.code()
            whole = digest(self.function, self._code_of) if code is None else code.digest
        except Unencodable:
            code, whole = None, stand_in
        return self._finish(_LINEAGE, code, whole, arguments)

    def code(self) -> CodeIdentity | None:
        """Return what the function's code comes to now; None where none of it is the user's.

        Raises:
            Unencodable: it reaches a value that has no encoding.
            TypeError: ``ignore`` names neither a parameter nor a global that the code reaches.
        """
        code = self._code
        if code is not None and code.holds():
            return code
        target = unwrapped(self.function)
        if not isinstance(target, FunctionType | type) or not is_users_code(target):
            return None
        code = identity(target, self._ignore)
        unknown = self._ignore - code.ignored - set(self.signature.names)
        if unknown and not self.signature.takes_extra:
            raise TypeError(f"ignore={sorted(unknown)!r}: no parameter of {self.name}(), and no global that it reaches")
        self._code = code
        return code

    def _each(self, bound: Bound) -> Iterable[tuple[str, Any]]:
        if not (self._ignore or bound.rest or bound.extra):
            return bound.named.items()
        return self._chosen(bound)

    def _chosen(self, bound: Bound) -> Iterator[tuple[str, Any]]:
        for name, value in bound.named.items():
            if name not in self._ignore:
                yield name, value
        if bound.rest:
            yield "*", bound.rest
        for name in sorted(bound.extra):
            if name not in self._ignore:
                yield f"**{name}", bound.extra[name]

    def _argument(self, name: str, value: Any) -> bytes:
        if not self._arg_types and is_plain(value):
            return digest_of_plain(value)
        declared = self._arg_types.get(name.lstrip("*")) if self._arg_types else None
        try:
            return digest(value if declared is None else for_key(value, declared), self._code_of)
        except Unencodable as problem:
            if self._is_default(name, value):
                return blake3(b"the default").digest()
            raise problem.under(f"argument {name.lstrip('*') or '*args'}") from problem

    def _is_default(self, name: str, value: Any) -> bool:
        return self.signature.defaults.get(name, self) is value

    def _finish(
        self, kind: str, code: CodeIdentity | None, whole: bytes, arguments: list[tuple[str, bytes]]
    ) -> CallKey:
        dependencies = [dependency_digest(each, self._code_of) for each in self._depends_on] if self._depends_on else []
        framed = [self._front(kind, whole, dependencies)]
        for name, value in arguments:
            framed.append(_name_head(name, len(value)))
            framed.append(value)
        return CallKey(blake3(b"".join(framed)).hexdigest(), self._shared_parts(code, dependencies), arguments)

    def _front(self, kind: str, whole: bytes, dependencies: list[tuple[str, bytes]]) -> bytes:
        """Return what stands before the arguments: the same for every call, as long as the code is."""
        last = self._last_front
        if last is None or last[0] is not kind or last[1] is not whole or last[2] != dependencies:
            named = (_named(name, value) for name, value in dependencies)
            raw = b"".join((self._heads[kind], _framed(whole), *named, _SEPARATOR))
            last = self._last_front = kind, whole, dependencies, raw
        return last[3]

    def _shared_parts(self, code: CodeIdentity | None, dependencies: list[tuple[str, bytes]]) -> KeyParts:
        """Return what this call's parts have in common with those of the last one, most often all but arguments."""
        last = self._last_parts
        if last is None or last[0] is not code or last[1] != dependencies:
            named = tuple((name, value.hex()) for name, value in dependencies)
            last = code, dependencies, KeyParts(self.name, code, self._version, named, ())
            self._last_parts = last
        return last[2]


def call_key(
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    version: object = None,
    depends_on: Iterable[Dependency] = (),
    ignore: Iterable[str] = (),
    arg_types: Mapping[str, Any] | None = None,
) -> CallKey:
    """Return the key of one call; ``KeyMaker`` is quicker for many calls of one function.

    Raises:
        Unencodable: an argument, or something that the code reaches, has no encoding.
        TypeError: the arguments do not fit the signature.
    """
    maker = KeyMaker(func, version=version, depends_on=depends_on, ignore=ignore, arg_types=arg_types)
    return maker.key(*maker.prepare(args, kwargs))


def lineage_key(
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    unique: str,
    occurrence: int = 0,
) -> CallKey:
    """Return the lineage key of a call that is not cacheable.

    Args:
        func: Any callable.
        args: Positional arguments, with every future replaced by its ``ResultRef``.
        kwargs: Keyword arguments, likewise.
        unique: Text that no other call shares; enters in place of what has no encoding.
        occurrence: Which one this is of several equal calls in one run: a call that draws random numbers may be
            wanted many times.

    Raises:
        TypeError: the arguments do not fit the signature.
    """
    return KeyMaker(func).lineage(args, kwargs, unique, occurrence)


def _named(name: str, value: bytes) -> bytes:
    return _name_head(name, len(value)) + value


@functools.lru_cache(maxsize=4096)
def _name_head(name: str, size: int) -> bytes:
    """Return what stands before a named value; there are few parameters, and many calls."""
    raw = name.encode()
    return _LENGTHS.pack(len(raw), size) + raw


def _framed(raw: bytes) -> bytes:
    return _LENGTH.pack(len(raw)) + raw


def _or_else(fallback: bytes, make: Callable[[str, Any], bytes], name: str, value: Any) -> bytes:
    try:
        return make(name, value)
    except Unencodable:
        return fallback
