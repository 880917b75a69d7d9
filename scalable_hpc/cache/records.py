"""The store's two record formats, as bytes: pure.

``.pack``  one record after another: a header that names key, digest and size, then the result's bytes
``.idx``   one entry of fixed size for each result or revocation of its writer, with a checksum of its own

An entry says "the result of this key has this digest, and lies here", or takes back one earlier entry. Entries are
named by their file and ordinal, so that a revocation means exactly one of them, whatever the clocks say.

An entry ends in a seal, which says who wrote it, and a checksum, which says that it is whole. Checksums are looked at
when an index is read, all at once; seals when an entry is about to be believed.
"""

from __future__ import annotations

import contextlib
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from operator import mul
from typing import Any

from blake3 import blake3

from scalable_hpc.cache.seal import MARK_SIZE, SEAL_SIZE, Seal

_BODY = struct.Struct(f"<32s32sQQIBf{MARK_SIZE}s")
_SEALED = _BODY.size + SEAL_SIZE
_CONTENT = struct.Struct("<32x32s8xQ5xf")
_BODY_AND_SEAL = struct.Struct(f"<{_BODY.size}s{SEAL_SIZE}s")
_WORDS = struct.Struct(f"<{_SEALED // 4}I")
_CHECKSUM = struct.Struct("<I")
ENTRY_SIZE = _SEALED + _CHECKSUM.size
KEY_SIZE = 32
"""Of what an entry starts with: the key that it speaks of, whatever its kind."""
_KIND_AT = 84
_MARK_AT = _BODY.size - MARK_SIZE
_COLUMNS: Any = {
    "names": ["key", "kind", "mark"],
    "formats": ["V32", "u1", f"V{MARK_SIZE}"],
    "offsets": [0, _KIND_AT, _MARK_AT],
    "itemsize": ENTRY_SIZE,
}
"""Of a NumPy record; not of the type ``S``, which drops zeros at the end."""
_START, *_FACTORS = (
    word | 1 for word in struct.unpack(f"<{_WORDS.size // 4 + 1}I", blake3(b"index entry").digest(_WORDS.size + 4))
)
"""Of the checksum: a sum of products, which NumPy makes of a million entries at once. Odd factors show every single
flipped bit, and the start tells zeros from an entry; who means harm is stopped by the seal."""
_HEADER = struct.Struct("<4s4xQ32s32s")
HEADER_SIZE = _HEADER.size
_MAGIC = b"shp\x01"


BULK = 20_000
"""Entries from which importing NumPy costs less than it saves."""
_SOME = 50
"""Entries from which it saves something where it is imported already."""


class Kind(IntEnum):
    """What an index entry says; readers pass over kinds that they do not know."""

    PACKED = 1
    BLOB = 2
    REVOKED = 3
    MOVED = 4
    """The next entry is a copy of the entry ``offset`` of the file with the id ``digest``."""


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
    core_s: float = 0.0
    """Core-seconds that computing the result took; 0 where nobody said."""


@dataclass(frozen=True, slots=True)
class Sound:
    """The whole entries of an index whose checksums hold, column by column."""

    ordinals: Sequence[int]
    keys: Sequence[bytes]
    kinds: Sequence[int]
    marks: Sequence[bytes]
    """Of the keys that sealed them."""


def pack_entry(entry: Entry, seal: Seal) -> bytes:
    """Return an index entry's bytes, for the file that the seal is for."""
    body = _BODY.pack(
        entry.key, entry.digest, entry.offset, entry.size, entry.created, entry.kind, entry.core_s, seal.mark
    )
    return checksummed(body + seal.of(body))


def checksummed(sealed: bytes | bytearray) -> bytes:
    """Return a sealed entry's bytes with their checksum, as they stand in an index."""
    return bytes(sealed) + _CHECKSUM.pack(_checksum(_WORDS.unpack(sealed)))


def entry_at(raw: bytes | bytearray, ordinal: int) -> Entry:
    """Return one entry of an index whose checksums were looked at before."""
    key, digest, offset, size, created, kind, core_s, _ = _BODY.unpack_from(raw, ordinal * ENTRY_SIZE)
    return Entry(kind, key, digest, offset, size, created, core_s)


def content_at(raw: bytes | bytearray, ordinal: int) -> tuple[bytes, int, float]:
    """Return digest, size and core-seconds of the result that an entry names."""
    return _CONTENT.unpack_from(raw, ordinal * ENTRY_SIZE)


def is_sealed(raw: bytes | bytearray, ordinal: int, seals: Mapping[bytes, Seal]) -> bool:
    """Say whether an entry was sealed with one of these."""
    body, given = _BODY_AND_SEAL.unpack_from(raw, ordinal * ENTRY_SIZE)
    seal = seals.get(body[_MARK_AT:])
    return seal is not None and seal.fits(body, given)


def sound_end(raw: bytes | bytearray) -> int:
    """Return how many entries there are up to the last whole one whose checksum holds."""
    count = len(raw) // ENTRY_SIZE
    while count and not _is_sound(raw[(count - 1) * ENTRY_SIZE : count * ENTRY_SIZE]):
        count -= 1
    return count


def sound_entries(raw: bytes | bytearray | memoryview) -> Sound:
    """Return every whole entry whose checksum holds; their seals were not looked at."""
    count = len(raw) // ENTRY_SIZE
    if count >= (_SOME if "numpy" in sys.modules else BULK):
        with contextlib.suppress(ImportError):
            return _sound_in_bulk(raw, count)
    rows = []
    for ordinal in range(count):
        entry = bytes(raw[ordinal * ENTRY_SIZE : (ordinal + 1) * ENTRY_SIZE])
        if _is_sound(entry):
            rows.append((ordinal, entry[:32], entry[_KIND_AT], entry[_MARK_AT : _BODY.size]))
    return Sound(*zip(*rows, strict=True)) if rows else Sound((), (), (), ())


def _is_sound(entry: bytes | bytearray) -> bool:
    return _CHECKSUM.unpack_from(entry, _SEALED) == (_checksum(_WORDS.unpack_from(entry)),)


def _checksum(words: Sequence[int]) -> int:
    total: int = _START + sum(map(mul, words, _FACTORS))
    return total & 0xFFFF_FFFF


def _sound_in_bulk(raw: bytes | bytearray | memoryview, count: int) -> Sound:
    import numpy as np

    words = np.frombuffer(raw, "<u4", count * ENTRY_SIZE // 4).reshape(count, -1)
    sums = words[:, :-1] @ np.array(_FACTORS, "u4") + np.uint32(_START)
    ordinals = np.flatnonzero(sums == words[:, -1])
    entries = np.frombuffer(raw, np.dtype(_COLUMNS), count)[ordinals]
    return Sound(ordinals.tolist(), entries["key"].tolist(), entries["kind"].tolist(), entries["mark"].tolist())


def pack_header(key: bytes, digest: bytes, size: int) -> bytes:
    """Return what stands before a result in a pack."""
    return _HEADER.pack(_MAGIC, size, key, digest)


def file_id(stem: str) -> bytes:
    """Return the 32 bytes by which a revocation names a writer's file."""
    return blake3(stem.encode()).digest()
