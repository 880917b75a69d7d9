"""A result's record before it is written: its pieces, where they lie, so that a large one is never put together.

Rule 1: pieces in memory are passed on as they are, files are read as they are written: nothing large is copied.
Rule 2: a file that is not any more what was pickled of it ends the writing.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blake3 import blake3

from scalable_hpc.cache.content import CHUNK, open_regular
from scalable_hpc.errors import ScalableError

ALIGNMENT = 64
"""What vector instructions like best, and enough for every dtype."""
MAGIC = b"shr\x01"
"""The last byte is the version of this layout."""
HEADER = struct.Struct("<4sIQ")
"""Magic, number of buffers, length of the pickle."""
LENGTH = struct.Struct("<Q")
"""Of each buffer."""


class Unstorable(ScalableError):
    """A result cannot be pickled, or what it names by a path cannot be read."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """The content of a file, as a buffer of a record."""

    path: str
    nbytes: int
    digest: bytes

    def chunks(self) -> Iterator[bytes]:
        """Yield the content.

        Raises:
            OSError: it cannot be read, or is not what it was when it was digested.
        """
        descriptor = open_regular(self.path)
        try:
            hasher, position = blake3(max_threads=blake3.AUTO), 0
            while chunk := os.pread(descriptor, CHUNK, position):
                hasher.update(chunk)
                position += len(chunk)
                yield chunk
        finally:
            os.close(descriptor)
        if position != self.nbytes or hasher.digest() != self.digest:
            raise OSError(f"the file {self.path!r} was changed while it was being kept")


class Record:
    """A pickle and its buffers."""

    def __init__(self, body: bytes, parts: Sequence[memoryview | FilePart]) -> None:
        lengths = b"".join(LENGTH.pack(part.nbytes) for part in parts)
        self._front = HEADER.pack(MAGIC, len(parts), len(body)) + lengths + body
        self._parts = tuple(parts)
        size = len(self._front)
        for part in parts:
            size += -size % ALIGNMENT + part.nbytes
        self._size = size

    def __len__(self) -> int:
        return self._size

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield the record piece by piece.

        Raises:
            OSError: a file of it cannot be read any more, or was changed.
        """
        yield self._front
        size = len(self._front)
        for part in self._parts:
            yield bytes(-size % ALIGNMENT)
            size += -size % ALIGNMENT + part.nbytes
            if isinstance(part, FilePart):
                yield from part.chunks()
            else:
                yield part

    def join(self) -> bytes:
        """Return the record in one piece.

        Raises:
            Unstorable: a file of it cannot be read any more, or was changed.
        """
        try:
            return b"".join(self.chunks())
        except OSError as err:
            raise Unstorable(f"a result cannot be kept: {err}") from err
