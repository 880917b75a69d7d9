"""The writing side of a store: what this process appends, and how its threads agree on it.

Rule 1: a result can be found only once it is durable; several threads' results share one fsync.
Rule 2: of several threads that publish one key at once, the first one's result is everybody's.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from scalable_hpc.cache.blobs import Blobs
from scalable_hpc.cache.index import Index, Place
from scalable_hpc.cache.layout import Layout
from scalable_hpc.cache.packs import NewRecord, PackWriter
from scalable_hpc.cache.records import Entry, Kind, file_id
from scalable_hpc.cache.seal import Keys
from scalable_hpc.model.tasks import Locator


@dataclass(frozen=True, slots=True)
class _Pending:
    """A result that is written and not yet durable."""

    writer: PackWriter
    mark: int
    locator: Locator


class Scribe:
    """Appends results to files of this process's own; all its methods raise ``OSError`` when they cannot."""

    def __init__(self, root: str, layout: Layout, keys: Keys, blobs: Blobs, index: Index, *, durable: bool) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.lock = threading.RLock()
        """Held while the index, or what is appended, changes."""
        self.stems: set[str] = set()
        self._root = root
        self._layout = layout
        self._keys = keys
        self._blobs = blobs
        self._index = index
        self._durable = durable
        self._writers: list[PackWriter] = []
        self._pending: dict[bytes, _Pending] = {}

    def enter(self, records: list[NewRecord], *, replace: bool) -> dict[bytes, Locator]:
        """Write records down and wait until they are durable; return what is found under each key from now on."""
        with self.lock:
            found: dict[bytes, Locator] = {}
            mine: dict[bytes, NewRecord] = {}
            others: dict[bytes, _Pending] = {}
            for record in records:
                old = tuple(self._index.places(record.key))
                if replace:
                    mine[record.key] = dataclasses.replace(record, revoked=tuple(map(_revocation, old)))
                elif old:
                    found[record.key] = self._locator_of(
                        old[0].entry
                    )  # another thread was quicker, after we had looked
                elif record.key in self._pending:
                    others[record.key] = self._pending[record.key]
                else:
                    mine.setdefault(record.key, record)
            pending = self._append(list(mine.values())) if mine else {}
            self._pending.update(pending)
        try:
            for each in {
                id(each.writer): each for each in sorted((*pending.values(), *others.values()), key=_mark)
            }.values():
                self._settle(each.writer, each.mark)
        finally:
            with self.lock:
                for key, each in pending.items():
                    if self._pending.get(key) is each:
                        del self._pending[key]
        return {**found, **{key: each.locator for key, each in (others | pending).items()}}

    def revoke(self, places: Iterable[Place], *, wait: bool) -> None:
        """Take results back; with ``wait``, return only when that is durable."""
        with self.lock:
            writer = self._writer()
            mark = writer.append_entries([_revocation(place) for place in places])
        if wait:
            self._settle(writer, mark)

    def close(self) -> None:
        """Close every file."""
        writers, self._writers = self._writers, []
        for writer in writers:
            writer.close()

    def _append(self, records: list[NewRecord]) -> dict[bytes, _Pending]:
        writer = self._writer()
        mark = writer.append(records)
        return {
            record.key: _Pending(
                writer, mark, Locator(self._root, record.key.hex(), record.digest.hex(), record.size, record.data)
            )
            for record in records
        }

    def _locator_of(self, entry: Entry) -> Locator:
        return Locator(self._root, entry.key.hex(), entry.digest.hex(), entry.size)

    def _settle(self, writer: PackWriter, mark: int) -> None:
        """Wait until what was appended is durable, then let it be found."""
        writer.sync(mark)
        with self.lock:
            self._index.feed(writer.stem, writer.entries_after(self._index.known(writer.stem)))

    def _writer(self) -> PackWriter:
        if not self._writers:
            self._blobs.sweep(time.time())
        if not self._writers or not self._writers[-1].usable:
            # an old one stays open: other threads may still be waiting for its files
            stem = f"{self.name}-{len(self._writers)}"
            self.stems.add(stem)
            self._writers.append(PackWriter(self._layout.packs, stem, self._keys.seal(stem), durable=self._durable))
        return self._writers[-1]


def _mark(pending: _Pending) -> int:
    return pending.mark


def _revocation(place: Place) -> Entry:
    return Entry(Kind.REVOKED, place.entry.key, file_id(place.stem), place.ordinal, 0, int(time.time()))
