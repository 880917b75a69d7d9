"""Everything a store holds, read at once for upkeep: its writers' files, its results, its blobs.

Rule 1: reading only: nothing here changes a store, and other users' files are passed over as any reader does.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scalable_hpc.cache.blobs import Blobs
from scalable_hpc.cache.index import Index, Place
from scalable_hpc.cache.keyring import keys_here
from scalable_hpc.cache.layout import is_ours, open_layout
from scalable_hpc.cache.packs import INDEX, PACK
from scalable_hpc.cache.records import ENTRY_SIZE, Entry, Kind, entry_at, file_id, is_sealed, sound_entries
from scalable_hpc.cache.seal import Seal

_DIGEST_DIGITS = 64


@dataclass(slots=True)
class WriterFile:
    """One writer's index, and what lies beside it."""

    stem: str
    seals: Mapping[bytes, Seal]
    raw: bytearray = field(default_factory=bytearray)
    """Its index up to the last sound entry."""
    index_bytes: int = 0
    """The index on disk, torn tail and all."""
    pack_bytes: int = 0
    touched: float = 0.0
    """When either file was last written to, in seconds since the epoch."""

    def entries(self) -> Iterator[tuple[int, Entry]]:
        """Yield ordinal and entry of everything sound that is ours, revocations and kinds unknown here too."""
        for ordinal in sound_entries(self.raw).ordinals:
            if is_sealed(self.raw, ordinal, self.seals):
                yield ordinal, entry_at(self.raw, ordinal)

    def foreign(self) -> Iterator[Entry]:
        """Yield what another key has sealed: not ours to read, nor to remove."""
        sound = sound_entries(self.raw)
        for ordinal, mark in zip(sound.ordinals, sound.marks, strict=True):
            if mark not in self.seals:
                yield entry_at(self.raw, ordinal)

    def unsound(self) -> int:
        """Return how many whole entries of the index, on disk, are damaged, forged, or not yet all there."""
        return self.index_bytes // ENTRY_SIZE - sum(1 for _ in self.entries()) - sum(1 for _ in self.foreign())


@dataclass(frozen=True, slots=True)
class Result:
    """One key and every copy of its result."""

    places: tuple[Place, ...]
    """The one that counts first."""

    @property
    def key(self) -> str:
        """64 hex digits."""
        return self.entry.key.hex()

    @property
    def entry(self) -> Entry:
        """The entry that counts."""
        return self.places[0].entry

    @property
    def created(self) -> int:
        """When its newest copy was written, in seconds since the epoch."""
        return max(place.entry.created for place in self.places)


@dataclass(frozen=True, slots=True)
class BlobFile:
    """One blob, as the directory shows it."""

    digest: bytes
    size: int
    touched: float


class Books:
    """A store as upkeep sees it; ``look`` again for what has changed since."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        """Read every index of a store that is there.

        Raises:
            StoreError: there is none, or it belongs to another user.
            OSError: it cannot be read.
        """
        self.root = str(Path(root).absolute())
        self.layout = open_layout(Path(self.root), create=False)
        self.blobs = Blobs(self.layout, durable=True)
        self.keys = keys_here(create=False)
        self.index = Index(self.keys)
        self.files: dict[str, WriterFile] = {}
        self.ids: dict[bytes, str] = {}
        """Every file that is there by the id that revocations know it by."""
        self.orphans: dict[str, float] = {}
        """Packs without an index, left by upkeep that was interrupted, and when they were last written to."""
        self.look()

    def look(self) -> None:
        """Take in what writers have added; files that are gone keep what was read of them.

        Raises:
            OSError: the store cannot be read.
        """
        names = sorted(os.listdir(self.layout.packs))  # noqa: PTH208 - names alone, a thousand and more
        for name in names:
            if name.endswith(INDEX):
                with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                    self._read(self.layout.packs / name)
        there = set(names)
        for name in names:
            stem = name.removesuffix(PACK)
            if name.endswith(PACK) and stem + INDEX not in there:
                with contextlib.suppress(FileNotFoundError):
                    self.orphans[stem] = (self.layout.packs / name).stat().st_mtime

    def strike(self, stem: str) -> None:
        """Forget a file that was removed."""
        self.files.pop(stem, None)
        self.orphans.pop(stem, None)
        self.ids.pop(file_id(stem), None)

    def results(self) -> Iterator[Result]:
        """Yield every key that has a result."""
        for key in self.index.keys():  # noqa: SIM118 - an Index is not a mapping
            yield Result(tuple(self.index.places(key)))

    def result(self, key: str) -> Result | None:
        """Return the result of a key (64 hex digits), if there is one."""
        places = tuple(self.index.places(bytes.fromhex(key)))
        return Result(places) if places else None

    def revoked(self) -> set[tuple[bytes, int]]:
        """Return what was taken back, each as its file's id and the ordinal there."""
        return {
            (entry.digest, entry.offset)
            for file in self.files.values()
            for _, entry in file.entries()
            if entry.kind == Kind.REVOKED
        }

    def named_by_others(self) -> set[bytes]:
        """Return the digests that entries sealed with another key name: their blobs are not ours to remove."""
        return {entry.digest for file in self.files.values() for entry in file.foreign()}

    def blob_files(self) -> Iterator[BlobFile]:
        """Yield every blob of ours on disk, referenced or not."""
        for folder in sorted(self.layout.blobs.iterdir()):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as listing:
                for each in listing:
                    status = each.stat(follow_symlinks=False)
                    if len(each.name) == _DIGEST_DIGITS and is_ours(status):
                        yield BlobFile(bytes.fromhex(each.name), status.st_size, status.st_mtime)

    def _read(self, path: Path) -> None:
        stem = path.name.removesuffix(INDEX)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            status = os.fstat(descriptor)
            if not is_ours(status):
                return
            file = self.files.get(stem)
            if file is None:
                file = self.files[stem] = WriterFile(stem, self.keys.seals(stem))
                self.ids[file_id(stem)] = stem
            known = len(file.raw)
            news = os.pread(descriptor, max(0, status.st_size - known), known)
        finally:
            os.close(descriptor)
        file.index_bytes = status.st_size
        file.touched = status.st_mtime
        with contextlib.suppress(FileNotFoundError):  # a writer of large results alone has none
            pack = path.with_name(stem + PACK).stat()
            file.pack_bytes = pack.st_size
            file.touched = max(file.touched, pack.st_mtime)
        self.index.feed(stem, news)
        file.raw += news[: self.index.known(stem) - known]
