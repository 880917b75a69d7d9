"""Counting, verifying and repairing what a store holds.

Rule 1: only ``repair`` changes anything.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from scalable_hpc.cache.books import Books, Result
from scalable_hpc.cache.compact import revoke
from scalable_hpc.cache.eviction import total_size
from scalable_hpc.cache.index import Place
from scalable_hpc.cache.packs import PackReader
from scalable_hpc.cache.records import Kind, pack_header
from scalable_hpc.cache.verify import Damaged, RecordReader
from scalable_hpc.cache.writers import gone_for_good


@dataclass(frozen=True, slots=True)
class Stats:
    """What a store holds, in numbers."""

    entries: int
    result_bytes: int
    """Bytes of the results that count; blobs that several keys share count once."""
    disk_bytes: int
    inodes: int
    packs: int
    """Writers' files: an index, and mostly a pack beside it."""
    blobs: int
    quarantined: int
    damaged_entries: int
    """Index entries whose checksum or seal does not hold, torn tails of dead writers among them."""
    foreign_entries: int = 0
    """Index entries that another key has sealed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A copy of a result that cannot be returned."""

    key: str
    where: str
    because: str
    place: Place
    damaged: bool
    """There and wrong; else not (all) there, which beside a living writer may still change."""


def count(books: Books) -> Stats:
    """Return what a store holds, in numbers.

    Raises:
        OSError: it cannot be read.
    """
    results = list(books.results())
    disk, inodes = on_disk(books.layout.packs.parent)
    return Stats(
        entries=len(results),
        result_bytes=total_size(results),
        disk_bytes=disk,
        inodes=inodes,
        packs=len(books.files),
        blobs=sum(1 for _ in books.blob_files()),
        quarantined=sum(1 for _ in books.layout.quarantine.iterdir()),
        damaged_entries=sum(file.unsound() for file in books.files.values()),
        foreign_entries=sum(1 for file in books.files.values() for _ in file.foreign()),
    )


def examine(books: Books, results: Iterable[Result] | None = None) -> Iterator[Finding]:
    """Read every copy of every result, or of some; yield those that cannot be returned, and change nothing.

    Raises:
        OSError: the store cannot be read.
    """
    return _examine(books, books.results() if results is None else results)


def examine_result(books: Books, result: Result) -> list[Finding]:
    """Return the copies of one result that cannot be returned.

    Raises:
        OSError: the store cannot be read.
    """
    return list(_examine(books, [result]))


def _examine(books: Books, results: Iterable[Result]) -> Iterator[Finding]:
    packs = PackReader(books.layout.packs)
    blobs: dict[tuple[bytes, int], tuple[str, bool] | None] = {}
    try:
        for result in results:
            for place in result.places:
                entry = place.entry
                if entry.kind == Kind.BLOB:
                    name = (entry.digest, entry.size)
                    if name not in blobs:
                        blobs[name] = _fault_of_blob(books, *name)
                    fault, where = blobs[name], f"blob {entry.digest.hex()}"
                else:
                    fault, where = _fault_of_record(packs, place), f"pack {place.stem} at {entry.offset}"
                if fault is not None:
                    yield Finding(result.key, where, fault[0], place, fault[1])
    finally:
        packs.close()


def repair(books: Books, findings: Sequence[Finding], now: float) -> list[Finding]:
    """Put damaged copies in quarantine and take back what cannot be returned; return what was left alone.

    A copy that is not (all) there is left alone while its writer may live.

    Raises:
        OSError: the store cannot be written to.
    """
    gone = {stem for stem in books.files if gone_for_good(stem, books.files[stem].touched, now) is not None}
    reader = RecordReader(books.layout, books.blobs)
    taken, left = [], []
    try:
        for finding in findings:
            if not finding.damaged and finding.place.stem not in gone:
                left.append(finding)
                continue
            with contextlib.suppress(Damaged):  # which is what puts it in quarantine
                reader.read(finding.place)
            taken.append(finding.place)
    finally:
        reader.close()
    revoke(books, taken)
    return left


def on_disk(top: Path) -> tuple[int, int]:
    """Return bytes allotted and inodes of a directory and all below it."""
    total, inodes = top.stat().st_blocks * 512, 1
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):
                total += Path(folder, name).lstat().st_blocks * 512  # st_blocks counts in 512, whatever the disk does
                inodes += 1
    return total, inodes


def _fault_of_record(packs: PackReader, place: Place) -> tuple[str, bool] | None:
    entry = place.entry
    try:
        header, data = packs.read(place.stem, entry)
    except (FileNotFoundError, PermissionError) as err:
        return f"its pack cannot be opened: {err}", False
    if len(data) != entry.size:
        return "it is not all there", False
    if header != pack_header(entry.key, entry.digest, entry.size):
        return "its header is not what the index says", True
    return None if blake3(data).digest() == entry.digest else ("its bytes do not have its digest", True)


def _fault_of_blob(books: Books, digest: bytes, size: int) -> tuple[str, bool] | None:
    try:
        blob = books.blobs.read(digest, size, lambda _: False)
    except (FileNotFoundError, PermissionError) as err:
        return f"it cannot be opened: {err}", False
    if len(blob.data) != size:
        return "it is not as long as the index says", False
    return None if blob.is_sound else ("its bytes do not have its digest", True)
