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
import logging
import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from blake3 import blake3

from scalable_hpc.cache.blobs import Blobs
from scalable_hpc.cache.bulk import without_collections
from scalable_hpc.cache.flight import Flight
from scalable_hpc.cache.index import Index, Place
from scalable_hpc.cache.keyring import keys_here
from scalable_hpc.cache.layout import open_layout
from scalable_hpc.cache.notebook import Notebook
from scalable_hpc.cache.notes import NoteLines
from scalable_hpc.cache.packs import NewRecord, take_in_news
from scalable_hpc.cache.recent import Recent
from scalable_hpc.cache.record import Record
from scalable_hpc.cache.records import Entry
from scalable_hpc.cache.scribe import Scribe
from scalable_hpc.cache.serial import loads
from scalable_hpc.cache.settings import CacheSettings, Durability, Verify, settings_here
from scalable_hpc.cache.tallies import Tally
from scalable_hpc.cache.verify import Damaged, RecordReader
from scalable_hpc.errors import StoreError
from scalable_hpc.model.tasks import Locator

if TYPE_CHECKING:
    from scalable_hpc.cache.keys import CallKey

SMALL = 64 * 1024
"""Bytes up to which a result goes into a pack and rides inline: many times a usual result, and little on a wire."""
MISSING: Any = object()
"""What ``fetch`` returns for a key that has no result: None is one."""

REVIEW_S = 1.0
"""Seconds after which even a known result is looked for anew: somebody may have taken it back or replaced it."""

RECONSIDER_S = 2.0
"""Seconds after which a record that was not (all) there is looked for again: caches of file systems are as slow."""
_T = TypeVar("_T")
logger = logging.getLogger(__name__)
_told: set[str] = set()
"""Stores of which was said that not all their records are believed."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A large result that lies in the store already and has no key yet."""

    digest: str
    """BLAKE3 of its bytes (64 hex digits)."""
    size: int


class Store:
    """A result store; safe to use from many threads, and after a fork."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        durability: Durability | None = None,
        verify: Verify | None = None,
        create: bool = True,
    ) -> None:
        """Open a store.

        Args:
            root: Its directory; ``v1`` below it holds everything.
            durability: What ``publish`` waits for: the disk (``fsync``), or only the file server (``close``).
            verify: How often a large result is verified: ``always``, ``once`` in this process (its file must not have
                changed since), or ``never``. Small ones always are. What is not said is as this process's settings.
            create: Make it when it is not there.

        Raises:
            StoreError: it cannot be opened or made, or belongs to another user.
        """
        usual = settings_here()
        care = CacheSettings(durability or usual.durability, verify or usual.verify)
        self.root = str(Path(root).absolute())
        self._durable = care.durability == "fsync"
        self._verify = care.verify
        self._layout = open_layout(Path(self.root), create=create)
        self._blobs = Blobs(self._layout, durable=self._durable)
        self._keys = keys_here(create=create)
        self._index = Index(self._keys)
        self._tally = Tally(self._layout.notes)
        self._closed = False
        self._looked_at = 0.0
        """When the index files were last read, in seconds since the epoch; 0 for never."""
        self._begin()
        _stores.add(self)

    def _begin(self) -> None:
        """Start as a writer that has written nothing yet."""
        self._recent = Recent()
        self._records = RecordReader(self._layout, self._blobs, self._verify)
        self._scribe = Scribe(self.root, self._layout, self._keys, self._blobs, self._index, durable=self._durable)
        self._notebook = Notebook(self._layout.notes, self._scribe.name)

    def __enter__(self) -> Store:  # noqa: PYI034 - typing.Self needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        self._look_once()
        return len(self._index)

    def lookup(self, key: str, *, fresh: bool = True) -> Locator | None:
        """Return where the result of a key lies, or None.

        Args:
            key: 64 hex digits.
            fresh: On a miss, look for what others have published in the meantime (one directory listing); on a hit,
                too, if nobody has looked for a second.

        Raises:
            StoreError: the store cannot be read.
        """
        return self.lookup_many([key], fresh=fresh)[0]

    def lookup_many(self, keys: Sequence[str], *, fresh: bool = True, tally: bool = False) -> list[Locator | None]:
        """Return where the results of several keys lie; at most one look for news serves them all.

        Args:
            keys: 64 hex digits each.
            fresh: As for ``lookup``.
            tally: Count what is found as hits: it will be used in place of computing.

        Raises:
            StoreError: the store cannot be read.
        """
        self._look_once()
        if fresh:
            self._review()
        with without_collections(len(keys)):
            raw_keys = list(map(_raw, keys))
            found = list(map(self._index.locate, raw_keys))
            if fresh and None in found:
                self.refresh()
                found = [there or self._index.locate(key) for key, there in zip(raw_keys, found, strict=True)]
            if tally:
                self._tally.found.extend([there[2] for there in found if there is not None])
            root = self.root
            return [
                None if there is None else Locator(root, key, there[0].hex(), there[1])
                for key, there in zip(map(str.lower, keys), found, strict=True)
            ]

    def fetch(self, key: str, *, fresh: bool = True) -> Any:
        """Return the result of a key as a value of its own, or ``MISSING``; a damaged copy counts as none.

        What is found is counted as a hit.

        Raises:
            StoreError: the store cannot be read.
            Unreadable: the result cannot be unpickled here.
        """
        raw_key = _raw(key)
        if self._looked_at and fresh:
            self._review()
        handle = self._index.handle(raw_key)
        known = None if handle is None else self._recent.get(handle)
        if known is not None:
            self._tally.found.append(known[1])
            return loads(known[0])
        while (place := self._first(raw_key, fresh=fresh)) is not None:
            data = self._verified(place)
            if data is not None:
                self._tally.found.append(place.entry.core_s)
                if isinstance(data, bytes):
                    self._recent.keep(place.handle, data, place.entry.core_s)
                return loads(data)
        return MISSING

    def refresh(self) -> None:
        """Take in what others have published.

        Raises:
            StoreError: the store cannot be read.
        """
        with self._scribe.lock:
            self._check_open()
            begun = time.time()
            self._trying("read", lambda: take_in_news(self._layout.packs, self._index, self._scribe.stems))
            self._index.reconsider(begun - RECONSIDER_S)
            self._looked_at = begun
            self._tell_of_strangers()

    def _tell_of_strangers(self) -> None:
        """Say once that there is more than is believed: somebody may wonder where results are."""
        if self._index.foreign and self.root not in _told:
            _told.add(self.root)
            logger.warning(
                "%d records of the result store %r are sealed with another key: they are not used, and left alone",
                self._index.foreign,
                self.root,
            )

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
        raw_keys = [_raw(key) for key, _ in results]
        self.refresh()  # whatever is there already, to stay or to be replaced, must be known
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

    def read(self, locator: Locator) -> bytes | memoryview:
        """Return a result's record, verified.

        Raises:
            Damaged: it is not what was stored, or is gone; the copy was put out of the way.
            StoreError: the store cannot be read.
        """
        digest = bytes.fromhex(locator.digest)
        if locator.inline is not None:
            if blake3(locator.inline).digest() != digest:
                raise Damaged(f"the result {locator.key!r} was changed on its way here")
            return locator.inline
        key = _raw(locator.key)
        self._check_open()
        if locator.size > SMALL:
            # named by its content, so that nobody needs the index to find it
            with contextlib.suppress(Damaged):
                blob = self._trying("read", lambda: self._records.read_blob(digest, locator.size))
                if blob is not None:
                    return blob
        self._look_once()
        for look_again in (True, False):
            for place in self._index.places(key):
                data = self._verified(place) if place.entry.digest == digest else None
                if data is not None:
                    return data
            if look_again:
                self.refresh()
        raise Damaged(f"the result {locator.key!r} in {self.root!r} is damaged or gone")

    def load(self, locator: Locator) -> Any:
        """Return a result as a value of its own.

        Raises:
            Damaged: it is not what was stored, or is gone.
            StoreError: the store cannot be read.
            Unreadable: it cannot be unpickled here.
        """
        return loads(self.read(locator))

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
        return self._withdraw(_raw(key), lambda _: True)

    def expire(self, key: str, before: float) -> bool:
        """Take back the results of a key that were made before a time, give or take a second; False if there was none.

        Args:
            key: 64 hex digits.
            before: Seconds since the epoch; each result's time is that of its writer's clock.

        Raises:
            StoreError: the store cannot be read, or it could not be written down.
        """
        raw_key = _raw(key)
        if self._looked_at < before:  # what we have not seen yet may be as old as that
            self.refresh()
        return self._withdraw(raw_key, lambda entry: entry.created + 1 < before)

    def _withdraw(self, key: bytes, is_meant: Callable[[Entry], bool]) -> bool:
        with self._scribe.lock:
            places = [place for place in self._index.places(key) if is_meant(place.entry)]
        if places:
            self._trying("written", lambda: self._scribe.revoke(places, wait=True))
            for other in list(_stores):  # of this process, at the same root
                if other is not self and other.root == self.root:
                    with contextlib.suppress(StoreError):  # it was closed, or will find out for itself
                        other.refresh()
        return bool(places)

    def keys(self) -> Iterator[str]:
        """Return every key that has a result, as of the last look at the store."""
        self._look_once()
        return map(bytes.hex, self._index.keys())

    def close(self) -> None:
        """Close every file; what was published stays."""
        self._tally.flush()
        with self._scribe.lock:
            self._closed = True
            self._abandon()

    def after_fork(self) -> None:
        """Start anew in a forked child: the parent's files are its own, and its threads left things half-done."""
        self._index = Index(self._keys)
        self._tally = Tally(self._layout.notes)
        self._looked_at = 0.0
        self._abandon()

    def _abandon(self) -> None:
        scribe, records, notebook = self._scribe, self._records, self._notebook
        self._begin()
        records.close()
        scribe.close()
        notebook.close()

    def note(self, notes: Iterable[NoteLines]) -> None:
        """Write down what results were computed from, once they are published; nothing fails for want of it."""
        self._notebook.write(notes)

    def note_call(self, key: CallKey, run_s: float) -> None:
        """Write down what one result was computed from, and in how many seconds."""
        self._notebook.write_call(key, run_s)

    def flush_tally(self) -> None:
        """Write down what was found so far; ``close`` and the end of the process do it too."""
        self._tally.flush()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"the result store {self.root!r} was closed")

    def _trying(self, what: str, act: Callable[[], _T]) -> _T:
        try:
            return act()
        except OSError as err:
            hint = "free space there, or set SCALABLE_HPC_CACHE_DIR to another directory" if what == "written" else None
            raise StoreError(f"the result store {self.root!r} cannot be {what}: {err}", hint=hint) from err

    def _look_once(self) -> None:
        """Read the index when it is first needed: who only stages and reads large results never does."""
        self._check_open()
        if not self._looked_at:
            self.refresh()

    def _review(self) -> None:
        """Look for news if it is time; where that fails, what is known serves on."""
        if time.time() - self._looked_at > REVIEW_S:
            self._tally.flush_now_and_then()
            with contextlib.suppress(StoreError):
                self.refresh()

    def _first(self, key: bytes, *, fresh: bool) -> Place | None:
        self._look_once()
        if fresh:
            self._review()
        place = self._index.first(key)
        if place is None and fresh:
            self.refresh()
            place = self._index.first(key)
        return place

    def _locator(self, entry: Entry, inline: bytes | None = None) -> Locator:
        return Locator(self.root, entry.key.hex(), entry.digest.hex(), entry.size, inline)

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

    def _verified(self, place: Place) -> bytes | memoryview | None:
        """Return a record if it is what was stored; else see to it that it is not met again (soon)."""
        try:
            data = self._trying("read", lambda: self._records.read(place))
        except Damaged:
            self._take_back(place)
            with self._scribe.lock:
                self._index.drop(place)
            return None
        if data is None:
            with self._scribe.lock:
                self._index.set_aside(place, time.time())
        return data

    def _take_back(self, place: Place) -> None:
        # in a store that cannot be written to, every reader finds out for itself
        with contextlib.suppress(OSError):
            self._scribe.revoke([place], wait=False)


def _raw(key: str) -> bytes:
    raw = bytes.fromhex(key)
    if len(raw) != 32:  # noqa: PLR2004 - 256 bits
        raise ValueError(f"a key has 64 hex digits: {key!r}")
    return raw


_stores: weakref.WeakSet[Store] = weakref.WeakSet()


def _after_fork() -> None:
    for store in list(_stores):
        store.after_fork()


def flush_tallies() -> None:
    """Write down what this process's stores were found to hold; for processes that end without Python's farewell."""
    for store in list(_stores):
        store.flush_tally()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(flush_tallies)
