"""How functions, classes and objects of any other class are encoded.

An object is its class's identity and the parts that it would be rebuilt from (``__reduce_ex__``), each encoded in
turn. That is all that another process would ever get of it; what cannot be rebuilt cannot be encoded.
"""

from __future__ import annotations

import copyreg
import enum
import functools
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from scalable_hpc.cache.encode import Encoder, Unencodable, register, register_family, type_name

REDUCE_PROTOCOL = 4
"""The protocol whose ``__reduce_ex__`` names every part openly; 5 would hide arrays in buffers."""
HOOK = "__scalable_key__"
"""A method of a class: returns the value by which an object of it enters keys."""
_PART_NAMES = ("build", "arguments", "state", "items", "pairs", "setter")


def _code(encoder: Encoder, value: object) -> None:
    encoder.reference(value)


def _builtin(encoder: Encoder, value: types.BuiltinFunctionType) -> None:
    owner = value.__self__
    if owner is None or isinstance(owner, types.ModuleType):
        encoder.reference(value)
        return
    encoder.text(b"a", value.__name__)
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


def _lru_cached(encoder: Encoder, value: Any) -> None:
    _wrapped(encoder, value, value.__wrapped__)


def _wrapped(encoder: Encoder, value: object, inner: types.FunctionType) -> None:
    encoder.text(b"w", type_name(type(value)))
    encoder.add(inner)


def _rebuilt(encoder: Encoder, value: object) -> None:
    """Encode an object by its class and the parts that it would be rebuilt from."""
    compiled = getattr(value, "py_func", None)  # numba: its own parts name a different object in every process
    if isinstance(compiled, types.FunctionType):
        _wrapped(encoder, value, compiled)
        return
    if not encoder.enter(value):
        return
    try:
        parts = _parts(value)
        encoder.out += b"o"
        encoder.reference(type(value))
        if isinstance(parts, str):
            encoder.text(b"g", f"{_home(value, parts)}.{parts}")
        else:
            encoder.fields(b"{", zip(_PART_NAMES, parts, strict=False))
    except Unencodable:
        inner = getattr(value, "__wrapped__", None)
        if not isinstance(inner, types.FunctionType):
            raise
        _wrapped(encoder, value, inner)
    finally:
        encoder.leave(value)


def hooked(encoder: Encoder, value: Any, stands_for: Callable[[Any], Any] | None = None) -> None:
    """Encode an object by its class and what stands for it: by the word of its class, or of somebody else."""
    if not encoder.enter(value):
        return
    try:
        encoder.out += b"h"
        encoder.reference(type(value))
        encoder.add((stands_for or getattr(type(value), HOOK))(value))
    finally:
        encoder.leave(value)


def _parts(value: object) -> str | tuple[Any, ...]:
    cls = type(value)
    if cls is object:
        raise Unencodable("object", reason="a bare object() is nothing but its identity")
    reduce = copyreg.dispatch_table.get(cls)
    try:
        parts: Any = reduce(value) if reduce else value.__reduce_ex__(REDUCE_PROTOCOL)
    except Exception as err:  # a user's own __reduce__ may raise anything, and means the same by all of it
        raise Unencodable(type_name(cls), reason=str(err)) from err
    if isinstance(parts, str):
        return parts
    if not isinstance(parts, tuple):
        raise Unencodable(type_name(cls), reason="its __reduce__ returned neither text nor a tuple")
    missing: tuple[Any, ...] = (None,) * (len(_PART_NAMES) - len(parts))
    build, arguments, state, listed, mapped, setter = parts + missing
    keyed: Any = None
    if mapped is not None:
        pairs = list(mapped)
        keyed = pairs if isinstance(value, OrderedDict) else dict(pairs)
    return (build, arguments, state, None if listed is None else list(listed), keyed, setter)


def _enum(encoder: Encoder, value: enum.Enum) -> None:
    encoder.out += b"u"
    encoder.reference(type(value))
    # combined flags have a name on some Pythons only
    encoder.add(None if isinstance(value, enum.Flag) else value.name)
    encoder.add(value.value)


def _home(value: object, name: str) -> str:
    """Return the module that holds an object under a name."""
    module = getattr(value, "__module__", None)
    if isinstance(module, str):
        return module
    holders = (key for key, held in sorted(sys.modules.items()) if getattr(held, name, None) is value)
    return next(holders, "__main__")


def _path(encoder: Encoder, value: PurePath) -> None:
    encoder.text(b"p", str(value))


register_family(lambda _cls: True, _rebuilt)
register_family(lambda cls: issubclass(cls, PurePath), _path)
register_family(lambda cls: issubclass(cls, enum.Enum), _enum)
register_family(lambda cls: issubclass(cls, type), _code)
register_family(lambda cls: hasattr(cls, HOOK), hooked)
register(types.FunctionType, _code)
register(types.BuiltinFunctionType, _builtin)
register(types.MethodType, _method)
register(types.ModuleType, _code)
register(functools.partial, _partial)
register(type(functools.cache(_code)), _lru_cached)
