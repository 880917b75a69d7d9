"""Makes small results durable, many at a time, in whichever store their envelopes name.

Rule 1: one store object, and so one pack, per store and process: every thread of the courier comes here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scalable_hpc.cache.notes import NoteLines
from scalable_hpc.cache.store import Staged, Store
from scalable_hpc.model.messages import Envelope
from scalable_hpc.model.tasks import AttemptId, Locator

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """A result that is to be made durable."""

    envelope: Envelope
    data: bytes | Staged
    """The bytes of a small one, or what its slot has staged of a large one."""
    core_s: float = 0.0
    """Core-seconds that it took."""
    note: NoteLines | None = None
    """What it was computed from."""
    stray: str = ""
    """Why it must not go where its key leads."""


def store_of(envelope: Envelope, stray: str) -> str:
    """Return the store that a result goes to: its run's own, where it is not what its key says."""
    return envelope.run_store if stray and envelope.run_store is not None else envelope.store


class Publisher:
    """The stores of one courier."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stores: dict[str, Store] = {}
        self._codes: dict[str, str] = {}
        """By id, as slots have told it."""

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
            store = self._store(root)
            store.refresh()  # what the driver took back a moment ago, since it had outlived its time, must not be found
            places = store.lookup_many([envelope.key for envelope in together], fresh=False)
            found.update({one.attempt: place for one, place in zip(together, places, strict=True) if place is not None})
        return found

    def publish(self, results: Sequence[Result]) -> dict[AttemptId, Locator | Exception]:
        """Publish; for what cannot be stored, the exception stands in the place of the locator."""
        alike: dict[tuple[str, bool], list[Result]] = {}
        for result in results:
            envelope = result.envelope
            alike.setdefault((store_of(envelope, result.stray), envelope.refresh), []).append(result)
        places: dict[AttemptId, Locator | Exception] = {}
        for (root, refresh), together in alike.items():
            attempts = [one.envelope.attempt for one in together]
            items = [(one.envelope.key, one.data) for one in together]
            try:
                store = self._store(root)
                locators = store.publish_many(items, replace=refresh, core_s=[one.core_s for one in together])
                places.update(zip(attempts, locators, strict=True))
                store.note([self._whole(one.note) for one in together if one.note is not None])
            except Exception as error:
                logger.exception("%d results could not be stored in %s", len(attempts), root)
                places.update(dict.fromkeys(attempts, error))
        return places

    def _whole(self, note: NoteLines) -> NoteLines:
        """Return a note with what its slot has told of the code once, and not again."""
        if note.code_line:
            self._codes[note.code_id] = note.code_line
        return replace(note, code_line=self._codes.get(note.code_id, ""))

    def _store(self, root: str) -> Store:
        with self._lock:
            if root not in self._stores:
                self._stores[root] = Store(root)
            return self._stores[root]
