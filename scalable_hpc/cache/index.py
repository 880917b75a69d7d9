"""What a store holds, in memory: keys to entries, out of the index files of all its writers.

Rule 1: no I/O: the store reads the files and feeds their new bytes.
Rule 2: of several results of one key the first one met counts; the others stand by in case it is damaged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from scalable_hpc.cache.records import ENTRY_SIZE, Entry, Kind, entry_at, file_id, sound_entries

_ORDINAL_BITS = 40
_ORDINAL_MASK = (1 << _ORDINAL_BITS) - 1


@dataclass(frozen=True, slots=True)
class Place:
    """An entry and where it stands."""

    stem: str
    """The writer's file, without its suffix."""
    ordinal: int
    entry: Entry


@dataclass(slots=True)
class _File:
    stem: str
    id: bytes
    raw: bytearray = field(default_factory=bytearray)


class Index:
    """Keys to entries."""

    def __init__(self) -> None:
        self._files: list[_File] = []
        self._numbers: dict[str, int] = {}
        self._ids: dict[bytes, int] = {}
        self._first: dict[bytes, int] = {}
        self._others: dict[bytes, list[int]] = {}
        self._revoked: set[tuple[bytes, int]] = set()

    def __len__(self) -> int:
        return len(self._first)

    def known(self, stem: str) -> int:
        """Return how many bytes of a file's index were fed so far."""
        number = self._numbers.get(stem)
        return 0 if number is None else len(self._files[number].raw)

    def feed(self, stem: str, news: bytes) -> None:
        """Take in the bytes that follow those known of a file.

        What comes after the last sound entry is left for the next time: it may still be on its way. A damaged entry
        between sound ones is passed over for good.
        """
        number = self._numbers.get(stem)
        if number is None:
            number = self._numbers[stem] = len(self._files)
            self._files.append(_File(stem, file_id(stem)))
            self._ids[self._files[number].id] = number
        file = self._files[number]
        base = len(file.raw) // ENTRY_SIZE
        sound = list(sound_entries(news))
        if not sound:
            return
        file.raw += news[: (sound[-1][0] + 1) * ENTRY_SIZE]
        for ordinal, key, kind in sound:
            if kind in {Kind.PACKED, Kind.BLOB}:
                self._add(number, base + ordinal, key)
            elif kind == Kind.REVOKED:
                self._revoke(entry_at(file.raw, base + ordinal))

    def places(self, key: bytes) -> Iterator[Place]:
        """Yield every entry of a key, the one that counts first."""
        first = self._first.get(key)
        if first is not None:
            yield self._place(first)
            for handle in tuple(self._others.get(key, ())):
                yield self._place(handle)

    def first(self, key: bytes) -> Place | None:
        """Return the entry of a key that counts."""
        handle = self._first.get(key)
        return None if handle is None else self._place(handle)

    def drop(self, place: Place) -> None:
        """Forget an entry, for this process."""
        number = self._numbers[place.stem]
        self._revoked.add((self._files[number].id, place.ordinal))
        self._remove(place.entry.key, number << _ORDINAL_BITS | place.ordinal)

    def keys(self) -> list[bytes]:
        """Return every key that has a result."""
        return list(self._first)

    def _place(self, handle: int) -> Place:
        file = self._files[handle >> _ORDINAL_BITS]
        ordinal = handle & _ORDINAL_MASK
        return Place(file.stem, ordinal, entry_at(file.raw, ordinal))

    def _add(self, number: int, ordinal: int, key: bytes) -> None:
        if self._revoked and (self._files[number].id, ordinal) in self._revoked:
            return
        handle = number << _ORDINAL_BITS | ordinal
        if self._first.setdefault(key, handle) != handle:
            self._others.setdefault(key, []).append(handle)

    def _revoke(self, entry: Entry) -> None:
        self._revoked.add((entry.digest, entry.offset))
        number = self._ids.get(entry.digest)
        if number is not None:
            self._remove(entry.key, number << _ORDINAL_BITS | entry.offset)

    def _remove(self, key: bytes, handle: int) -> None:
        others = self._others.get(key, [])
        if handle in others:
            others.remove(handle)
        elif self._first.get(key) == handle:
            if others:
                self._first[key] = others.pop(0)
            else:
                del self._first[key]
        if not others:
            self._others.pop(key, None)
