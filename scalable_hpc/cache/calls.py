"""What happens when a cacheable function is called.

Rule 1: whatever goes wrong with the cache, the call still runs: one warning, and the result as without it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from scalable_hpc.cache.declared import fits
from scalable_hpc.cache.encode import Unencodable
from scalable_hpc.cache.keys import KeyMaker
from scalable_hpc.cache.serial import Unreadable, Unstorable, dumps
from scalable_hpc.cache.shared import default_store
from scalable_hpc.cache.spec import CacheSpec
from scalable_hpc.cache.store import MISSING, Store
from scalable_hpc.errors import ScalableError, StoreError

_UNUSABLE: Any = object()
"""Stands for a result that is there and cannot be used here: the new one takes its place."""


class CacheWarning(UserWarning):
    """A call was computed without the cache, or its result could not be kept."""


class Caller:
    """Calls one cacheable function."""

    def __init__(self, spec: CacheSpec) -> None:
        self._spec = spec
        self._warned: set[str] = set()
        self.keys = KeyMaker(
            spec.function,
            version=spec.version,
            depends_on=spec.depends_on,
            ignore=spec.ignore,
            arg_types=spec.arg_types,
        )

    def run(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return the result of a call, found or computed."""
        spec = self._spec
        args, kwargs = self.keys.prepare(args, kwargs)
        try:
            key, store = self.keys.key(args, kwargs).hex, default_store()
        except (Unencodable, StoreError) as problem:
            self._warn(problem, "computed without the cache")
            return self._compute(args, kwargs)
        found = MISSING if spec.refresh else self._find(store, key)
        if found is not MISSING and found is not _UNUSABLE:
            return found
        value = self._compute(args, kwargs)
        if spec.store:
            self._keep(store, key, value, replace=spec.refresh or found is _UNUSABLE)
        return value

    def _compute(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        value = self._spec.function(*args, **kwargs)
        self._spec.check_result(value)
        return value

    def _find(self, store: Store, key: str) -> Any:
        try:
            value = store.fetch(key)
        except Unreadable:
            return _UNUSABLE
        except StoreError as problem:
            self._warn(problem, "computed without looking into the cache")
            return MISSING
        declared = self._spec.return_type
        # what was kept under an earlier declaration may not fit today's
        return value if value is MISSING or declared is None or fits(value, declared) else _UNUSABLE

    def _keep(self, store: Store, key: str, value: Any, *, replace: bool) -> None:
        try:
            store.publish(key, dumps(value), replace=replace)
        except (Unstorable, StoreError) as problem:
            self._warn(problem, "the result was not kept")

    def _warn(self, problem: ScalableError, what: str) -> None:
        """Say it once for each kind of trouble."""
        if what not in self._warned:
            self._warned.add(what)
            warnings.warn(f"{self._spec.name}(): {what}: {problem}", CacheWarning, stacklevel=5)
