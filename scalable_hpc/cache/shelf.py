"""The reading side of a store: what is known of it, looked up, verified and handed out.

Rule 1: nothing is returned unverified; nothing that is damaged is fatal.
Rule 2: what others add, replace and take back is seen after a second at the latest, as far as the file system shows it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from blake3 import blake3

from scalable_hpc.cache.blobs import Blobs
from scalable_hpc.cache.bulk import without_collections
from scalable_hpc.cache.index import Index, Place
from scalable_hpc.cache.keyring import keys_here
from scalable_hpc.cache.layout import open_layout
from scalable_hpc.cache.notebook import Notebook
from scalable_hpc.cache.packs import take_in_news
from scalable_hpc.cache.recent import Recent
from scalable_hpc.cache.records import Entry
from scalable_hpc.cache.scribe import Scribe
from scalable_hpc.cache.serial import loads
from scalable_hpc.cache.settings import CacheSettings, Durability, Verify, settings_here
from scalable_hpc.cache.tallies import Tally
from scalable_hpc.cache.verify import Damaged, RecordReader
from scalable_hpc.errors import StoreError
from scalable_hpc.model.tasks import Locator

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
_S = TypeVar("_S", bound="Shelf")


class Shelf:
    """A store as its readers see it; safe to use from many threads, and after a fork."""

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
        open_stores.add(self)

    def _begin(self) -> None:
        """Start as a writer that has written nothing yet."""
        self._recent = Recent()
        self._records = RecordReader(self._layout, self._blobs, self._verify)
        self._scribe = Scribe(self.root, self._layout, self._keys, self._blobs, self._index, durable=self._durable)
        self._notebook = Notebook(self._layout.notes, self._scribe.name)

    def __enter__(self: _S) -> _S:  # noqa: PYI019 - typing.Self needs Python 3.11
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
            raw_keys = list(map(key_bytes, keys))
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

        What is found is counted as a hit. NumPy arrays that are mapped are read-only.

        Raises:
            StoreError: the store cannot be read.
            Unreadable: the result cannot be unpickled here.
        """
        raw_key = key_bytes(key)
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
                return loads(data, frozen=True)
        return MISSING

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
        key = key_bytes(locator.key)
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
        """Return a result as a value of its own; NumPy arrays that are mapped are read-only.

        Raises:
            Damaged: it is not what was stored, or is gone.
            StoreError: the store cannot be read.
            Unreadable: it cannot be unpickled here.
        """
        return loads(self.read(locator), frozen=True)

    def keys(self) -> Iterator[str]:
        """Return every key that has a result, as of the last look at the store."""
        self._look_once()
        return map(bytes.hex, self._index.keys())

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


def key_bytes(key: str) -> bytes:
    """Return a key as an index has it.

    Raises:
        ValueError: it has not 64 hex digits.
    """
    raw = bytes.fromhex(key)
    if len(raw) != 32:  # noqa: PLR2004 - 256 bits
        raise ValueError(f"a key has 64 hex digits: {key!r}")
    return raw


open_stores: weakref.WeakSet[Shelf] = weakref.WeakSet()
"""Of this process."""


def _after_fork() -> None:
    for store in list(open_stores):
        store.after_fork()


os.register_at_fork(after_in_child=_after_fork)
