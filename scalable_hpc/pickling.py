"""Pickling calls for workers: cloudpickle, and what it leaves out.

A function of ``__main__`` travels by value. The object that ``functools.cache`` makes of one pickles itself by name,
and workers have another ``__main__``: so does every helper of a script that is decorated with it.

Code that travels by value takes the digest of its source along: a notebook's has no source where it arrives, and a
cacheable call is to have the same key there.
"""

from __future__ import annotations

import functools
import io
import sys
from collections import ChainMap
from collections.abc import Callable
from types import CodeType
from typing import Any, ClassVar

import cloudpickle

from scalable_hpc.cache.source import code_digest, remember

_CODE: Callable[[CodeType], tuple[Any, ...]] = cloudpickle.Pickler.dispatch_table[CodeType]
_LRU = type(functools.lru_cache(maxsize=1)(lambda: None))


def dumps(value: Any) -> bytes:
    """Pickle a value so that a worker can open it; raises what the value's own pickling raises."""
    with io.BytesIO() as file:
        _Pickler(file).dump(value)
        return file.getvalue()


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


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    dispatch_table: ClassVar[Any] = ChainMap(
        {_LRU: _reduce_lru, CodeType: _reduce_code}, cloudpickle.Pickler.dispatch_table
    )
