"""A file that only grows: what is written is wholly there and synced, or not there at all.

Rule 1: a write that fails half-way (disk full, quota) is taken back, so that what follows never sits behind it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from scalable_hpc.errors import RunDirectoryError


class AppendOnlyFile:
    """One writer's handle; not thread-safe, its owner serialises writes."""

    def __init__(self, path: Path, end: int, *, fsync: bool = True) -> None:
        """Open or make the file (0600) and cut whatever lies beyond ``end``.

        Raises:
            RunDirectoryError: it cannot be opened or written.
        """
        self.path = path
        self.end = end
        self._fsync = fsync
        try:
            is_new = not path.exists()
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.ftruncate(self._fd, end)
            if is_new:
                _sync_directory(path.parent)
        except OSError as err:
            raise self._failed(err) from err

    def write(self, data: bytes) -> int:
        """Append, sync, and return the offset where the data begins.

        Raises:
            RunDirectoryError: it could not be written; the file is as it was before.
        """
        begin = self.end
        try:
            self._write_all(data, begin)
            if self._fsync:
                os.fsync(self._fd)
        except OSError as err:
            with suppress(OSError):  # the reader's checksums find what cannot be taken back
                os.ftruncate(self._fd, begin)
            raise self._failed(err) from err
        self.end = begin + len(data)
        return begin

    def read(self, offset: int, size: int) -> bytes:
        """Read bytes back; fewer than asked for when the file ends before.

        Raises:
            RunDirectoryError: they cannot be read.
        """
        try:
            return os.pread(self._fd, size, offset)
        except OSError as err:
            raise self._failed(err) from err

    def close(self) -> None:
        """Close the handle; a second time is no error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write_all(self, data: bytes, offset: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, offset)
            offset += written
            view = view[written:]

    def _failed(self, err: OSError) -> RunDirectoryError:
        return RunDirectoryError(
            f"the run directory cannot be written: {str(self.path)!r}: {err.strerror or err}",
            hint=f"df -h {self.path.parent}; quota -s",
        )


def _sync_directory(path: Path) -> None:
    """Make a new name survive a crash of the machine."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # some network file systems cannot sync a directory
            os.fsync(fd)
    finally:
        os.close(fd)
