"""The result store: keys to durable results, shared by any number of processes on any number of nodes, without locks.

Every process appends to files of its own and reads everybody's. A result is published once: whoever comes second
gets the first one's. Each record carries the BLAKE3 digest of its bytes; what does not match is put in quarantine,
and the caller computes it again.

Rule 1: ``publish`` returns only when the result will outlive this process (``close``) or this machine (``fsync``).
Rule 2: nothing is returned unverified; nothing that is damaged is fatal.
Rule 3: a store that is full, read-only or unreachable raises ``StoreError``; what to do about it is the caller's.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from blake3 import blake3

from scalable_hpc.cache.blobs import Blobs
from scalable_hpc.cache.index import Index, Place
from scalable_hpc.cache.layout import open_layout
from scalable_hpc.cache.packs import PackWriter, take_in_news
from scalable_hpc.cache.records import Entry, Kind, file_id
from scalable_hpc.cache.serial import loads
from scalable_hpc.cache.verify import Damaged, RecordReader
from scalable_hpc.errors import StoreError
from scalable_hpc.model.tasks import Locator

SMALL = 64 * 1024
"""Bytes up to which a result goes into a pack and rides inline: many times a usual result, and little on a wire."""
MISSING: Any = object()
"""What ``fetch`` returns for a key that has no result: None is one."""

Durability = Literal["fsync", "close"]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Staged:
    """A large result that lies in the store already and has no key yet."""

    digest: str
    """BLAKE3 of its bytes (64 hex digits)."""
    size: int


@dataclass(frozen=True, slots=True)
class _Pending:
    """A result that is written and not yet durable."""

    writer: PackWriter
    mark: int
    locator: Locator


class Store:
    """A result store; safe to use from many threads, and after a fork."""

    def __init__(self, root: str | os.PathLike[str], *, durability: Durability = "fsync", create: bool = True) -> None:
        """Open a store.

        Args:
            root: Its directory; ``v1`` below it holds everything.
            durability: What ``publish`` waits for: the disk (``fsync``), or only the file server (``close``).
            create: Make it when it is not there.

        Raises:
            StoreError: it cannot be opened or made, or belongs to another user.
        """
        if durability not in {"fsync", "close"}:
            raise StoreError(f"durability must be 'fsync' or 'close', not {durability!r}")
        self.root = str(Path(root).absolute())
        self._durable = durability == "fsync"
        self._layout = open_layout(Path(self.root), create=create)
        self._blobs = Blobs(self._layout, durable=self._durable)
        self._index = Index()
        self._closed = False
        self._begin()
        _stores.add(self)
        self.refresh()

    def _begin(self) -> None:
        """Start as a writer that has written nothing yet."""
        self._lock = threading.RLock()
        self._records = RecordReader(self._layout, self._blobs)
        self._name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._writers: list[PackWriter] = []
        self._own: set[str] = set()
        self._pending: dict[bytes, _Pending] = {}

    def __enter__(self) -> Store:  # noqa: PYI034 - typing.Self needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._index)

    def lookup(self, key: str, *, fresh: bool = True) -> Locator | None:
        """Return where the result of a key lies, or None.

        Args:
            key: 64 hex digits.
            fresh: On a miss, look for what others have published in the meantime (one directory listing).

        Raises:
            StoreError: the store cannot be read.
        """
        place = self._first(_raw(key), fresh=fresh)
        return None if place is None else self._locator(place.entry)

    def fetch(self, key: str, *, fresh: bool = True) -> Any:
        """Return the result of a key as a value of its own, or ``MISSING``; a damaged copy counts as none.

        Raises:
            StoreError: the store cannot be read.
            Unreadable: the result cannot be unpickled here.
        """
        raw_key = _raw(key)
        while (place := self._first(raw_key, fresh=fresh)) is not None:
            data = self._verified(place)
            if data is not None:
                return loads(data)
        return MISSING

    def refresh(self) -> None:
        """Take in what others have published.

        Raises:
            StoreError: the store cannot be read.
        """
        with self._lock:
            self._check_open()
            self._trying("read", lambda: take_in_news(self._layout.packs, self._index, self._own))

    def publish(self, key: str, data: bytes, *, replace: bool = False) -> Locator:
        """Store a result's record under a key and return when it is durable.

        Args:
            key: 64 hex digits.
            data: The record, from ``serial.dumps``.
            replace: Take the place of what is there; otherwise the first publisher wins, and its result is returned.

        Raises:
            StoreError: it could not be stored.
        """
        raw_key = _raw(key)
        if (there := self._sound(raw_key, replace=replace)) is not None:
            return there
        if len(data) > SMALL:
            staged = self.stage(data)
            digest, small = bytes.fromhex(staged.digest), None
        else:
            digest, small = blake3(data).digest(), bytes(data)
        return self._trying("written", lambda: self._enter(raw_key, digest, len(data), small, replace=replace))

    def stage(self, data: bytes) -> Staged:
        """Store a large result's bytes alone, durably; ``publish_staged``, here or elsewhere, gives them a key.

        Raises:
            StoreError: they could not be stored.
        """
        self._check_open()
        digest = blake3(data, max_threads=blake3.AUTO).digest()
        self._trying("written", lambda: self._blobs.write(digest, data, self._name))
        return Staged(digest.hex(), len(data))

    def publish_staged(self, key: str, staged: Staged, *, replace: bool = False) -> Locator:
        """Give staged bytes a key, as ``publish`` does.

        Raises:
            StoreError: it could not be written down.
        """
        raw_key, digest = _raw(key), bytes.fromhex(staged.digest)
        if (there := self._sound(raw_key, replace=replace)) is not None:
            return there
        return self._trying("written", lambda: self._enter(raw_key, digest, staged.size, None, replace=replace))

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

    def forget(self, key: str) -> bool:
        """Take back every result of a key; False if there was none.

        Raises:
            StoreError: it could not be written down.
        """
        self.refresh()
        with self._lock:
            places = list(self._index.places(_raw(key)))
        if places:
            self._trying("written", lambda: self._revoke(places))
        return bool(places)

    def keys(self) -> Iterator[str]:
        """Return every key that has a result, as of the last look at the store."""
        return map(bytes.hex, self._index.keys())

    def close(self) -> None:
        """Close every file; what was published stays."""
        with self._lock:
            self._closed = True
            self._abandon()

    def after_fork(self) -> None:
        """Become a writer of one's own in a forked child: the parent's files are the parent's alone."""
        self._lock = threading.RLock()  # the parent's may be held by a thread that was not forked along
        self._abandon()

    def _abandon(self) -> None:
        writers, records = self._writers, self._records
        self._begin()
        records.close()
        for writer in writers:
            writer.close()

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

    def _first(self, key: bytes, *, fresh: bool) -> Place | None:
        place = self._index.first(key)
        if place is None and fresh:
            self.refresh()
            place = self._index.first(key)
        return place

    def _locator(self, entry: Entry, inline: bytes | None = None) -> Locator:
        return Locator(self.root, entry.key.hex(), entry.digest.hex(), entry.size, inline)

    def _sound(self, key: bytes, *, replace: bool) -> Locator | None:
        """Return the result that a publisher is to get instead: one that is there, can be read, and is to stay."""
        if replace:
            self.refresh()  # what is to be replaced must be known
            return None
        while (place := self._first(key, fresh=True)) is not None:
            data = self._verified(place)
            if data is not None:
                return self._locator(place.entry, bytes(data) if place.entry.size <= SMALL else None)
        return None

    def _verified(self, place: Place) -> bytes | memoryview | None:
        """Return a record if it is what was stored; else see to it that it is not met again."""
        try:
            data = self._trying("read", lambda: self._records.read(place))
        except Damaged:
            data = None
            self._take_back(place)
        if data is None:
            with self._lock:
                self._index.drop(place)
        return data

    def _take_back(self, place: Place) -> None:
        try:
            with self._lock:
                self._writer().append_entries([_revocation(place)])
        except (OSError, StoreError):
            pass  # a store that cannot be written to: every reader finds out for itself

    def _enter(self, key: bytes, digest: bytes, size: int, data: bytes | None, *, replace: bool) -> Locator:
        with self._lock:
            old = list(self._index.places(key))
            if old and not replace:
                return self._locator(old[0].entry)  # another thread was quicker, after we had looked
            pending = None if replace else self._pending.get(key)
            if pending is None:
                writer = self._writer()
                mark = writer.append(key, digest, size, data, [_revocation(place) for place in old])
                pending = _Pending(writer, mark, Locator(self.root, key.hex(), digest.hex(), size, data))
                self._pending[key] = pending
        try:
            self._settle(pending.writer, pending.mark)
        finally:
            with self._lock:
                if self._pending.get(key) is pending:
                    del self._pending[key]
        return pending.locator

    def _revoke(self, places: list[Place]) -> None:
        with self._lock:
            writer = self._writer()
            mark = writer.append_entries([_revocation(place) for place in places])
        self._settle(writer, mark)

    def _settle(self, writer: PackWriter, mark: int) -> None:
        """Wait until what was appended is durable, then let it be found."""
        writer.sync(mark)
        with self._lock:
            self._index.feed(writer.stem, writer.entries_after(self._index.known(writer.stem)))

    def _writer(self) -> PackWriter:
        self._check_open()
        if not self._writers:
            self._blobs.sweep(time.time())
        if not self._writers or not self._writers[-1].usable:
            # an old one stays open: other threads may still be waiting for its files
            stem = f"{self._name}-{len(self._writers)}"
            self._own.add(stem)
            self._writers.append(PackWriter(self._layout.packs, stem, durable=self._durable))
        return self._writers[-1]


def _raw(key: str) -> bytes:
    raw = bytes.fromhex(key)
    if len(raw) != 32:  # noqa: PLR2004 - 256 bits
        raise ValueError(f"a key has 64 hex digits: {key!r}")
    return raw


def _revocation(place: Place) -> Entry:
    return Entry(Kind.REVOKED, place.entry.key, file_id(place.stem), place.ordinal, 0, int(time.time()))


_stores: weakref.WeakSet[Store] = weakref.WeakSet()


def _after_fork() -> None:
    for store in list(_stores):
        store.after_fork()


os.register_at_fork(after_in_child=_after_fork)
