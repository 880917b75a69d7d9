"""Makes small results durable, many at a time, in whichever store their envelopes name.

Rule 1: one store object, and so one pack, per store and process: every thread of the courier comes here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from scalable_hpc.cache.store import Staged, Store
from scalable_hpc.model.messages import Envelope
from scalable_hpc.model.tasks import AttemptId, Locator

logger = logging.getLogger(__name__)

Result = tuple[Envelope, bytes | Staged]
"""An envelope and its result: the bytes of a small one, or what its slot has staged of a large one."""


class Publisher:
    """The stores of one courier."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stores: dict[str, Store] = {}

    def lookup(self, envelopes: Sequence[Envelope]) -> dict[AttemptId, Locator]:
        """Return where results lie that somebody has published already, of those that are not to be computed anew.

        Raises:
            StoreError: a store cannot be read.
        """
        by_store: dict[str, list[Envelope]] = {}
        for envelope in envelopes:
            if not envelope.refresh:
                by_store.setdefault(envelope.store, []).append(envelope)
        found = {}
        for root, together in by_store.items():
            places = self._store(root).lookup_many([envelope.key for envelope in together])
            found.update({one.attempt: place for one, place in zip(together, places, strict=True) if place is not None})
        return found

    def publish(self, results: Sequence[Result]) -> dict[AttemptId, Locator | Exception]:
        """Publish; for what cannot be stored, the exception stands in the place of the locator."""
        alike: dict[tuple[str, bool], list[Result]] = {}
        for envelope, result in results:
            alike.setdefault((envelope.store, envelope.refresh), []).append((envelope, result))
        places: dict[AttemptId, Locator | Exception] = {}
        for (root, refresh), together in alike.items():
            attempts = [envelope.attempt for envelope, _ in together]
            items = [(envelope.key, result) for envelope, result in together]
            try:
                locators = self._store(root).publish_many(items, replace=refresh)
                places.update(zip(attempts, locators, strict=True))
            except Exception as error:
                logger.exception("%d results could not be stored in %s", len(attempts), root)
                places.update(dict.fromkeys(attempts, error))
        return places

    def _store(self, root: str) -> Store:
        with self._lock:
            if root not in self._stores:
                self._stores[root] = Store(root)
            return self._stores[root]
