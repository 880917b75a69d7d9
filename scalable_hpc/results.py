"""The stores that a run reads and writes, opened when first needed, by root."""

from __future__ import annotations

import contextlib
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from blake3 import blake3

from scalable_hpc.cache.serial import dumps
from scalable_hpc.cache.store import SMALL, Store
from scalable_hpc.cache.verify import Damaged
from scalable_hpc.errors import StoreError
from scalable_hpc.model.tasks import Locator

Source = Callable[[], bytes | None]
"""Returns a value's record, as it was when it was stored; None: the value is not there any more, or another one."""


def _nothing() -> None:
    return None


def key_of_value(data: bytes) -> str:
    """Return the key that a value is put under, by its record."""
    return blake3(b"put\0" + blake3(data, max_threads=blake3.AUTO).digest()).hexdigest()


class Shared:
    """A value of a kind that has no weak references (a list, a dict), kept only while somebody else has it too."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __call__(self) -> Any:
        """Return it; None: it was let go."""
        return self._value

    @property
    def references(self) -> int:
        """How many there are to it, as Python counts them."""
        return sys.getrefcount(self._value)

    @property
    def is_ours_alone(self) -> bool:
        """Whether nobody else has it any more."""
        return self.references <= _OURS

    def let_go(self) -> None:
        """Keep it no longer."""
        self._value = None


_OURS = Shared([]).references
"""To a value that nobody else has."""


def source_of(value: Any, data: bytes, key: str) -> tuple[Source, Shared | None]:
    """Return a way to have a value's record again that keeps no large value alive; and what to let go of for that.

    Whoever keeps the latter sees to it that it is let go of when it is ours alone.
    """
    if len(data) <= SMALL:
        return (lambda: data), None
    shared = None
    try:
        alive: Callable[[], Any] = weakref.ref(value)
    except TypeError:
        alive = shared = Shared(value)

    def again() -> bytes | None:
        there = alive()
        found = None if there is None else dumps(there)
        return found if found is not None and key_of_value(found) == key else None  # it may have been changed since

    return again, shared


class Stores:
    """Every store of this process, one instance a root; usable from any thread."""

    def __init__(self) -> None:
        self._open: dict[str, Store] = {}
        self._lock = threading.Lock()
        self._sources: dict[str, Source] = {}
        """By key."""
        self._shared: dict[str, Shared] = {}
        """By key too."""

    def at(self, root: str) -> Store:
        """Return the store of a root; it is made when it is not there.

        Raises:
            StoreError: it cannot be made, or belongs to another user.
        """
        with self._lock:
            store = self._open.get(root)
            if store is None:
                store = self._open[root] = Store(Path(root))
        return store

    def lookup(self, store: str, key: str, *, fresh: bool = True) -> Locator | None:
        """Return where a result lies; None where there is none, or its store cannot be read.

        Without ``fresh`` only what is known already is looked at; with it, what other writers added meanwhile too.
        """
        try:
            return self.at(store).lookup(key, fresh=fresh)
        except StoreError:
            return None

    def find_hits(self, store: str, keys: Sequence[str]) -> list[Locator | None]:
        """Return where results lie that will be used in place of computing; they are counted as hits.

        None where there is none, or the store cannot be read.
        """
        try:
            return self.at(store).lookup_many(keys, tally=True)
        except StoreError:
            return [None] * len(keys)

    def remember(self, key: str, value: Any, data: bytes) -> None:
        """Keep a way to have a value again that was put into a store, should its copy there be lost.

        Args:
            key: that it was put under.
            value: not kept alive by this, if it is large; see ``let_go_of_values``.
            data: its record.
        """
        self._sources[key], shared = source_of(value, data, key)
        if shared is not None:
            self._shared[key] = shared

    def let_go_of_values(self) -> None:
        """Forget large values that nobody else has any more; to be called now and then."""
        for key, shared in list(self._shared.items()):
            if shared.is_ours_alone:
                shared.let_go()
                self._shared.pop(key, None)

    def confirm(self, store: str, key: str) -> Locator | None:
        """Read a result that seems to be damaged and return where a sound one lies; one that was put is put again.

        Raises:
            StoreError: the store cannot be read or written.
        """
        there = self.at(store)
        damaged: set[str] = set()
        while (found := there.lookup(key)) is not None and found.digest not in damaged:
            with contextlib.suppress(Damaged):
                there.read(found)
                return found
            damaged.add(found.digest)  # another writer's copy may be sound
        data = self._sources.get(key, _nothing)()
        return None if data is None else there.publish(key, data)

    def load(self, locator: Locator) -> Any:
        """Read, verify and unpickle a result.

        Raises:
            Damaged: it fails its digest; it was quarantined.
        """
        return self.at(locator.store).load(locator)

    def close(self) -> None:
        """Close all."""
        with self._lock:
            stores, self._open = list(self._open.values()), {}
        for store in stores:
            store.close()
