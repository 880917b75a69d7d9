"""What the decorator said about a function, and what follows from it for each call.

Rule 1: cheap to import and to make: it is made when the user's module is imported.
Rule 2: a spec travels to other processes with its function; what it remembers stays behind.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from scalable_hpc.cache.declared import check_declaration, check_result

if TYPE_CHECKING:
    from datetime import timedelta

    from scalable_hpc.cache.calls import Caller
    from scalable_hpc.cache.keys import CallKey
    from scalable_hpc.cache.store import Store

_TAKES_ANY_NAME = 0x08
"""``CO_VARKEYWORDS``: the module ``inspect``, which names it, is slow to import."""


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
        void: bool = False,
        check_output: bool = False,
        ttl: float | timedelta | None = None,
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
        self.store = store and not void
        """Whether results are kept; what a ``void`` function returns is not looked for either."""
        self.void = void
        self.check_output = check_output
        self.ttl_s = _seconds(ttl, self.name)
        self.arg_types = dict(arg_types or {})
        self._check()
        self._made: Caller | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        module, qualname = self.function.__module__, self.function.__qualname__
        if module != "__main__" and getattr(_find(module, qualname), "__scalable_cache__", None) is self:
            return _named_spec, (module, qualname)
        names = (
            "return_type",
            "version",
            "depends_on",
            "ignore",
            "refresh",
            "store",
            "void",
            "check_output",
            "arg_types",
        )
        return _rebuilt_spec, (self.function, {name: getattr(self, name) for name in names} | {"ttl": self.ttl_s})

    @property
    def manner(self) -> str:
        """What the declaration adds to the code where another function calls this one."""
        return f"{self.version!r} {sorted((name, str(declared)) for name, declared in self.arg_types.items())}"

    def prepare(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Return the arguments as the declared types want them; the function must be called with these.

        Raises:
            TypeError: one does not fit.
        """
        return self._caller().keys.prepare(args, kwargs) if self.arg_types else (args, kwargs)

    def call_key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CallKey:
        """Return the key of a call that is about to be looked up: what has outlived its ``ttl`` is forgotten first.

        Raises:
            Unencodable: an argument, or something that the code reaches, has no encoding; or a result that has
                outlived its time cannot be forgotten.
            TypeError: the arguments do not fit the signature or their declared types.
        """
        key = self.name_call(args, kwargs)
        if self.ttl_s is not None:
            self._caller().expire(key.hex)
        return key

    def name_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CallKey:
        """Return the key of a call, and touch nothing.

        Raises:
            Unencodable: an argument, or something that the code reaches, has no encoding.
            TypeError: the arguments do not fit the signature or their declared types.
        """
        return self._caller().keys.key(*self.prepare(args, kwargs))

    def check_result(self, value: Any) -> None:
        """Check a result against the declared return type, before it is kept.

        Raises:
            TypeError: it is of another type.
        """
        if self.check_output:
            from scalable_hpc.cache.outputs import demand_strictness

            demand_strictness(value)
        if self.return_type is not None:
            check_result(value, self.return_type, f"{self.name}()")

    def run(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return the result of a call, found in this process's store or computed and kept there."""
        return self._caller().run(args, kwargs)

    def _caller(self) -> Caller:
        caller = self._made
        if caller is None:
            from scalable_hpc.cache.calls import Caller

            caller = self._made = Caller(self)
        return caller

    def _check(self) -> None:
        signed: Any = self.function
        while hasattr(signed, "__wrapped__"):  # a decorated function has the parameters of what it wraps
            signed = signed.__wrapped__
        code = signed.__code__
        named = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        for name, declared in self.arg_types.items():
            if name not in named and not code.co_flags & _TAKES_ANY_NAME:
                raise TypeError(f"cacheable({name}=...): neither an option nor a parameter of {self.name}()")
            check_declaration(declared, f"the parameter {name!r} of {self.name}()")
        check_declaration(self.return_type, f"the result of {self.name}()")


class CacheControl:
    """What a cacheable function offers as ``function.cache``; each method takes the arguments of a call."""

    def __init__(self, spec: CacheSpec) -> None:
        self._spec = spec

    def __reduce__(self) -> tuple[Any, ...]:
        return CacheControl, (self._spec,)

    def key(self, *args: Any, **kwargs: Any) -> str:
        """Return the key of a call (64 hex digits)."""
        return self._spec.name_call(args, kwargs).hex

    def contains(self, *args: Any, **kwargs: Any) -> bool:
        """Say whether the result of a call is known."""
        return _store().lookup(self._spec.call_key(args, kwargs).hex) is not None

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """Return the known result of a call, without computing.

        Raises:
            KeyError: it is not known.
        """
        from scalable_hpc.cache.store import MISSING

        value = _store().fetch(self._spec.call_key(args, kwargs).hex)
        if value is MISSING:
            raise KeyError(f"no result of this call of {self._spec.name}() is known")
        return value

    def forget(self, *args: Any, **kwargs: Any) -> bool:
        """Forget the result of a call; False if it was not known."""
        return _store().forget(self.key(*args, **kwargs))

    def uncached(self, *args: Any, **kwargs: Any) -> Any:
        """Compute a call without the cache: nothing is looked up, nothing is kept."""
        positional, named = self._spec.prepare(args, kwargs)
        return self._spec.function(*positional, **named)


def _store() -> Store:
    from scalable_hpc.cache.shared import default_store

    return default_store()


def _each_dependency(given: Any, name: str) -> tuple[Any, ...]:
    single = isinstance(given, str | os.PathLike | ModuleType) or callable(given)
    dependencies = tuple(given) if not single and hasattr(given, "__iter__") else (given,)
    for each in dependencies:
        if not (isinstance(each, str | os.PathLike | ModuleType) or callable(each)):
            raise TypeError(f"depends_on of {name}() takes functions, modules, names of libraries and paths: {each!r}")
    return dependencies


def _seconds(ttl: float | timedelta | None, name: str) -> float | None:
    if ttl is None:
        return None
    # by what it offers: importing datetime costs more than all of this
    seconds = ttl.total_seconds() if hasattr(ttl, "total_seconds") else ttl
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise TypeError(f"ttl of {name}() takes seconds above zero, or a timedelta: {ttl!r}")
    return float(seconds)


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
