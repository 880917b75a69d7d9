"""What a store holds, in memory: keys to entries, out of the index files of all its writers.

Rule 1: no I/O: the store reads the files and feeds their new bytes.
Rule 2: of several results of one key the first one met counts; the others stand by in case it is damaged.
Rule 3: nothing is handed out, and nothing taken back, on the word of an entry whose seal does not fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from scalable_hpc.cache.records import (
    ENTRY_SIZE,
    Entry,
    Kind,
    Sound,
    content_at,
    entry_at,
    file_id,
    is_sealed,
    sound_end,
    sound_entries,
)
from scalable_hpc.cache.seal import Keys, Seal

_ORDINAL_BITS = 40
_ORDINAL_MASK = (1 << _ORDINAL_BITS) - 1
_AT_ONCE = 100_000
"""Entries that are taken in together: quick enough, and no more memory than they will take for good."""
_RESULTS = frozenset({Kind.PACKED.value, Kind.BLOB.value})


@dataclass(frozen=True, slots=True)
class Place:
    """An entry and where it stands."""

    stem: str
    """The writer's file, without its suffix."""
    ordinal: int
    entry: Entry
    handle: int = -1
    """What the index calls it; -1 for an entry that is in none."""


@dataclass(slots=True)
class _File:
    stem: str
    id: bytes
    seals: Mapping[bytes, Seal]
    raw: bytearray = field(default_factory=bytearray)


class Index:
    """Keys to entries."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.foreign = 0
        """How many entries were met that another key has sealed: nothing of them is known here."""
        self.forged = 0
        """How many were met whose seal does not fit."""
        self._files: list[_File] = []
        self._numbers: dict[str, int] = {}
        self._ids: dict[bytes, int] = {}
        self._first: dict[bytes, int] = {}
        self._others: dict[bytes, list[int]] = {}
        self._revoked: set[tuple[bytes, int]] = set()
        self._waiting: list[tuple[float, Place]] = []

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
            self._files.append(_File(stem, file_id(stem), self._keys.seals(stem)))
            self._ids[self._files[number].id] = number
        file = self._files[number]
        base = len(file.raw) // ENTRY_SIZE
        if len(news) <= _AT_ONCE * ENTRY_SIZE:
            sound = sound_entries(news)
            if sound.ordinals:
                file.raw += memoryview(news)[: (sound.ordinals[-1] + 1) * ENTRY_SIZE]
                self._take_in(number, base, sound)
            return
        end = sound_end(news)
        file.raw += memoryview(news)[: end * ENTRY_SIZE]
        for start in range(0, end, _AT_ONCE):
            part = memoryview(news)[start * ENTRY_SIZE : min(end, start + _AT_ONCE) * ENTRY_SIZE]
            self._take_in(number, base + start, sound_entries(part))

    def _take_in(self, number: int, base: int, sound: Sound) -> None:
        file = self._files[number]
        for ordinal, key, kind, mark in zip(sound.ordinals, sound.keys, sound.kinds, sound.marks, strict=True):
            if mark not in file.seals:
                self.foreign += 1
            elif kind in _RESULTS:
                self._add(number, base + ordinal, key)
            elif kind == Kind.REVOKED:
                self._revoke(file, base + ordinal)

    def places(self, key: bytes) -> Iterator[Place]:
        """Yield every entry of a key, the one that counts first."""
        first = self.first(key)
        if first is not None:
            yield first
            for handle in tuple(self._others.get(key, ())):
                other = self._place(handle)
                if other is not None:
                    yield other

    def handle(self, key: bytes) -> int | None:
        """Return what the entry of a key that counts is called here, as long as it does."""
        return self._first.get(key)

    def first(self, key: bytes) -> Place | None:
        """Return the entry of a key that counts."""
        while (handle := self._first.get(key)) is not None:
            place = self._place(handle)
            if place is not None:
                return place
        return None

    def locate(self, key: bytes) -> tuple[bytes, int, float] | None:
        """Return digest, size and core-seconds of the result of a key that counts: for who asks for a million."""
        handle = self._first.get(key)
        if handle is None:
            return None
        file = self._files[handle >> _ORDINAL_BITS]
        ordinal = handle & _ORDINAL_MASK
        if is_sealed(file.raw, ordinal, file.seals):
            return content_at(file.raw, ordinal)
        place = self.first(key)
        return None if place is None else (place.entry.digest, place.entry.size, place.entry.core_s)

    def drop(self, place: Place) -> None:
        """Forget an entry, for this process."""
        number = self._numbers[place.stem]
        self._revoked.add((self._files[number].id, place.ordinal))
        self._remove(place.entry.key, number << _ORDINAL_BITS | place.ordinal)

    def set_aside(self, place: Place, now: float) -> None:
        """Pass over an entry for a while: what it names is not (all) there yet, as far as this process sees."""
        self._remove(place.entry.key, place.handle)
        self._waiting.append((now, place))

    def reconsider(self, before: float) -> None:
        """Take up again what was set aside before a time."""
        due = [place for since, place in self._waiting if since < before]
        self._waiting = [(since, place) for since, place in self._waiting if since >= before]
        for place in due:
            self._add(self._numbers[place.stem], place.ordinal, place.entry.key)

    def keys(self) -> list[bytes]:
        """Return every key that has a result."""
        return list(self._first)

    def _place(self, handle: int) -> Place | None:
        """Return what a handle stands for; what is not to be believed is forgotten."""
        file = self._files[handle >> _ORDINAL_BITS]
        ordinal = handle & _ORDINAL_MASK
        entry = entry_at(file.raw, ordinal)
        if is_sealed(file.raw, ordinal, file.seals):
            return Place(file.stem, ordinal, entry, handle)
        self.forged += 1
        self._remove(entry.key, handle)
        return None

    def _add(self, number: int, ordinal: int, key: bytes) -> None:
        if self._revoked and (self._files[number].id, ordinal) in self._revoked:
            return
        handle = number << _ORDINAL_BITS | ordinal
        if self._first.setdefault(key, handle) != handle:
            self._others.setdefault(key, []).append(handle)

    def _revoke(self, file: _File, ordinal: int) -> None:
        if not is_sealed(file.raw, ordinal, file.seals):
            self.forged += 1
            return
        entry = entry_at(file.raw, ordinal)
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
