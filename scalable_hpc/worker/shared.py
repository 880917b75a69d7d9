"""Records of values that many tasks are given, read from the store and verified once in a slot's life.

Rule 1: bytes are kept, never values: each attempt unpickles its own, since user code may change what it is given. So
they are kept read-only, and arrays become copies; on top of a record that may be written they would be shared.
"""

from __future__ import annotations

from collections import OrderedDict

from scalable_hpc.cache.store import Store
from scalable_hpc.model.tasks import Locator

BYTES_KEPT = 256 * 1024 * 1024
"""For each slot: they count as its memory. A larger record is read again by every attempt."""


class SharedRecords:
    """The records that a slot keeps; those not asked for longest go first."""

    def __init__(self, most: int = BYTES_KEPT) -> None:
        self._most = most
        self._size = 0
        self._records: OrderedDict[str, bytes | memoryview] = OrderedDict()

    def get(self, locator: Locator, store: Store) -> bytes | memoryview:
        """Return a record's bytes, verified when they were read.

        Raises:
            Damaged: it is not what was stored, or is gone.
            StoreError: the store cannot be read.
        """
        record = self._records.get(locator.digest)
        if record is not None:
            self._records.move_to_end(locator.digest)
            return record
        record = store.read(locator)
        if len(record) > self._most:
            return record
        self._records[locator.digest] = kept = memoryview(record).toreadonly()
        self._size += len(kept)
        while self._size > self._most:
            self._size -= len(self._records.popitem(last=False)[1])
        return kept
