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
        found = {}
        askable = [envelope for envelope in envelopes if not envelope.refresh]
        for root in {envelope.store for envelope in askable}:
            store, is_fresh = self._store(root), True
            for envelope in askable:
                if envelope.store == root:
                    locator = store.lookup(envelope.key, fresh=is_fresh)
                    is_fresh = is_fresh and locator is not None  # one look at what others have published is enough
                    if locator is not None:
                        found[envelope.attempt] = locator
        return found

    def publish(self, results: Sequence[Result]) -> dict[AttemptId, Locator | Exception]:
        """Publish; for what cannot be stored, the exception stands in the place of the locator."""
        return {envelope.attempt: self._publish_one(envelope, result) for envelope, result in results}

    def _publish_one(self, envelope: Envelope, result: bytes | Staged) -> Locator | Exception:
        try:
            store = self._store(envelope.store)
            if isinstance(result, Staged):
                return store.publish_staged(envelope.key, result, replace=envelope.refresh)
            return store.publish(envelope.key, result, replace=envelope.refresh)
        except Exception as error:
            logger.exception("The result of %s could not be stored in %s", envelope.attempt, envelope.store)
            return error

    def _store(self, root: str) -> Store:
        with self._lock:
            if root not in self._stores:
                self._stores[root] = Store(root)
            return self._stores[root]
