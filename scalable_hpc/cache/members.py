"""What a class holds at run time, as far as it is the user's writing."""

from __future__ import annotations

import functools
from types import FunctionType
from typing import Any

from scalable_hpc.cache.owner import is_users_code

CLASS_MACHINERY = frozenset(
    {"__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__firstlineno__", "__static_attributes__",
     "__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__", "__abstractmethods__",
     "_abc_impl", "_is_protocol", "_is_runtime_protocol", "__slotnames__",
     "__parameters__", "__orig_bases__", "__match_args__"}
)  # fmt: skip
"""Attributes that Python makes of its own accord."""


def is_data(name: str, value: object) -> bool:
    """Say whether a class attribute is a value, and no method, descriptor, class or machinery."""
    is_machinery = name in CLASS_MACHINERY or (name.startswith("__") and name.endswith("__"))
    return not is_machinery and not isinstance(value, type) and not hasattr(type(value), "__get__")


def members_of(value: Any) -> list[tuple[str, Any]]:
    """Return what a class attribute holds, out of the descriptors that Python wraps around functions."""
    if isinstance(value, staticmethod | classmethod):
        return [("", value.__func__)]
    if isinstance(value, property):
        return [(f".{name}", getattr(value, name)) for name in ("fget", "fset", "fdel")]
    if isinstance(value, functools.cached_property):
        return [("", value.func)]
    return [("", value)]


def is_written(method: FunctionType, home: str) -> bool:
    """Say whether a method is the user's writing, and not what a class decorator or a library put there."""
    return is_users_code(method, home) and not method.__code__.co_filename.startswith("<string>")
