"""``@cacheable``: a function whose results are kept and found again.

Rule 1: importing this module is cheap, and so is decorating: everything else is imported at the first call.
Rule 2: whatever goes wrong with the cache, the user's call still runs: one warning, and the result as without it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast, overload

if TYPE_CHECKING:
    from datetime import timedelta

    from scalable_hpc.cache.dependencies import Dependency
    from scalable_hpc.cache.spec import CacheControl, CacheSpec

ENVIRONMENT = ("SCALABLE_HPC_CACHE_DIR", "SCALABLE_CACHE_DIR")
"""Variables that name the store's root, in the order they are looked at."""
DEFAULT_ROOT = ".scalable/cache"

_P = ParamSpec("_P")
_R_co = TypeVar("_R_co", covariant=True)


class Cached(Protocol[_P, _R_co]):
    """A cacheable function."""

    cache: CacheControl
    __scalable_cache__: CacheSpec
    __wrapped__: Callable[..., Any]
    __name__: str

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co:
        """Return the result of the call, found or computed."""


@overload
def cacheable(return_type: Callable[_P, _R_co], /) -> Cached[_P, _R_co]: ...
@overload
def cacheable(
    return_type: Any = None,
    *,
    version: object = None,
    depends_on: Iterable[Dependency] | Dependency = (),
    ignore: Iterable[str] | str = (),
    refresh: bool = False,
    store: bool = True,
    void: bool = False,
    check_output: bool = False,
    ttl: float | timedelta | None = None,
    **arg_types: Any,
) -> Callable[[Callable[_P, _R_co]], Cached[_P, _R_co]]: ...
def cacheable(
    return_type: Any = None,
    *,
    version: object = None,
    depends_on: Iterable[Dependency] | Dependency = (),
    ignore: Iterable[str] | str = (),
    refresh: bool = False,
    store: bool = True,
    void: bool = False,
    check_output: bool = False,
    ttl: float | timedelta | None = None,
    **arg_types: Any,
) -> Any:
    """Keep a function's results, and find them again for the same arguments and the same code.

    The key covers the function's code, the helpers and constants of yours that it reaches, and its arguments by type
    and value. Exceptions are not kept; None is a result like any other. Usable bare (``@cacheable``) or with options.

    Args:
        return_type: What the function returns; another type raises ``TypeError`` and is not kept. A ``FileType`` or
            ``DirType`` that it returns is kept by content, copied as a stream, and put back at its path wherever
            it is missing or changed when the result is found again.
        version: Part of the key: raise it when something changed that the code does not show.
        depends_on: More that the result depends on: functions (by code), names of libraries (by version) or of
            modules of yours (by source), paths (by content).
        ignore: Names of parameters, globals or closed-over variables that do not alter the result.
        refresh: Compute even where a result is known, and put the new one in its place.
        store: Whether new results are kept; known ones are used either way.
        void: The function is called for what it does, not for what it returns: every call runs, nothing is kept.
        check_output: Compare the files and directories that a known result names in full, byte by byte, with what was
            kept; otherwise those whose times have not changed since they were last compared count as unchanged.
        ttl: Seconds (or a ``timedelta``) after which a result is forgotten and computed anew, by the clocks of the
            hosts that keep and look for it, give or take one. Looked at when a call is made or submitted.
        **arg_types: What each parameter takes. ``FileType`` and ``DirType`` mean a path's content.

    Raises:
        TypeError: an option is not what it should be, or names no parameter.
    """
    # a function given by position is what ``@cacheable`` without parentheses does; classes are return types
    if hasattr(return_type, "__code__") or isinstance(return_type, staticmethod | classmethod | functools.partial):
        return _decorated(return_type, {})
    options = {
        "return_type": return_type,
        "version": version,
        "depends_on": depends_on,
        "ignore": ignore,
        "refresh": refresh,
        "store": store,
        "void": void,
        "check_output": check_output,
        "ttl": ttl,
        "arg_types": arg_types,
    }
    return lambda function: _decorated(function, options)


def default_store_root() -> str:
    """Return the root of the store that ``@cacheable`` functions use in this process."""
    if _root.chosen is None:
        named = next((os.environ[name] for name in ENVIRONMENT if os.environ.get(name)), DEFAULT_ROOT)
        # fixed at the first use: a program that changes directory keeps its cache
        _root.chosen = os.path.abspath(named)  # noqa: PTH100 - pathlib is slower to import than all of this
    return _root.chosen


def set_default_store_root(path: str | os.PathLike[str] | None) -> None:
    """Choose the store that ``@cacheable`` functions use in this process; None returns to the environment's."""
    _root.chosen = None if path is None else os.path.abspath(path)  # noqa: PTH100 - as above


class _Root:
    """Where this process's cache lies, once somebody has asked."""

    chosen: str | None = None


_root = _Root()


def _decorated(function: Any, options: dict[str, Any]) -> Any:
    from scalable_hpc.cache.spec import CacheControl, CacheSpec

    spec = CacheSpec(function, **options)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return spec.run(args, kwargs)

    wrapper = cast("Any", call)
    wrapper.__scalable_cache__ = spec
    wrapper.cache = CacheControl(spec)
    return wrapper
