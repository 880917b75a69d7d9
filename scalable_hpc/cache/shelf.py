"""The reading side of a store: what is known of it, looked up, verified and handed out.

Rule 1: nothing is returned unverified; nothing that is damaged is fatal.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from blake3 import blake3

from scalable_hpc.cache.bulk import without_collections
from scalable_hpc.cache.index import Place
from scalable_hpc.cache.opened import OpenStore
from scalable_hpc.cache.records import Entry
from scalable_hpc.cache.serial import loads, loads_body, plain_body
from scalable_hpc.cache.verify import Damaged
from scalable_hpc.model.tasks import Locator

SMALL = 64 * 1024
"""Bytes up to which a result goes into a pack and rides inline: many times a usual result, and little on a wire."""
MISSING: Any = object()
"""What ``fetch`` returns for a key that has no result: None is one."""


class Shelf(OpenStore):
    """A store as its readers see it; safe to use from many threads, and after a fork."""

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
        if self._looked_at:
            self._review()
        handle = self._index.handle(raw_key)
        known = None if handle is None else self._recent.get(handle)
        if known is not None:
            record, core_s, is_body = known
            self._tally.found.append(core_s)
            return loads_body(record) if is_body else loads(record)
        while (place := self._first(raw_key, fresh=fresh)) is not None:
            data = self._verified(place)
            if data is not None:
                self._tally.found.append(place.entry.core_s)
                if isinstance(data, bytes):
                    body = plain_body(data)
                    self._recent.keep(place.handle, body or data, place.entry.core_s, is_body=body is not None)
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
