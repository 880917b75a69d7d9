"""Makes small results durable, many at a time, in whichever store their envelopes name.

Rule 1: one store object, and so one pack, per store and process: every thread of the courier comes here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from scalable_hpc.cache.store import Store
from scalable_hpc.model.messages import Envelope
from scalable_hpc.model.tasks import AttemptId, Locator

logger = logging.getLogger(__name__)

Result = tuple[Envelope, bytes]


class Publisher:
    """The stores of one courier."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stores: dict[str, Store] = {}

    def lookup(self, envelope: Envelope) -> Locator | None:
        """Return where the envelope's result lies, if somebody has published it already."""
        return self._store(envelope.store).lookup(envelope.key)

    def publish(self, results: Sequence[Result]) -> dict[AttemptId, Locator | Exception]:
        """Publish; for those of a store that fails, the exception stands in the place of the locator."""
        by_store: dict[str, list[Result]] = {}
        for result in results:
            by_store.setdefault(result[0].store, []).append(result)
        places: dict[AttemptId, Locator | Exception] = {}
        for root, together in by_store.items():
            attempts = [envelope.attempt for envelope, _ in together]
            try:
                items = [(envelope.key, data) for envelope, data in together]
                places.update(zip(attempts, self._store(root).publish_many(items), strict=True))
            except Exception as error:
                logger.exception("Results could not be stored in %s", root)
                places.update(dict.fromkeys(attempts, error))
        return places

    def _store(self, root: str) -> Store:
        with self._lock:
            if root not in self._stores:
                self._stores[root] = Store(Path(root))
            return self._stores[root]
