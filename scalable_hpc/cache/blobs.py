"""Large results: one file each, named by the digest of its content, so that writing it twice is writing it once.

Rule 1: a file under its final name is whole: written aside, made durable, renamed.
Rule 2: a large result is read by mapping it, privately: what the reader does to its arrays never reaches the file.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import secrets
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from scalable_hpc.cache.content import CHUNK, digest_of_open
from scalable_hpc.cache.layout import (
    Layout,
    file_mode,
    is_gone,
    is_ours,
    make_directory,
    share_file,
    sync_directory,
    write_all,
)
from scalable_hpc.errors import StoreError

ABANDONED_S = 86_400.0
"""Seconds after which a file that is still aside was left there by a process that died."""
FileState = tuple[int, int, int, int, int]
"""Device, inode, size, mtime and ctime: another file, or a changed one, has another."""
_PRIVATE = mmap.MAP_PRIVATE | (0x4000 if sys.platform == "linux" else 0)
"""With Linux's ``MAP_NORESERVE``, which Python names from 3.13 on: a result may be larger than the memory, as only what
a reader changes ever takes any."""
_count = itertools.count()


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob as it was read."""

    data: memoryview
    """Mapped privately; empty where the file has not the size that was asked for."""
    state: FileState
    is_sound: bool
    """Whether it has the content that its name says, as far as that was to be looked at."""


class Blobs:
    """The blobs of one store."""

    def __init__(self, layout: Layout, *, durable: bool) -> None:
        self._layout = layout
        self._durable = durable

    def path(self, digest: bytes) -> Path:
        """Return where the blob of a digest lies."""
        name = digest.hex()
        return self._layout.blobs / name[:2] / name

    def write(self, chunks: Iterable[bytes | memoryview], writer: str) -> bytes:
        """Write a blob, unless it is there; return its digest.

        Raises:
            OSError: it was not written.
        """
        aside = self._layout.aside / f"{writer}-{next(_count)}"
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file_mode())
        try:
            try:
                share_file(descriptor)
                digest, size = _written(descriptor, chunks)
                target = self.path(digest)
                is_there = self._is_there(target, size)
                if self._durable and not is_there:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if not is_there:
                make_directory(target.parent)
                aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
        if self._durable:
            sync_directory(target.parent)
            sync_directory(self._layout.blobs)
        return digest

    def read(self, digest: bytes, size: int, is_trusted: Callable[[FileState], bool]) -> Blob:
        """Return a blob, verified unless the state of its file says that it need not be.

        Raises:
            OSError: it is not there, is another user's, or cannot be read.
        """
        descriptor = os.open(self.path(digest), os.O_RDONLY)
        try:
            status = os.fstat(descriptor)
            if not is_ours(status):
                raise PermissionError(f"the blob {digest.hex()!r} belongs to another user")
            state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if status.st_size != size:
                return Blob(memoryview(b""), state, is_sound=True)
            # read, not mapped, to be verified: what the disk refuses is an error here, and a killed process there
            is_sound = is_trusted(state) or digest_of_open(descriptor) == digest
            return Blob(
                memoryview(mmap.mmap(descriptor, size, flags=_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)),
                state,
                is_sound,
            )
        finally:
            os.close(descriptor)

    def sweep(self, now: float) -> None:
        """Remove what processes that died while writing have left."""
        with os.scandir(self._layout.aside) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # its writer has given it its name since
                    if entry.stat(follow_symlinks=False).st_mtime < now - ABANDONED_S:
                        Path(entry.path).unlink()

    def condemn(self, digest: bytes) -> None:
        """Move a damaged blob to quarantine.

        Raises:
            OSError: it could not be moved.
        """
        self.path(digest).replace(self._layout.quarantine / f"{digest.hex()}-{secrets.token_hex(4)}")

    def _is_there(self, target: Path, size: int) -> bool:
        """Say whether a blob need not be written, and see to it that upkeep does not take it for forgotten."""
        try:
            status = target.stat()
            if not is_ours(status):
                raise StoreError(f"the blob {str(target)!r} belongs to user id {status.st_uid}, not to you")
            if status.st_size == size:
                with contextlib.suppress(PermissionError):  # another member of the group has written it
                    os.utime(target)
                return True
        except OSError as err:
            if not is_gone(err):
                raise
        return False


def _written(descriptor: int, chunks: Iterable[bytes | memoryview]) -> tuple[bytes, int]:
    """Write pieces one after another; return the digest and size of them all."""
    hasher, size = blake3(max_threads=blake3.AUTO), 0
    for chunk in chunks:
        whole = memoryview(chunk).cast("B")
        for start in range(0, len(whole), CHUNK):
            piece = whole[start : start + CHUNK]
            hasher.update(piece)
            write_all(descriptor, piece)
        size += len(whole)
    return hasher.digest(), size
