"""What other writers have added to their index files since this process last looked.

To look is a listing and a question for each writer; to take in what is new is work for every entry. A process that only
publishes can leave that for later, when so many at once cost a tenth: it must know what others have said of its key,
and nothing else.

Rule 1: another user's files are left alone; what is gone since it was listed is passed over.
Rule 2: what was read is kept until it is taken in, and no longer: what then was not whole is read again.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from scalable_hpc.cache.index import Index
from scalable_hpc.cache.layout import is_gone, is_ours
from scalable_hpc.cache.packs import INDEX
from scalable_hpc.cache.records import BULK, ENTRY_SIZE, KEY_SIZE

_LISTED_S = 1.0
"""Seconds for which a listing is believed, at most: as far as the directory says that nobody came or went."""
_TICK_NS, _COARSE_TICK_NS = 50_000_000, 3_000_000_000
"""In less than this, two changes may have one time: where a file system has fractions of seconds, and where not."""
_AT_ONCE = 100_000 * ENTRY_SIZE
"""Bytes that are read and taken in together: a million entries are not held twice."""
_ALL = 1 << 62


@dataclass(slots=True)
class _Listed:
    """An index file."""

    stem: str
    path: str
    read: int
    """Bytes of it that were read: taken in, or kept aside."""


class News:
    """The news of one store; used under its lock."""

    def __init__(self, packs: Path) -> None:
        self._packs = str(packs)
        self._files: list[_Listed] = []
        self._listed_at = 0.0
        self._changed_ns = 0
        """The directory's time when it was listed; 0 where that says nothing."""
        self._tails: dict[str, bytearray] = {}
        """By stem, in order: what was read and not taken in, in whole entries."""
        self._keys: set[bytes] = set()
        """That stand in those."""

    def take_in(self, index: Index, own: Collection[str]) -> None:
        """Feed all that is new to an index, but for this process's own files.

        Raises:
            OSError: it cannot be read.
        """
        self._list(index)
        if len(self._keys) >= BULK:  # of many writers, each with too few to be worth it
            with contextlib.suppress(ImportError):
                importlib.import_module("numpy")
        tails, self._tails, self._keys = self._tails, {}, set()
        for file in self._files:
            if file.stem in tails:
                index.feed(file.stem, bytes(tails[file.stem]))
                file.read = index.known(file.stem)
            most = _AT_ONCE
            while news := _news_of(file, own, most):
                index.feed(file.stem, news)
                read, file.read = file.read, index.known(file.stem)
                if len(news) < most:
                    break
                # where nothing of so much is sound, what follows it may be
                most = most if file.read > read else _ALL

    def speak_of(self, keys: Sequence[bytes], index: Index, own: Collection[str]) -> bool:
        """Say whether there is news of some keys, or so much of it that it had better be taken in.

        Raises:
            OSError: it cannot be read.
        """
        if not self._is_listed():
            self._list(index)
        for file in self._files:
            if news := _news_of(file, own, _ALL):
                file.read += len(news)
                self._tails.setdefault(file.stem, bytearray()).extend(news)
                self._keys.update([news[at : at + KEY_SIZE] for at in range(0, len(news), ENTRY_SIZE)])
        return len(self._keys) >= BULK or not self._keys.isdisjoint(keys)

    def _is_listed(self) -> bool:
        if not self._changed_ns or not 0 <= time.time() - self._listed_at < _LISTED_S:
            return False
        return os.stat(self._packs).st_mtime_ns == self._changed_ns  # noqa: PTH116 - on the way of every result

    def _list(self, index: Index) -> None:
        self._listed_at = time.time()
        changed_ns = os.stat(self._packs).st_mtime_ns  # noqa: PTH116 - as above
        tick_ns = _TICK_NS if changed_ns % 1_000_000_000 else _COARSE_TICK_NS
        self._changed_ns = changed_ns if self._listed_at * 1e9 - changed_ns > tick_ns else 0
        with os.scandir(self._packs) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith(INDEX))
        stems = [name.removesuffix(INDEX) for name in names]
        self._files = [
            _Listed(stem, f"{self._packs}/{name}", index.known(stem) + len(self._tails.get(stem, b"")))
            for stem, name in zip(stems, names, strict=True)
        ]


def _news_of(file: _Listed, own: Collection[str], most: int) -> bytes:
    """Return the whole entries that were added to an index file, up to so many bytes; nothing of another user's."""
    try:
        status = os.stat(file.path)  # noqa: PTH116 - as above
        if status.st_size - file.read < ENTRY_SIZE or file.stem in own or not is_ours(status):
            return b""
        descriptor = os.open(file.path, os.O_RDONLY)
    except OSError as err:
        if is_gone(err) or isinstance(err, PermissionError):  # removed since it was listed, or kept from the group
            return b""
        raise
    try:
        news = os.pread(descriptor, min(most, status.st_size - file.read), file.read)
        return news[: len(news) - len(news) % ENTRY_SIZE]
    finally:
        os.close(descriptor)
