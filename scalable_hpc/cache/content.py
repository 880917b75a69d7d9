"""What lies at a path, as a digest: files by their bytes, directories by names and bytes below them.

Rule 1: a digest never depends on the path's own name, on times or on modes.
Rule 2: files are streamed, never mapped: a file that shrinks while a mapping is read kills the process.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from blake3 import blake3

CHUNK = 8 * 1024 * 1024
"""Bytes per read: large enough that a parallel file system streams, small enough for any node."""

_FRAME = struct.Struct("<cQ32s")
_FILE, _DIRECTORY, _LOOP = b"f", b"d", b"l"


def file_digest(path: str | os.PathLike[str]) -> bytes:
    """Return the BLAKE3 digest (32 bytes) of a regular file's content.

    Raises:
        OSError: it is not there, not readable, or not a regular file.
    """
    descriptor = open_regular(path)
    try:
        return digest_of_open(descriptor)
    finally:
        os.close(descriptor)


def open_regular(path: str | os.PathLike[str]) -> int:
    """Open a regular file for reading.

    Raises:
        OSError: it is not there, not readable, or not a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # or opening a pipe would wait for its writer
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"not a regular file: {os.fspath(path)!r}")
    return descriptor


def digest_of_open(descriptor: int) -> bytes:
    """Return the BLAKE3 digest (32 bytes) of an open file, from its beginning.

    Raises:
        OSError: it cannot be read.
    """
    chunk = memoryview(bytearray(min(CHUNK, os.fstat(descriptor).st_size + 1)))
    count = os.preadv(descriptor, [chunk], 0)
    if count < len(chunk):
        hasher = blake3(chunk[:count])
        while more := os.pread(descriptor, CHUNK, count):  # it grew, or the file server gave less than was asked for
            hasher.update(more)
            count += len(more)
        return hasher.digest()
    return _streamed(descriptor, chunk)


def tree_digest(
    path: str | os.PathLike[str], file_content: Callable[[str | os.PathLike[str]], bytes] = file_digest
) -> bytes:
    """Return the BLAKE3 digest (32 bytes) of all names and contents below a directory.

    Symbolic links are followed, since a reader of the tree follows them too; a link back to a directory that
    contains it is recorded as the distance up.

    Args:
        path: The directory.
        file_content: What gives a file's digest.

    Raises:
        OSError: something below is not readable, or is neither a file nor a directory.
    """
    return _tree(os.fspath(path), (), file_content)


def _streamed(descriptor: int, first: memoryview) -> bytes:
    """Hash one chunk, on all cores, while the next one is read."""
    hasher = blake3(max_threads=blake3.AUTO)
    full, spare = first, memoryview(bytearray(CHUNK))
    count = position = len(first)
    with ThreadPoolExecutor(1, "scalable-hpc-read-ahead") as reader:
        while count:
            coming = reader.submit(os.preadv, descriptor, [spare], position)
            hasher.update(full[:count])
            count = coming.result()
            position += count
            full, spare = spare, full if len(full) == CHUNK else memoryview(bytearray(CHUNK))
    return hasher.digest()


def _tree(
    path: str, above: tuple[tuple[int, int], ...], file_content: Callable[[str | os.PathLike[str]], bytes]
) -> bytes:
    here = os.stat(path)  # noqa: PTH116 - plain text paths are quicker over large trees
    identity = (here.st_dev, here.st_ino)
    hasher = blake3()
    if identity in above:
        hasher.update(_FRAME.pack(_LOOP, len(above) - above.index(identity), bytes(32)))
        return hasher.digest()
    with os.scandir(path) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        below = os.path.join(path, name)  # noqa: PTH118
        raw_name = os.fsencode(name)
        if stat.S_ISDIR(os.stat(below).st_mode):  # noqa: PTH116
            frame = _FRAME.pack(_DIRECTORY, len(raw_name), _tree(below, (*above, identity), file_content))
        else:
            frame = _FRAME.pack(_FILE, len(raw_name), file_content(below))
        hasher.update(frame)
        hasher.update(raw_name)
    return hasher.digest()
