"""The result store: keys to durable results, shared by any number of processes on any number of nodes, without locks.

Every process appends to files of its own and reads everybody's. A result is published once: whoever comes second
gets the first one's. Each record carries the BLAKE3 digest of its bytes; what does not match is put in quarantine,
and the caller computes it again.

Rule 1: ``publish`` returns only when the result will outlive this process (``close``) or this machine (``fsync``).
Rule 2: nothing is returned unverified; nothing that is damaged is fatal.
Rule 3: a store that is full, read-only or unreachable raises ``StoreError``; what to do about it is the caller's.
"""

from __future__ import annotations

import atexit
import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blake3 import blake3

from scalable_hpc.cache.flight import Flight
from scalable_hpc.cache.notes import NoteLines
from scalable_hpc.cache.opened import RECONSIDER_S, REVIEW_S, open_stores
from scalable_hpc.cache.packs import NewRecord
from scalable_hpc.cache.record import Record
from scalable_hpc.cache.records import Entry
from scalable_hpc.cache.shelf import MISSING, SMALL, Shelf, key_bytes
from scalable_hpc.cache.verify import Damaged
from scalable_hpc.errors import StoreError
from scalable_hpc.model.tasks import Locator

if TYPE_CHECKING:
    from scalable_hpc.cache.keys import CallKey

__all__ = ["MISSING", "RECONSIDER_S", "REVIEW_S", "SMALL", "Damaged", "Staged", "Store"]


@dataclass(frozen=True, slots=True)
class Staged:
    """A large result that lies in the store already and has no key yet."""

    digest: str
    """BLAKE3 of its bytes (64 hex digits)."""
    size: int


class Store(Shelf):
    """A result store; safe to use from many threads, and after a fork."""

    def publish(self, key: str, data: bytes | Record, *, replace: bool = False, core_s: float = 0.0) -> Locator:
        """Store a result's record under a key and return when it is durable.

        Args:
            key: 64 hex digits.
            data: The record, from ``serial.dumps``; or from ``serial.record_of``, which copies nothing large.
            replace: Take the place of what is there; otherwise the first publisher wins, and its result is returned.
            core_s: Core-seconds that computing it took: what every hit will save.

        Raises:
            StoreError: it could not be stored.
            Unstorable: a file that it names cannot be read any more.
        """
        return self.publish_many([(key, data)], replace=replace, core_s=(core_s,))[0]

    def publish_many(
        self,
        results: Sequence[tuple[str, bytes | Record | Staged]],
        *,
        replace: bool = False,
        core_s: Sequence[float] = (),
    ) -> list[Locator]:
        """Store several results, as ``publish`` and ``publish_staged`` do, with one look, one write and one fsync.

        Args:
            results: Keys, each with the record or what was staged of it.
            replace: As for ``publish``, for all of them.
            core_s: Core-seconds that each one took to compute, in the same order; empty where nobody knows.

        Raises:
            StoreError: not all could be stored; those that were will be found.
        """
        raw_keys = [key_bytes(key) for key, _ in results]
        self._look_for(raw_keys)  # whatever is there already, to stay or to be replaced, must be known
        there = [None if replace else self._sound(key) for key in raw_keys]
        new = [
            self._new_record(key, data, spent_s)
            for key, (_, data), locator, spent_s in zip(
                raw_keys, results, there, core_s or (0.0,) * len(results), strict=True
            )
            if locator is None
        ]
        entered = self._trying("written", lambda: self._scribe.enter(new, replace=replace)) if new else {}
        return [locator or entered[key] for key, locator in zip(raw_keys, there, strict=True)]

    def stage(self, data: bytes | Record) -> Staged:
        """Store a large result's record alone, durably; ``publish_staged``, here or elsewhere, gives it a key.

        Raises:
            StoreError: they could not be stored.
        """
        self._check_open()
        chunks = data.chunks() if isinstance(data, Record) else [data]
        digest = self._trying("written", lambda: self._blobs.write(chunks, self._scribe.name))
        return Staged(digest.hex(), len(data))

    def publish_staged(self, key: str, staged: Staged, *, replace: bool = False) -> Locator:
        """Give staged bytes a key, as ``publish`` does.

        Raises:
            StoreError: it could not be written down.
        """
        return self.publish_many([(key, staged)], replace=replace)[0]

    def flight(self, key: str, *, may_recur: bool = False) -> Flight:
        """Return a context in which nobody else on this host computes the same, as far as that can be had.

        Whoever enters it must look again for a result: it may have waited for somebody who made one.

        Args:
            key: 64 hex digits.
            may_recur: Whether the computation may want this very key again.
        """
        return Flight(self._layout.locks, key, may_recur=may_recur)

    def forget(self, key: str) -> bool:
        """Take back every result of a key; False if there was none.

        Raises:
            StoreError: it could not be written down.
        """
        self.refresh()
        return self._withdraw(key_bytes(key), lambda _: True)

    def expire(self, key: str, before: float) -> bool:
        """Take back the results of a key that were made before a time, give or take a second; False if there was none.

        Args:
            key: 64 hex digits.
            before: Seconds since the epoch; each result's time is that of its writer's clock.

        Raises:
            StoreError: the store cannot be read, or it could not be written down.
        """
        raw_key = key_bytes(key)
        if self._looked_at < before:  # what we have not seen yet may be as old as that
            self.refresh()
        return self._withdraw(raw_key, lambda entry: entry.created + 1 < before)

    def note(self, notes: Iterable[NoteLines]) -> None:
        """Write down what results were computed from, once they are published; nothing fails for want of it."""
        self._notebook.write(notes)

    def note_call(self, key: CallKey, run_s: float) -> None:
        """Write down what one result was computed from, and in how many seconds."""
        self._notebook.write_call(key, run_s)

    def _withdraw(self, key: bytes, is_meant: Callable[[Entry], bool]) -> bool:
        with self._scribe.lock:
            places = [place for place in self._index.places(key) if is_meant(place.entry)]
        if places:
            self._trying("written", lambda: self._scribe.revoke(places, wait=True))
            for other in list(open_stores):  # of this process, at the same root
                if other is not self and other.root == self.root:
                    with contextlib.suppress(StoreError):  # it was closed, or will find out for itself
                        other.refresh()
        return bool(places)

    def _sound(self, key: bytes) -> Locator | None:
        """Return the result of a key if there is one and it can be read: it is about to be relied on."""
        while (place := self._index.first(key)) is not None:
            data = self._verified(place)
            if data is not None:
                return self._locator(place.entry, bytes(data) if place.entry.size <= SMALL else None)
        return None

    def _new_record(self, key: bytes, data: bytes | Record | Staged, core_s: float) -> NewRecord:
        if isinstance(data, Staged):
            return NewRecord(key, bytes.fromhex(data.digest), data.size, None, core_s=core_s)
        if len(data) > SMALL:
            return self._new_record(key, self.stage(data), core_s)
        if isinstance(data, Record):
            data = data.join()
        return NewRecord(key, blake3(data).digest(), len(data), bytes(data), core_s=core_s)


def flush_tallies() -> None:
    """Write down what this process's stores were found to hold; for processes that end without Python's farewell."""
    for store in list(open_stores):
        store.flush_tally()


atexit.register(flush_tallies)
