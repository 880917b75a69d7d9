"""What the decorator said about a function, and what follows from it for each call.

Rule 1: cheap to import and to make: it is made when the user's module is imported.
Rule 2: a spec travels to other processes with its function; what it remembers stays behind.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from scalable_hpc.cache.declared import check_declaration, check_result, fits
from scalable_hpc.cache.markers import PathType
from scalable_hpc.errors import ScalableError, StoreError

if TYPE_CHECKING:
    from scalable_hpc.cache.keys import CallKey, KeyMaker
    from scalable_hpc.cache.store import Store

_TAKES_ANY_NAME = 0x08
"""``CO_VARKEYWORDS``: the module ``inspect``, which names it, is slow to import."""


class CacheWarning(UserWarning):
    """A call was computed without the cache, or its result could not be kept."""


class CacheSpec:
    """One cacheable function: the raw callable, and the options it was declared with."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        return_type: Any = None,
        version: object = None,
        depends_on: Any = (),
        ignore: Iterable[str] | str = (),
        refresh: bool = False,
        store: bool = True,
        arg_types: Mapping[str, Any] | None = None,
    ) -> None:
        """Take note of the options.

        Raises:
            TypeError: one is not what it should be, or names no parameter.
        """
        if not hasattr(function, "__code__"):
            kind = type(function).__name__
            raise TypeError(f"@cacheable wants a plain function, not a {kind}: put it directly above the def")
        self.function = function
        self.name = f"{function.__module__}.{function.__qualname__}"
        self.return_type = return_type
        self.version = version
        self.depends_on = _each_dependency(depends_on, self.name)
        self.ignore = (ignore,) if isinstance(ignore, str) else tuple(ignore)
        self.refresh = refresh
        self.store = store
        self.arg_types = dict(arg_types or {})
        self._check()
        self._maker: KeyMaker | None = None
        self._warned: set[str] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        module, qualname = self.function.__module__, self.function.__qualname__
        if module != "__main__" and getattr(_find(module, qualname), "__scalable_cache__", None) is self:
            return _named_spec, (module, qualname)
        names = ("return_type", "version", "depends_on", "ignore", "refresh", "store", "arg_types")
        return _rebuilt_spec, (self.function, {name: getattr(self, name) for name in names})

    def prepare(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Return the arguments as the declared types want them; the function must be called with these.

        Raises:
            TypeError: one does not fit.
        """
        return self._keys().prepare(args, kwargs) if self.arg_types else (args, kwargs)

    def call_key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CallKey:
        """Return the key of a call.

        Raises:
            Unencodable: an argument, or something that the code reaches, has no encoding.
            TypeError: the arguments do not fit the signature or their declared types.
        """
        return self._keys().key(*self.prepare(args, kwargs))

    def check_result(self, value: Any) -> None:
        """Check a result against the declared return type.

        Raises:
            TypeError: it is of another type.
        """
        if self.return_type is not None:
            check_result(value, self.return_type, f"{self.name}()")

    def run(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return the result of a call, found in this process's store or computed and kept there."""
        args, kwargs = self.prepare(args, kwargs)
        key, store = self._key_and_store(args, kwargs)
        if key is None or store is None:
            value = self.function(*args, **kwargs)
            self.check_result(value)
            return value
        replace = self.refresh
        if not replace:
            found, value = self._find(store, key)
            if found:
                return value
            replace = value is _UNUSABLE
        value = self.function(*args, **kwargs)
        self.check_result(value)
        if self.store:
            self._keep(store, key, value, replace=replace)
        return value

    def warn(self, problem: ScalableError, what: str) -> None:
        """Say once for each kind of trouble that the cache is not used."""
        kind = f"{type(problem).__name__} {what}"
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(f"{self.name}(): {what}: {problem}", CacheWarning, stacklevel=4)

    def _key_and_store(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str | None, Store | None]:
        from scalable_hpc.cache.encode import Unencodable
        from scalable_hpc.cache.shared import default_store

        try:
            return self._keys().key(args, kwargs).hex, default_store()
        except (Unencodable, StoreError) as problem:
            self.warn(problem, "computed without the cache")
            return None, None

    def _find(self, store: Store, key: str) -> tuple[bool, Any]:
        from scalable_hpc.cache.serial import Unreadable
        from scalable_hpc.cache.store import MISSING

        try:
            value = store.fetch(key)
        except Unreadable:
            return False, _UNUSABLE
        except StoreError as problem:
            self.warn(problem, "computed without looking into the cache")
            return False, None
        if value is MISSING:
            return False, None
        if self.return_type is not None and not fits(value, self.return_type):
            return False, _UNUSABLE
        return True, value

    def _keep(self, store: Store, key: str, value: Any, *, replace: bool) -> None:
        from scalable_hpc.cache.serial import Unstorable, dumps

        try:
            store.publish(key, dumps(value), replace=replace)
        except (Unstorable, StoreError) as problem:
            self.warn(problem, "the result was not kept")

    def _keys(self) -> KeyMaker:
        if self._maker is None:
            from scalable_hpc.cache.keys import KeyMaker

            self._maker = KeyMaker(
                self.function,
                version=self.version,
                depends_on=self.depends_on,
                ignore=self.ignore,
                arg_types=self.arg_types,
            )
        return self._maker

    def _check(self) -> None:
        code = self.function.__code__  # type: ignore[attr-defined]
        named = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        for name, declared in self.arg_types.items():
            if name not in named and not code.co_flags & _TAKES_ANY_NAME:
                raise TypeError(f"cacheable({name}=...): neither an option nor a parameter of {self.name}()")
            check_declaration(declared, f"the parameter {name!r} of {self.name}()")
        check_declaration(self.return_type, f"the result of {self.name}()")
        if isinstance(self.return_type, type) and issubclass(self.return_type, PathType):
            raise TypeError(
                f"{self.name}() cannot be declared to return {self.return_type.__name__}: the path would be kept, "
                "not what lies there; return the content"
            )


class CacheControl:
    """What a cacheable function offers as ``function.cache``; each method takes the arguments of a call."""

    def __init__(self, spec: CacheSpec) -> None:
        self._spec = spec

    def __reduce__(self) -> tuple[Any, ...]:
        return CacheControl, (self._spec,)

    def key(self, *args: Any, **kwargs: Any) -> str:
        """Return the key of a call (64 hex digits)."""
        return self._spec.call_key(args, kwargs).hex

    def contains(self, *args: Any, **kwargs: Any) -> bool:
        """Say whether the result of a call is known."""
        return _store().lookup(self.key(*args, **kwargs)) is not None

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """Return the known result of a call, without computing.

        Raises:
            KeyError: it is not known.
        """
        from scalable_hpc.cache.store import MISSING

        value = _store().fetch(self.key(*args, **kwargs))
        if value is MISSING:
            raise KeyError(f"no result of this call of {self._spec.name}() is known")
        return value

    def forget(self, *args: Any, **kwargs: Any) -> bool:
        """Forget the result of a call; False if it was not known."""
        return _store().forget(self.key(*args, **kwargs))

    def uncached(self, *args: Any, **kwargs: Any) -> Any:
        """Compute a call without the cache: nothing is looked up, nothing is kept."""
        args, kwargs = self._spec.prepare(args, kwargs)  # type: ignore[assignment]
        return self._spec.function(*args, **kwargs)


_UNUSABLE: Any = object()
"""Stands for a result that is there and cannot be used here: the new one takes its place."""


def _store() -> Store:
    from scalable_hpc.cache.shared import default_store

    return default_store()


def _each_dependency(given: Any, name: str) -> tuple[Any, ...]:
    single = isinstance(given, str | os.PathLike | ModuleType) or callable(given)
    dependencies = (given,) if single else tuple(given)
    for each in dependencies:
        if not (isinstance(each, str | os.PathLike | ModuleType) or callable(each)):
            raise TypeError(f"depends_on of {name}() takes functions, modules, names of libraries and paths: {each!r}")
    return dependencies


def _find(module: str, qualname: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _named_spec(module: str, qualname: str) -> CacheSpec:
    __import__(module)
    spec: CacheSpec = _find(module, qualname).__scalable_cache__
    return spec


def _rebuilt_spec(function: Callable[..., Any], options: dict[str, Any]) -> CacheSpec:
    return CacheSpec(function, **options)
