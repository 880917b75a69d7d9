"""The stores that a run reads and writes, opened when first needed, by root."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scalable_hpc.cache.store import Store
from scalable_hpc.errors import StoreError
from scalable_hpc.model.tasks import Locator


class Stores:
    """Every store of this process, one instance a root; usable from any thread."""

    def __init__(self) -> None:
        self._open: dict[str, Store] = {}
        self._lock = threading.Lock()

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
