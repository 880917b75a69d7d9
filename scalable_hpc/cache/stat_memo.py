"""What was digested before, shared by all processes of a user: marks (what ``stat`` said of a file) to digests.

One file per host, appended to by all its processes, one record to a write. Losing any of it costs only work.

Rule 1: a record with a wrong checksum does not exist; reading goes on at the next sound one.
Rule 2: never in the way: what goes wrong here means "not known".
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path

from blake3 import blake3

from scalable_hpc.cache.layout import file_mode, is_ours, make_directory

FULL = 1 << 25
"""Bytes after which a host's file makes room for another; what it held stays readable until that one is full too."""
_SUFFIX, _EARLIER = ".memo", "-earlier.memo"
_RECORD = struct.Struct("<4s32s32s12s")
_MAGIC = b"shm\x01"
"""The last byte is the version of this record."""
_CHECKED = _RECORD.size - 12
_State = tuple[int, int]
"""A file's inode number, and how many of its bytes were taken in."""


class StatMemo:
    """One store's memo; safe to use from many threads, and after a fork: it holds neither locks nor open files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._digests: dict[bytes, bytes] = {}
        self._seen: dict[str, _State] = {}

    def recall(self, mark: bytes) -> bytes | None:
        """Return the digest of the file that has this mark, if anybody has ever made it."""
        if mark not in self._digests:
            with contextlib.suppress(OSError):
                self._take_in_news()
        return self._digests.get(mark)

    def remember(self, mark: bytes, digest: bytes) -> None:
        """Make a digest known to all processes."""
        self._digests[mark] = digest
        with contextlib.suppress(OSError):
            self._append(mark, digest)

    def _append(self, mark: bytes, digest: bytes) -> None:
        make_directory(self._folder)
        path = self._folder / (socket.gethostname() + _SUFFIX)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, file_mode())
        try:
            # one write: the processes of a host append side by side, and what one leaves unfinished is passed over
            os.write(descriptor, packed(mark, digest))
            is_full = os.fstat(descriptor).st_size >= FULL
        finally:
            os.close(descriptor)
        if is_full:
            path.replace(self._folder / (socket.gethostname() + _EARLIER))

    def _take_in_news(self) -> None:
        with os.scandir(self._folder) as entries:
            found = [entry for entry in entries if entry.name.endswith(_SUFFIX)]
        for entry in found:
            with contextlib.suppress(FileNotFoundError):
                self._read(entry)

    def _read(self, entry: os.DirEntry[str]) -> None:
        status = entry.stat()
        inode, known = self._seen.get(entry.name, (status.st_ino, 0))
        if inode != status.st_ino or known > status.st_size:
            known = 0
        if status.st_size - known < _RECORD.size or not is_ours(status):
            return
        descriptor = os.open(entry.path, os.O_RDONLY)
        try:
            raw = os.pread(descriptor, status.st_size - known, known)
        finally:
            os.close(descriptor)
        digests, taken = unpacked(raw)
        self._digests.update(digests)
        self._seen[entry.name] = (status.st_ino, known + taken)


def packed(mark: bytes, digest: bytes) -> bytes:
    """Return a record's bytes."""
    checked = _MAGIC + mark + digest
    return checked + blake3(checked).digest(12)


def unpacked(raw: bytes) -> tuple[dict[bytes, bytes], int]:
    """Return what the sound records among some bytes say, and after how many bytes the last one ends."""
    digests, position, taken = {}, 0, 0
    while (position := raw.find(_MAGIC, position)) >= 0 and position + _RECORD.size <= len(raw):
        _, mark, digest, checksum = _RECORD.unpack_from(raw, position)
        if blake3(raw[position : position + _CHECKED]).digest(12) == checksum:
            digests[mark] = digest
            position = taken = position + _RECORD.size
        else:
            position += 1
    return digests, taken
