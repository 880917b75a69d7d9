"""Records in one tar file: to move results from one store to another.

    scalable-hpc-cache.json    version and number of records
    records/<key>.<digest>     the record's bytes

Rule 1: nothing here is unpickled, going out or coming in; what comes in must have the digest that it claims.
Rule 2: an archive appears under its name when it is whole.
"""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from scalable_hpc.cache.layout import FILE_MODE, is_ours
from scalable_hpc.cache.store import SMALL, Staged, Store
from scalable_hpc.cache.verify import Damaged
from scalable_hpc.errors import StoreError

_HEAD = "scalable-hpc-cache.json"
_VERSION = 1
_RECORD = re.compile(r"records/(?P<key>[0-9a-f]{64})\.(?P<digest>[0-9a-f]{64})")
_BATCH = 1000
"""Records that share one fsync on their way in."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What went into an archive."""

    records: int
    data_bytes: int
    damaged: tuple[str, ...]
    """Keys whose results are damaged or gone; they were left out."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What came out of an archive."""

    taken: int
    known: int
    """Keys that the store has a result of already; that result stays."""
    refused: tuple[str, ...]
    """Members that are not what their names say; they were left out."""


def export_archive(store: Store, target: Path, keys: Sequence[str]) -> Exported:
    """Write the results of some keys to an archive.

    Raises:
        StoreError: a key has no result, or the store cannot be read.
        OSError: the archive cannot be written.
    """
    locators = store.lookup_many(keys)
    unknown = [key for key, locator in zip(keys, locators, strict=True) if locator is None]
    if unknown:
        raise StoreError(f"no result of {unknown[0]!r} is known", hint="scalable-hpc cache ls")
    aside = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    damaged: list[str] = []
    records = size = 0
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "wb") as file:
            with tarfile.open(fileobj=file, mode="w") as archive:
                _add(archive, _HEAD, json.dumps({"version": _VERSION}).encode())
                for locator in filter(None, locators):
                    try:
                        data = store.read(locator)
                    except Damaged:
                        damaged.append(locator.key)
                        continue
                    _add(archive, f"records/{locator.key}.{locator.digest}", data)
                    records, size = records + 1, size + locator.size
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    return Exported(records, size, tuple(damaged))


def import_archive(store: Store, source: Path) -> Imported:
    """Take the records of an archive into a store, each after its digest was checked.

    Raises:
        StoreError: it is not such an archive, belongs to another user, or the store cannot be written to.
        OSError: the archive cannot be read.
    """
    taken = known = 0
    refused: list[str] = []
    batch: list[tuple[str, bytes | Staged]] = []
    with source.open("rb") as file:
        if not is_ours(os.fstat(file.fileno())):
            raise StoreError(
                f"the archive {str(source)!r} belongs to another user: its results would run their code",
                hint=f"if you trust whoever made it, make it yours: cp {source} mine.tar",
            )
        for name, data in _members(file, source):
            match = _RECORD.fullmatch(name)
            if match is None or blake3(data, max_threads=blake3.AUTO).hexdigest() != match["digest"]:
                refused.append(name)
            elif store.lookup(match["key"], fresh=False) is not None:
                known += 1
            else:
                # large ones go to the disk at once: only small ones are worth gathering
                batch.append((match["key"], data if len(data) <= SMALL else store.stage(data)))
                taken += 1
            if len(batch) >= _BATCH:
                store.publish_many(batch)
                batch.clear()
    if batch:
        store.publish_many(batch)
    return Imported(taken, known, tuple(refused))


def _members(file: io.BufferedReader, source: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(fileobj=file, mode="r|") as archive:
            head = True
            for member in archive:
                content = archive.extractfile(member) if member.isreg() else None
                data = b"" if content is None else content.read()
                if head:
                    _check_head(member.name, data, source)
                    head = False
                else:
                    yield member.name, data
            if head:
                raise StoreError(f"not an archive of cached results: {str(source)!r} is empty")
    except tarfile.TarError as err:
        raise StoreError(f"not a whole archive of cached results: {str(source)!r}: {err}") from err


def _check_head(name: str, data: bytes, source: Path) -> None:
    try:
        said = json.loads(data) if name == _HEAD else None
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise StoreError(f"not an archive of cached results: {str(source)!r}")
    if said.get("version") != _VERSION:
        raise StoreError(f"the archive {str(source)!r} has version {said.get('version')!r}, not {_VERSION}")


def _add(archive: tarfile.TarFile, name: str, data: bytes | memoryview) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    member.mode = FILE_MODE
    archive.addfile(member, _Reader(data))


class _Reader(io.RawIOBase):
    """Bytes as a file, without a copy of a mapped blob."""

    def __init__(self, data: bytes | memoryview) -> None:
        super().__init__()
        self._rest = memoryview(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        size = min(len(view), len(self._rest))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
