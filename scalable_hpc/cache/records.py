"""The store's two record formats, as bytes: pure.

``.pack``  one record after another: a header that names key, digest and size, then the result's bytes
``.idx``   one entry of fixed size for each result or revocation of its writer, with a checksum of its own

An entry says "the result of this key has this digest, and lies here", or takes back one earlier entry. Entries are
named by their file and ordinal, so that a revocation means exactly one of them, whatever the clocks say.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from blake3 import blake3

_ENTRY = struct.Struct("<32s32sQQIB7x")
_CHECKED = struct.Struct(f"<{_ENTRY.size}sI")
ENTRY_SIZE = _CHECKED.size
_HEADER = struct.Struct("<4s4xQ32s32s")
HEADER_SIZE = _HEADER.size
_MAGIC = b"shp\x01"


class Kind(IntEnum):
    """What an index entry says; readers pass over kinds that they do not know."""

    PACKED = 1
    BLOB = 2
    REVOKED = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """One index entry."""

    kind: int
    key: bytes
    digest: bytes
    """BLAKE3 of the result's bytes; of a revocation, ``file_id`` of the file whose entry it takes back."""
    offset: int
    """Where the record starts in the pack; of a revocation, the ordinal that it takes back."""
    size: int
    """Bytes of the result, its pack header not counted."""
    created: int
    """Seconds since the epoch, by the writer's clock: for people, upkeep and ``ttl``, never for what is true."""


def pack_entry(entry: Entry) -> bytes:
    """Return an index entry's bytes."""
    raw = _ENTRY.pack(entry.key, entry.digest, entry.offset, entry.size, entry.created, entry.kind)
    return _CHECKED.pack(raw, zlib.crc32(raw))


def entry_at(raw: bytes | bytearray, ordinal: int) -> Entry:
    """Return one entry of an index whose checksums were looked at before."""
    key, digest, offset, size, created, kind = _ENTRY.unpack_from(raw, ordinal * ENTRY_SIZE)
    return Entry(kind, key, digest, offset, size, created)


def sound_entries(raw: bytes | bytearray | memoryview) -> Iterator[tuple[int, bytes, int]]:
    """Yield ordinal, key and kind of every whole entry whose checksum holds."""
    whole = memoryview(raw)[: len(raw) // ENTRY_SIZE * ENTRY_SIZE]
    crc32 = zlib.crc32
    kind_at = _ENTRY.size - 8
    for ordinal, (body, checksum) in enumerate(_CHECKED.iter_unpack(whole)):
        if crc32(body) == checksum:
            yield ordinal, body[:32], body[kind_at]


def pack_header(key: bytes, digest: bytes, size: int) -> bytes:
    """Return what stands before a result in a pack."""
    return _HEADER.pack(_MAGIC, size, key, digest)


def file_id(stem: str) -> bytes:
    """Return the 32 bytes by which a revocation names a writer's file."""
    return blake3(stem.encode()).digest()
