"""What happens when a cacheable function is called.

Rule 1: whatever goes wrong with the cache, the call still runs: one warning, and the result as without it.
Rule 2: of several callers on one host that want one unknown result, one computes it and the others wait for it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any

from scalable_hpc.cache.declared import is_result
from scalable_hpc.cache.encode import Unencodable
from scalable_hpc.cache.flight import Flight
from scalable_hpc.cache.keys import CallKey, KeyMaker
from scalable_hpc.cache.record import Unstorable
from scalable_hpc.cache.serial import Unreadable, record_of
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
        if spec.void:
            return self._compute(args, kwargs)
        try:
            named, store = self.keys.key(args, kwargs), default_store()
            key = named.hex
            if spec.ttl_s is not None:
                store.expire(key, time.time() - spec.ttl_s)
        except (Unencodable, StoreError) as problem:
            self._warn(problem, "computed without the cache")
            return self._compute(args, kwargs)
        if spec.refresh:
            return self._make(store, named, args, kwargs, replace=True)
        found = self._find(store, key, fresh=not spec.store)
        if found is not MISSING and found is not _UNUSABLE:
            return found
        return self._make_alone(store, named, args, kwargs) if spec.store else self._compute(args, kwargs)

    def _make_alone(self, store: Store, named: CallKey, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        key = named.hex
        with store.flight(key, may_recur=bool(self._spec.ignore)) as flight:
            found = self._find(store, key, fresh=True)
            if found is not MISSING and found is not _UNUSABLE:
                return found
            return self._make(store, named, args, kwargs, replace=found is _UNUSABLE, flight=flight)

    def expire(self, key: str) -> None:
        """Forget what has outlived its time.

        Raises:
            Unencodable: that cannot be done, so that the call must not be looked up at all.
        """
        try:
            default_store().expire(key, time.time() - (self._spec.ttl_s or 0.0))
        except StoreError as problem:
            raise Unencodable(
                "result", reason=f"whether it has outlived its ttl cannot be told: {problem}"
            ) from problem

    def _make(
        self,
        store: Store,
        key: CallKey,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        replace: bool,
        flight: Flight | None = None,
    ) -> Any:
        if flight is not None:
            flight.begin()
        begun = time.perf_counter()
        value = self._compute(args, kwargs)
        run_s = time.perf_counter() - begun
        if self._spec.store and self._keep(store, key, value, run_s, replace=replace) and flight is not None:
            flight.land()
        return value

    def _compute(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        value = self._spec.function(*args, **kwargs)
        self._spec.check_result(value)
        return value

    def _find(self, store: Store, key: str, *, fresh: bool) -> Any:
        try:
            value = store.fetch(key, fresh=fresh)
        except Unreadable:
            return _UNUSABLE
        except StoreError as problem:
            self._warn(problem, "computed without looking into the cache")
            return MISSING
        declared = self._spec.return_type
        # what was kept under an earlier declaration may not fit today's
        return value if value is MISSING or declared is None or is_result(value, declared) else _UNUSABLE

    def _keep(self, store: Store, key: CallKey, value: Any, run_s: float, *, replace: bool) -> bool:
        try:
            store.publish(key.hex, record_of(value), replace=replace, core_s=run_s)
            store.note_call(key, run_s)
        except (Unstorable, StoreError) as problem:
            self._warn(problem, "the result was not kept")
            return False
        return True

    def _warn(self, problem: ScalableError, what: str) -> None:
        """Say it once for each kind of trouble; a store that fails is one, whatever it fails at."""
        kind = "store" if isinstance(problem, StoreError) else what
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(f"{self._spec.name}(): {what}: {problem}", CacheWarning, stacklevel=5)
