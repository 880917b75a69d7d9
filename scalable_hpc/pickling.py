"""Pickling calls for workers: cloudpickle, and what it leaves out.

A function of ``__main__`` travels by value. The object that ``functools.cache`` makes of one pickles itself by name,
and workers have another ``__main__``: so does every helper of a script that is decorated with it.

Code that travels by value takes the digest of its source along, and a class what it is made of: a notebook's has no
source where it arrives, and a cacheable call is to have the same key there.
"""

from __future__ import annotations

import functools
import io
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable
from types import CodeType
from typing import Any, ClassVar

import cloudpickle

from scalable_hpc.cache.code import class_word
from scalable_hpc.cache.source import code_digest, remember
from scalable_hpc.cache.told import ClassWord, tell

_PLAIN = frozenset({int, float, complex, bool, str, bytes, type(None)})
_CONTAINERS = (tuple, list, dict)
_FEW = 64
"""Items up to which looking at each of them costs less than what it may save."""
_CODE: Callable[[CodeType], tuple[Any, ...]] = cloudpickle.Pickler.dispatch_table[CodeType]
_WITH_SETTER = 6
"""Parts of what cloudpickle makes of a class that goes by value; the last one sets its attributes."""
_LRU = type(functools.lru_cache(maxsize=1)(lambda: None))


def dumps(value: Any) -> bytes:
    """Pickle a value so that a worker can open it; raises what the value's own pickling raises."""
    if _is_plain(value):
        return pickle.dumps(value, protocol=5)  # what most calls are given, at a fifth of the price
    with io.BytesIO() as file:
        _Pickler(file).dump(value)
        return file.getvalue()


def _is_plain(value: Any, depth: int = 4) -> bool:
    """Say whether a value is nothing but numbers and text in a few tuples, lists and dicts around one another."""
    kind = type(value)
    if kind in _PLAIN:
        return True
    if kind not in _CONTAINERS or depth == 0 or len(value) > _FEW:
        return False
    if kind is dict:
        return _PLAIN.issuperset(map(type, value)) and all(_is_plain(each, depth - 1) for each in value.values())
    return all(_is_plain(each, depth - 1) for each in value)


def _reduce_lru(cached: Any) -> str | tuple[Any, ...]:
    """By name where a worker can import it, else the wrapped function and the cache's parameters, without content."""
    if _is_importable(cached):
        return str(cached.__reduce__())
    return _rebuild_lru, (cached.__wrapped__, cached.cache_parameters())


def _rebuild_lru(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _is_importable(named: Any) -> bool:
    module_name = getattr(named, "__module__", None)
    module = sys.modules.get(module_name or "__main__")
    if module is None or module_name == "__main__" or module_name in cloudpickle.list_registry_pickle_by_value():
        return False
    found: Any = module
    for part in named.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is named


def _reduce_code(code: CodeType) -> tuple[Any, ...]:
    return _rebuild_code, (code_digest(code), *_CODE(code))


def _rebuild_code(digest: bytes, build: Callable[..., CodeType], parts: tuple[Any, ...]) -> CodeType:
    code = build(*parts)
    remember(code, digest)
    return code


def _set_class_state(cls: type, told: tuple[Callable[[type, Any], object], Any, ClassWord]) -> None:
    set_state, state, word = told
    set_state(cls, state)
    tell(cls, word)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    dispatch_table: ClassVar[Any] = ChainMap(
        {_LRU: _reduce_lru, CodeType: _reduce_code}, cloudpickle.Pickler.dispatch_table
    )

    def reducer_override(self, obj: Any) -> Any:
        reduced = super().reducer_override(obj)
        if isinstance(obj, type) and isinstance(reduced, tuple) and len(reduced) == _WITH_SETTER:
            word = class_word(obj)
            if word is not None:
                make, args, state, items, pairs, set_state = reduced
                return make, args, (set_state, state, word), items, pairs, _set_class_state
        return reduced
