"""Looking after a store: counting, verifying, repairing, and giving back what nothing needs.

Rule 1: safe beside living readers and writers: whatever they hold, they read what was stored or nothing at all.
Rule 2: without ``repair`` or ``carry_out`` nothing is changed.
Rule 3: results go only when a limit says so; what is always given back is what no result needs.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3
from filelock import FileLock, Timeout

from scalable_hpc.cache.books import BlobFile, Books, Result
from scalable_hpc.cache.compact import KNOWN_KINDS, Compacted, compact, late_revocations, live_bytes, remove
from scalable_hpc.cache.eviction import (
    QUIET_S,
    Eviction,
    FileView,
    Limits,
    Rewrite,
    choose_evictions,
    choose_rewrites,
    total_size,
    why_gone,
)
from scalable_hpc.cache.index import Index, Place
from scalable_hpc.cache.packs import PackReader
from scalable_hpc.cache.records import ENTRY_SIZE, HEADER_SIZE, Kind, pack_header
from scalable_hpc.cache.scribe import Scribe
from scalable_hpc.cache.verify import Damaged, RecordReader
from scalable_hpc.errors import StoreError

SETTLED_S = 3600.0
"""Seconds for which an unreferenced blob stays: its writer stages first and names it afterwards."""
_LOCK = "upkeep.lock"


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
    """Index entries whose checksum does not hold, torn tails of dead writers among them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A copy of a result that cannot be returned."""

    key: str
    where: str
    because: str
    place: Place
    damaged: bool
    """There and wrong; else not (all) there, which beside a living writer may still change."""


@dataclass(frozen=True, slots=True)
class GcPlan:
    """What garbage collection would do."""

    evictions: tuple[Eviction, ...]
    rewrites: tuple[Rewrite, ...]
    blobs: tuple[BlobFile, ...]
    """Blobs that no result names (any more)."""
    held_back: int
    """Blobs that no result names and that are too new to go."""
    evicted_bytes: int


@dataclass(frozen=True, slots=True)
class Collected:
    """What garbage collection did."""

    evicted: int
    compacted: Compacted
    blobs_removed: int
    freed_bytes: int
    """Bytes of the files before, less those after."""
    freed_inodes: int


def count(books: Books) -> Stats:
    """Return what a store holds, in numbers.

    Raises:
        OSError: it cannot be read.
    """
    results = list(books.results())
    disk, inodes = _on_disk(books.layout.packs.parent)
    return Stats(
        entries=len(results),
        result_bytes=total_size(results),
        disk_bytes=disk,
        inodes=inodes,
        packs=len(books.files),
        blobs=sum(1 for _ in books.blob_files()),
        quarantined=sum(1 for _ in books.layout.quarantine.iterdir()),
        damaged_entries=sum(file.unsound() for file in books.files.values()),
    )


def examine(books: Books) -> Iterator[Finding]:
    """Read every copy of every result; yield those that cannot be returned, and change nothing.

    Raises:
        OSError: the store cannot be read.
    """
    packs = PackReader(books.layout.packs)
    blobs: dict[tuple[bytes, int], tuple[str, bool] | None] = {}
    try:
        for result in books.results():
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
    gone = {stem for stem in books.files if _gone(books, stem, now, QUIET_S) is not None}
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
    _revoke(books, taken)
    return left


def plan_gc(books: Books, limits: Limits, now: float, *, quiet_s: float = QUIET_S) -> GcPlan:
    """Return what garbage collection would do.

    Args:
        books: The store.
        limits: Which results may stay; without any, all do.
        now: Seconds since the epoch.
        quiet_s: After how long without a write a writer on another host counts as gone.

    Raises:
        OSError: the store cannot be read.
    """
    results = list(books.results())
    evictions = choose_evictions(results, limits, now)
    going = {eviction.result.key for eviction in evictions}
    staying = [result for result in results if result.key not in going]
    named = {
        place.entry.digest for result in staying for place in result.places if place.entry.kind == Kind.BLOB
    }
    unnamed = [blob for blob in books.blob_files() if blob.digest not in named]
    blobs = [blob for blob in unnamed if now - blob.touched > SETTLED_S]
    dead = _dead_soon(evictions)
    views = [_view(books, stem, dead.get(stem, 0), now, quiet_s) for stem in books.files]
    return GcPlan(
        evictions=tuple(evictions),
        rewrites=tuple(choose_rewrites(views)),
        blobs=tuple(blobs),
        held_back=len(unnamed) - len(blobs),
        evicted_bytes=total_size(results) - total_size(staying),
    )


def carry_out(books: Books, plan: GcPlan, now: float) -> Collected:
    """Collect the garbage that a plan names.

    Raises:
        StoreError: another process is at it.
        OSError: the store cannot be written to; what was done so far holds.
    """
    top = books.layout.packs.parent
    lock = FileLock(top / _LOCK, timeout=0)
    try:
        with lock:
            before = _on_disk(top)
            compacted, blobs = _collect(books, plan, now)
            after = _on_disk(top)
    except Timeout as err:
        raise StoreError(
            f"another process collects the garbage of {books.root!r}", hint="wait until it is through"
        ) from err
    return Collected(len(plan.evictions), compacted, blobs, before[0] - after[0], before[1] - after[1])


def _collect(books: Books, plan: GcPlan, now: float) -> tuple[Compacted, int]:
    _revoke(books, [place for eviction in plan.evictions for place in eviction.result.places])
    _revoke(books, late_revocations(books))
    compacted = compact(books, [rewrite.stem for rewrite in plan.rewrites if rewrite.stem in books.files], now)
    # whoever looked before the copies appeared may have taken originals back since
    _revoke(books, late_revocations(books))
    remove(books, compacted.removed)
    books.blobs.sweep(now)
    return compacted, _remove_blobs(books, plan.blobs)


def _remove_blobs(books: Books, blobs: Sequence[BlobFile]) -> int:
    """Remove blobs unless somebody has named them meanwhile: out of sight first, then a last look."""
    moved: list[tuple[BlobFile, Path]] = []
    for blob in blobs:
        path = books.blobs.path(blob.digest)
        hidden = books.layout.aside / f"{blob.digest.hex()}-{secrets.token_hex(4)}"
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime == blob.touched:
                os.utime(path)  # as old as it is, the next writer would sweep it away
                path.rename(hidden)
                moved.append((blob, hidden))
    if not moved:
        return 0
    books.look()
    named = {
        place.entry.digest for result in books.results() for place in result.places if place.entry.kind == Kind.BLOB
    }
    removed = 0
    for blob, hidden in moved:
        if blob.digest in named:
            hidden.replace(books.blobs.path(blob.digest))
        else:
            hidden.unlink()
            removed += 1
    return removed


def _dead_soon(evictions: Sequence[Eviction]) -> dict[str, int]:
    """Return the bytes of each file that evictions make dead."""
    dead: dict[str, int] = {}
    for eviction in evictions:
        for place in eviction.result.places:
            packed = place.entry.kind == Kind.PACKED
            size = ENTRY_SIZE + (HEADER_SIZE + place.entry.size if packed else 0)
            dead[place.stem] = dead.get(place.stem, 0) + size
    return dead


def _view(books: Books, stem: str, dead: int, now: float, quiet_s: float) -> FileView:
    file = books.files[stem]
    return FileView(
        stem,
        total=file.index_bytes + file.pack_bytes,
        live=live_bytes(books, file, now) - dead,
        gone=_gone(books, stem, now, quiet_s),
        readable=all(entry.kind in KNOWN_KINDS for _, entry in file.entries()),
    )


def _gone(books: Books, stem: str, now: float, quiet_s: float) -> str | None:
    touched = books.files[stem].touched
    return why_gone(stem, touched, here=socket.gethostname(), lives=_lives, now=now, quiet_s=quiet_s)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _revoke(books: Books, places: Sequence[Place]) -> None:
    if places:
        # an index of its own: what is written here comes back to the books by the next look, like anybody's
        scribe = Scribe(books.root, books.layout, books.blobs, Index(), durable=True)
        try:
            scribe.revoke(places, wait=True)
        finally:
            scribe.close()
        books.look()


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
        data = books.blobs.read(digest, size)
    except (FileNotFoundError, PermissionError) as err:
        return f"it cannot be opened: {err}", False
    if len(data) != size:
        return "it is not as long as the index says", False
    sound = blake3(data, max_threads=blake3.AUTO).digest() == digest
    return None if sound else ("its bytes do not have its digest", True)


def _on_disk(top: Path) -> tuple[int, int]:
    """Return bytes allotted and inodes of a directory and all below it."""
    total, inodes = top.stat().st_blocks * 512, 1
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):
                total += Path(folder, name).lstat().st_blocks * 512  # st_blocks counts in 512, whatever the disk does
                inodes += 1
    return total, inodes


