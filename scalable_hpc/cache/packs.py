"""Small results: appended to pack files, each with one writer, named in an index file beside it.

Rule 1: only the process that made a file ever writes to it, and only at its end; what a failed write left there it
    cuts off again, what a killed process left there readers pass over.
Rule 2: a record is durable when ``sync`` returns; one fsync serves all who wait for one.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scalable_hpc.cache.layout import file_mode, is_ours, share_file, sync_directory, write_all
from scalable_hpc.cache.records import HEADER_SIZE, Entry, Kind, pack_entry, pack_header
from scalable_hpc.cache.seal import Seal

FULL = 1 << 30
"""Bytes after which a writer begins another pack: a file that upkeep can still rewrite in one go."""
OPEN_PACKS = 256
"""Pack files kept open for reading, well below the usual limit of 1024 descriptors."""
PACK, INDEX = ".pack", ".idx"


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A result that is about to be appended."""

    key: bytes
    digest: bytes
    size: int
    data: bytes | None
    """Its bytes; None where they lie in a blob."""
    revoked: tuple[Entry, ...] = ()
    """What it takes the place of."""
    core_s: float = 0.0
    """Core-seconds that computing it took; 0 where nobody said."""


class PackWriter:
    """The one writer of a pack file and its index; all but ``sync`` is called under the store's lock."""

    def __init__(self, packs: Path, stem: str, seal: Seal, *, durable: bool) -> None:
        self.stem = stem
        self._seal = seal
        self._packs = packs
        self._durable = durable
        self._index = _AppendedFile(packs / (stem + INDEX))
        self._pack: _AppendedFile | None = None
        self._new_names = True
        self._synced = 0
        self._syncing = threading.Lock()

    @property
    def usable(self) -> bool:
        """Whether more may be appended."""
        whole = self._index.whole and (self._pack is None or self._pack.whole)
        return whole and (self._pack is None or self._pack.size < FULL)

    def append(self, records: Sequence[NewRecord]) -> int:
        """Append results, all in one write; return the mark to ``sync`` to.

        Raises:
            OSError: none of them can be found.
        """
        now = int(time.time())
        data = bytearray()
        start = 0 if self._pack is None else self._pack.size
        entries: list[Entry] = []
        for record in records:
            kind, offset = Kind.BLOB, 0
            if record.data is not None:
                kind, offset = Kind.PACKED, start + len(data)
                data += pack_header(record.key, record.digest, record.size) + record.data
            entries.append(Entry(kind, record.key, record.digest, offset, record.size, now, record.core_s))
        if data:
            if self._pack is None:
                self._pack = _AppendedFile(self._packs / (self.stem + PACK))
                self._new_names = True
            self._pack.append(data)
        revocations = [entry for record in records for entry in record.revoked]
        return self.append_entries([*entries, *revocations])

    def append_entries(self, entries: list[Entry]) -> int:
        """Append index entries alone; return the mark to ``sync`` to.

        Raises:
            OSError: nothing was appended.
        """
        self._index.append(b"".join([pack_entry(entry, self._seal) for entry in entries]))
        return self._index.size

    def sync(self, mark: int) -> None:
        """Return when everything up to a mark is durable.

        Raises:
            OSError: it may not be; nothing more will be appended to these files.
        """
        if self._synced >= mark:
            return
        with self._syncing:
            if self._synced >= mark:
                return
            upto = self._index.size
            for file in (self._pack, self._index):
                if file is not None:
                    file.flush(durable=self._durable)
            if self._new_names and self._durable:
                self._new_names = False
                sync_directory(self._packs)
            self._synced = upto

    def entries_after(self, known: int) -> bytes:
        """Return the index entries that are durable, from a byte on."""
        return self._index.read(known, self._synced - known)

    def close(self) -> None:
        """Close both files."""
        for file in (self._pack, self._index):
            if file is not None:
                file.close()


class _AppendedFile:
    """A new file that only grows."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, file_mode())
        share_file(self._descriptor)
        self.size = 0
        self.whole = True

    def append(self, data: bytes | bytearray) -> None:
        """Append all of ``data`` or nothing."""
        try:
            write_all(self._descriptor, data)
            self.size += len(data)
        except BaseException:  # Ctrl-C too: what follows must start where the last whole record ends
            self._cut()
            raise

    def read(self, start: int, size: int) -> bytes:
        """Return a part of the file."""
        return os.pread(self._descriptor, size, start) if size > 0 else b""

    def flush(self, *, durable: bool) -> None:
        """Hand the file to the disk, or at least to the file server, which sees it when a descriptor is closed."""
        try:
            if durable:
                os.fsync(self._descriptor)
            else:
                os.close(os.dup(self._descriptor))
        except OSError:
            # the kernel forgets pages that it could not write: a second fsync would claim success
            self.whole = False
            raise

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self.whole = False

    def _cut(self) -> None:
        try:
            os.ftruncate(self._descriptor, self.size)
        except OSError:
            self.whole = False


class PackReader:
    """Reads records out of any writer's packs; safe to use from many threads at once."""

    def __init__(self, packs: Path) -> None:
        self._packs = packs
        self._descriptors: dict[str, int] = {}
        self._lock = threading.Lock()

    def read(self, stem: str, entry: Entry, *, anew: bool = False) -> tuple[bytes, bytes]:
        """Return a record's header and its result's bytes; shorter than they should be where the file ends.

        Args:
            stem: The pack's name.
            entry: The record's.
            anew: Open the pack even if it is open: only then does a node ask the file server how long it is now.

        Raises:
            OSError: the pack is not there, is another user's, or cannot be read.
        """
        descriptor = self._descriptors.get(stem)
        if descriptor is not None and not anew:
            raw = os.pread(descriptor, HEADER_SIZE + entry.size, entry.offset)
            return raw[:HEADER_SIZE], raw[HEADER_SIZE:]
        descriptor = os.open(self._packs / (stem + PACK), os.O_RDONLY)
        try:
            if not is_ours(os.fstat(descriptor)):
                raise PermissionError(f"the pack {stem!r} belongs to another user")
            raw = os.pread(descriptor, HEADER_SIZE + entry.size, entry.offset)
        except OSError:
            os.close(descriptor)
            raise
        self._keep(stem, descriptor)
        return raw[:HEADER_SIZE], raw[HEADER_SIZE:]

    def close(self) -> None:
        """Close every pack."""
        with self._lock:
            descriptors, self._descriptors = self._descriptors, {}
        for descriptor in descriptors.values():
            os.close(descriptor)

    def _keep(self, stem: str, descriptor: int) -> None:
        with self._lock:
            old = self._descriptors.get(stem)
            if old is not None:
                os.dup2(descriptor, old, inheritable=False)  # other threads may be reading from it
            elif len(self._descriptors) < OPEN_PACKS:
                self._descriptors[stem] = descriptor
                return
        os.close(descriptor)
