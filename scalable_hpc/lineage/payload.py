r"""``payloads.pack``: what a run's tasks are called with, each content once, read back by offset.

    scalable-hpc payloads 1\n
    [ "SHPP" | size: u64 | BLAKE3: 32 bytes | the bytes ] ...

Rule 1: append-only and content-addressed: a function that a million tasks share is here once.
Rule 2: bytes are verified when they are read; damaged ones are never handed out.
Rule 3: a frame that is not wholly there is a torn tail: cut, and reported.
"""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path
from typing import IO

from blake3 import blake3

from scalable_hpc.errors import JournalError, RunDirectoryError
from scalable_hpc.lineage.appending import AppendOnlyFile
from scalable_hpc.model.tasks import Payload

HEADER = b"scalable-hpc payloads 1\n"
_MAGIC = b"SHPP"
_BUFFER = 1 << 18
"""Bytes read at once in search of frames; a larger payload is not read whole for that."""
_FRAME = struct.Struct("<4sQ32s")


class PayloadPack:
    """The pack of one run. ``add`` from any thread; ``commit`` and ``read`` block, so call them off the loop."""

    def __init__(self, path: Path, *, fsync: bool = True) -> None:
        """Open a pack, or begin one; a torn tail is cut.

        Raises:
            JournalError: it is no payload pack, or a frame in it is damaged.
            RunDirectoryError: it cannot be read or written.
        """
        self.path = path
        self.torn_bytes = 0
        """How much was cut from the end, for the caller to report."""
        self._offsets: dict[bytes, int] = {}
        self._found_there: set[int] = set()
        """Offsets of what an earlier driver wrote whose bytes were read and found to be there: a crash of the machine
        may have left others without."""
        end = self._recover() if path.exists() else 0
        self._own_from = end
        """What lies beyond we have written ourselves."""
        self._file = AppendOnlyFile(path, end, fsync=fsync)
        if end == 0:
            self._file.write(HEADER)
        self._lock = threading.Lock()
        self._end = self._file.end
        self._waiting: list[bytes] = []
        self._in_hand: dict[int, bytes] = {}
        """Bytes by offset that are not in the file yet."""

    def add(self, payload: Payload) -> Payload:
        """Take the payload's inline bytes for the next commit and return it as it lies in the pack, without them.

        The digest is the caller's word here; a wrong one is found when the bytes are read.
        """
        if payload.inline is None:
            return payload
        digest = bytes.fromhex(payload.digest)
        with self._lock:
            offset = self._offsets.get(digest)
            if offset is None or not self._proved(offset, payload.inline):
                head = _FRAME.pack(_MAGIC, len(payload.inline), digest)
                offset = self._end + len(head)
                self._waiting += (head, payload.inline)
                self._in_hand[offset] = payload.inline
                self._end = offset + len(payload.inline)
                self._offsets[digest] = offset
        return Payload(digest=payload.digest, size=payload.size, offset=offset)

    def commit(self) -> None:
        """Write and sync what was added, as one batch.

        Raises:
            RunDirectoryError: the disk is full or gone; nothing is lost, and a later commit tries again.
        """
        with self._lock:
            waiting, self._waiting = self._waiting, []
            written = list(self._in_hand)
        if not waiting:
            return
        try:
            self._file.write(b"".join(waiting))
        except RunDirectoryError:
            with self._lock:
                self._waiting[:0] = waiting
            raise
        with self._lock:
            for offset in written:
                self._in_hand.pop(offset, None)

    def read(self, payload: Payload) -> bytes:
        """Return the bytes of a payload, verified.

        Raises:
            JournalError: they are damaged or not here.
        """
        if payload.inline is not None:
            return payload.inline
        offset = payload.offset
        if offset is None:
            raise JournalError(f"payload {payload.digest!r} lies in no pack")
        data = self._in_hand.get(offset)
        if data is None:
            data = self._file.read(offset, payload.size)
        if len(data) != payload.size or blake3(data).hexdigest() != payload.digest:
            raise JournalError(
                f"payload {payload.digest!r} is damaged in {str(self.path)!r} at byte {offset}",
                hint="submit its task again: what it is called with cannot be read",
            )
        return data

    def close(self) -> None:
        """Commit what is left and close the file."""
        try:
            self.commit()
        finally:
            self._file.close()

    def _proved(self, offset: int, data: bytes) -> bool:
        if offset < self._own_from and offset not in self._found_there:
            if self._file.read(offset, len(data)) != data:
                return False
            self._found_there.add(offset)
        return True

    def _recover(self) -> int:
        """Index the frames that are wholly there and return where they end."""
        try:
            size = self.path.stat().st_size
            with self.path.open("rb", _BUFFER) as file:
                header = file.read(len(HEADER))
                if len(header) < len(HEADER) and HEADER.startswith(header):
                    self.torn_bytes = size
                    return 0
                if header != HEADER:
                    raise JournalError(f"not a payload pack of this version: {str(self.path)!r}")
                end = self._index(file, size)
        except OSError as err:
            raise RunDirectoryError(f"the run directory cannot be read: {str(self.path)!r}: {err}") from err
        self.torn_bytes = size - end
        return end

    def _index(self, file: IO[bytes], size: int) -> int:
        """Go from frame to frame; small ones are read many at a time, which is quicker than to seek over each."""
        end = len(HEADER)
        chunk, start = b"", end
        unpack, head, offsets = _FRAME.unpack_from, _FRAME.size, self._offsets
        while end + head <= size:
            if end + head > start + len(chunk):
                file.seek(end)
                chunk, start = file.read(_BUFFER), end
                if len(chunk) < head:
                    break  # it became shorter meanwhile
            magic, length, digest = unpack(chunk, end - start)
            if magic != _MAGIC:
                if _is_blank(file.fileno(), end):
                    break
                raise JournalError(f"the payload pack {str(self.path)!r} is damaged at byte {end}")
            begin = end + head
            if begin + length > size:
                break
            offsets[digest] = begin
            end = begin + length
        return end


def _is_blank(fd: int, offset: int) -> bool:
    """Whether nothing but zeros follows: what a crash of the machine leaves of a file that had grown."""
    while chunk := os.pread(fd, 1 << 20, offset):
        if chunk.strip(b"\0"):
            return False
        offset += len(chunk)
    return True
