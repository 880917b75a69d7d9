"""How users' own types enter keys, where what they are rebuilt from says too much, too little, or nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

from scalable_hpc.cache.encode import reconsider, register
from scalable_hpc.cache.encode_object import HOOK, hooked

_T = TypeVar("_T")


def register_key(cls: type[_T], key: Callable[[_T], Any]) -> None:
    """Say by what value objects of a class enter keys.

    A class of your own may have a method ``__scalable_key__(self)`` instead. Subclasses inherit both. For a class that
    takes no attributes (one written in C), this must be called wherever the calls are made and computed: at the top
    of a module that workers import, not of a script.

    Args:
        cls: The class.
        key: Given an object of it, returns what stands for it: any value that has a key itself, and is the same in
            every process. Objects of different classes never share a key, whatever it returns.

    Raises:
        TypeError: it is a builtin type, or what was given is not a class and a callable.
    """
    given: Any = cls
    if not isinstance(given, type) or not callable(key):
        raise TypeError(f"register_key() takes a class and a callable: {cls!r}, {key!r}")
    if cls.__module__ == "builtins":
        raise TypeError(f"{cls.__qualname__!r} is Python's own: its objects have a key already")

    def stands_for(self: Any) -> Any:
        return key(self)

    with contextlib.suppress(TypeError, AttributeError):  # a class written in C
        setattr(cls, HOOK, stands_for)
        reconsider()
        return

    def handler(encoder: Any, value: Any) -> None:
        hooked(encoder, value, stands_for)

    register(cls, handler)
