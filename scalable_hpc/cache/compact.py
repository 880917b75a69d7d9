"""Moving what is still needed of gone writers' files into new ones, beside living readers and writers.

New files come under names that no file ever had, whole and durable, before the old ones go. A reader that holds an
old index reads the old pack as long as it has it open, else finds it gone, looks again, and finds the copy.

Before each copy stands an entry of the kind ``MOVED`` that says what it is a copy of. Somebody who looked before the
copy appeared may revoke the old entry afterwards; ``late_revocations`` finds those, now or at the next upkeep, so
that nothing that was taken back comes to life again.

Rule 1: a record is copied only if it is sound; where one is not there (yet), its whole file stays.
Rule 2: no file is removed before everything that it still held is durable elsewhere.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from scalable_hpc.cache.books import Books, WriterFile
from scalable_hpc.cache.index import Index, Place
from scalable_hpc.cache.layout import file_mode, share_file, sync_directory
from scalable_hpc.cache.packs import FULL, INDEX, PACK
from scalable_hpc.cache.records import ENTRY_SIZE, HEADER_SIZE, Entry, Kind, file_id, pack_entry, pack_header
from scalable_hpc.cache.scribe import Scribe
from scalable_hpc.cache.seal import Keys
from scalable_hpc.cache.verify import Damaged, RecordReader

KNOWN_KINDS = frozenset(Kind)
REVOKED_KEPT_S = 30 * 86_400.0
"""Seconds for which a revocation outlives its file: a process may hold the old file open and look for news late."""


@dataclass(slots=True)
class Compacted:
    """What became of the chosen files."""

    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    damaged: int = 0
    """Records that were not what was stored; they lie in quarantine."""
    left: dict[str, str] = field(default_factory=dict)
    """Files that stay as they are, each with the reason."""


def kept(books: Books, file: WriterFile, now: float) -> Iterator[tuple[int, Entry]]:
    """Yield ordinal and entry of what a file still says: its results that hold, and revocations that may matter."""
    for ordinal, entry in file.entries():
        if entry.kind == Kind.REVOKED:
            if entry.digest in books.ids or entry.created > now - REVOKED_KEPT_S:
                yield ordinal, entry
        elif entry.kind in {Kind.PACKED, Kind.BLOB} and _holds(books, file.stem, ordinal, entry.key):
            yield ordinal, entry


def live_bytes(books: Books, file: WriterFile, now: float) -> int:
    """Return the bytes of a file's index and pack that are still needed; what says where copies came from is."""
    moved = sum(ENTRY_SIZE for _, entry in file.entries() if entry.kind == Kind.MOVED)
    return moved + sum(
        ENTRY_SIZE + (HEADER_SIZE + entry.size if entry.kind == Kind.PACKED else 0)
        for _, entry in kept(books, file, now)
    )


def compact(books: Books, stems: Sequence[str], now: float) -> Compacted:
    """Move what is still needed of some files into new ones, and look at the store again; nothing is removed yet.

    Raises:
        OSError: the new files could not be written; the store is as it was.
    """
    done = Compacted()
    reader = RecordReader(books.layout, books.blobs)
    target = _NewFiles(books.layout.aside, books.layout.packs, books.keys)
    try:
        for stem in stems:
            because = _copy(books, books.files[stem], reader, target, done, now)
            if because is None:
                done.removed.append(stem)
            else:
                done.left[stem] = because
        done.written = target.publish()
    finally:
        target.discard()
        reader.close()
    books.look()
    return done


def remove(books: Books, stems: Sequence[str]) -> None:
    """Remove files that nothing needs any more.

    Raises:
        OSError: not all could be removed.
    """
    for stem in stems:
        # the index first: a pack without one is leftovers, an index without its pack is a loss
        for suffix in (INDEX, PACK):
            (books.layout.packs / (stem + suffix)).unlink(missing_ok=True)
        books.strike(stem)
    if stems:
        sync_directory(books.layout.packs)


def late_revocations(books: Books) -> list[Place]:
    """Return copies whose originals were revoked by somebody who did not know of the copy yet."""
    revoked = books.revoked()
    if not revoked:
        return []
    return [
        Place(file.stem, ordinal + 1, entry)
        for file in books.files.values()
        for ordinal, entry in file.entries()
        if entry.kind == Kind.MOVED
        and (entry.digest, entry.offset) in revoked
        and _holds(books, file.stem, ordinal + 1, entry.key)
    ]


def revoke(books: Books, places: Sequence[Place]) -> None:
    """Take results back, durably.

    Raises:
        OSError: the store cannot be written to.
    """
    if places:
        # an index of its own: what is written here comes back to the books by the next look, like anybody's
        scribe = Scribe(books.root, books.layout, books.keys, books.blobs, Index(books.keys), durable=True)
        try:
            scribe.revoke(places, wait=True)
        finally:
            scribe.close()
        books.look()


def _holds(books: Books, stem: str, ordinal: int, key: bytes) -> bool:
    return any(place.stem == stem and place.ordinal == ordinal for place in books.index.places(key))


def _copy(
    books: Books,
    file: WriterFile,
    reader: RecordReader,
    target: _NewFiles,
    done: Compacted,
    now: float,
) -> str | None:
    """Copy one file's entries; return why it must stay, if it must: copies made so far do no harm."""
    for ordinal, entry in kept(books, file, now):
        if entry.kind == Kind.REVOKED:
            target.add([entry], b"")
            continue
        if target.has(entry):
            continue
        data: bytes | memoryview = b""
        if entry.kind == Kind.PACKED:
            try:
                found = reader.read(Place(file.stem, ordinal, entry))
            except Damaged:
                done.damaged += 1
                continue
            except OSError as err:
                return f"a record cannot be read: {err}"
            if found is None:
                return "a record is not (all) there: see cache verify"
            data = found
        moved = replace(entry, kind=Kind.MOVED, digest=file_id(file.stem), offset=ordinal, size=0)
        target.add([moved, entry], data)
    return None


class _NewFiles:
    """New files, written aside, that appear under their names all at once."""

    def __init__(self, aside: Path, packs: Path, keys: Keys) -> None:
        self._keys = keys
        self._aside = aside
        self._packs = packs
        # living as long as this process, by its name: other upkeep leaves it alone
        self._name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._stems: list[str] = []
        self._open: list[BinaryIO] = []
        self._offset = 0
        self._held: set[tuple[bytes, bytes]] = set()

    def has(self, entry: Entry) -> bool:
        """Say whether a copy of the same result is in already."""
        return (entry.key, entry.digest) in self._held

    def add(self, entries: list[Entry], data: bytes | memoryview) -> None:
        """Append entries; the last one is of ``data`` if it is of the kind ``PACKED``."""
        if not self._open or self._offset >= FULL:
            self._begin()
        pack, index = self._open
        last = entries[-1]
        if last.kind == Kind.PACKED:
            pack.write(pack_header(last.key, last.digest, last.size))
            pack.write(data)
            entries = [*entries[:-1], replace(last, offset=self._offset)]
            self._offset += HEADER_SIZE + last.size
        seal = self._keys.seal(self._stems[-1])
        index.write(b"".join([pack_entry(entry, seal) for entry in entries]))
        if last.kind != Kind.REVOKED:
            self._held.add((last.key, last.digest))

    def publish(self) -> list[str]:
        """Make everything durable, then give it its names; return them."""
        self._finish()
        for stem in self._stems:
            pack = self._aside / (stem + PACK)
            if pack.stat().st_size:  # nothing but large results and revocations needs none
                pack.replace(self._packs / pack.name)
            (self._aside / (stem + INDEX)).replace(self._packs / (stem + INDEX))
        if self._stems:
            sync_directory(self._packs)
        return list(self._stems)

    def discard(self) -> None:
        """Remove what was not published, and packs that turned out empty."""
        for file in self._open:
            file.close()
        for stem in self._stems:
            for suffix in (PACK, INDEX):
                (self._aside / (stem + suffix)).unlink(missing_ok=True)

    def _begin(self) -> None:
        self._finish()
        stem = f"{self._name}-{len(self._stems)}"
        self._stems.append(stem)
        for suffix in (PACK, INDEX):
            path = self._aside / (stem + suffix)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file_mode())
            share_file(descriptor)
            self._open.append(os.fdopen(descriptor, "wb"))
        self._offset = 0

    def _finish(self) -> None:
        for file in self._open:
            file.flush()
            os.fsync(file.fileno())
            file.close()
        self._open = []
