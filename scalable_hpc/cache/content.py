"""What lies at a path, as a digest: files by their bytes, directories by names and bytes below them.

Rule 1: a digest never depends on the path's own name, on times or on modes.
Rule 2: files are streamed, never mapped: a file that shrinks while a mapping is read kills the process.
"""

from __future__ import annotations

import os
import stat
import struct

from blake3 import blake3

CHUNK = 4 * 1024 * 1024
"""Bytes per read: large enough that a parallel file system streams, small enough for any node."""

_FRAME = struct.Struct("<cQ32s")
_FILE, _DIRECTORY, _LOOP = b"f", b"d", b"l"


def file_digest(path: str | os.PathLike[str]) -> bytes:
    """Return the BLAKE3 digest (32 bytes) of a regular file's content.

    Raises:
        OSError: it is not there, not readable, or not a regular file.
    """
    # looked at before it is opened: opening a pipe would wait for its writer
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - plain text paths are quicker over large trees
        raise OSError(f"not a regular file: {os.fspath(path)!r}")
    hasher = blake3(max_threads=blake3.AUTO)
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    with open(path, "rb", buffering=0) as source:  # noqa: PTH123
        while count := source.readinto(buffer):
            hasher.update(view[:count])
    return hasher.digest()


def tree_digest(path: str | os.PathLike[str]) -> bytes:
    """Return the BLAKE3 digest (32 bytes) of all names and contents below a directory.

    Symbolic links are followed, since a reader of the tree follows them too; a link back to a directory that
    contains it is recorded as the distance up.

    Raises:
        OSError: something below is not readable, or is neither a file nor a directory.
    """
    return _tree(os.fspath(path), ())


def _tree(path: str, above: tuple[tuple[int, int], ...]) -> bytes:
    here = os.stat(path)  # noqa: PTH116
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
            frame = _FRAME.pack(_DIRECTORY, len(raw_name), _tree(below, (*above, identity)))
        else:
            frame = _FRAME.pack(_FILE, len(raw_name), file_digest(below))
        hasher.update(frame)
        hasher.update(raw_name)
    return hasher.digest()
