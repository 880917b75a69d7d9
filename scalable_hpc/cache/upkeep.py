"""Giving back what nothing in a store needs, and what limits say may go.

Rule 1: safe beside living readers and writers: whatever they hold, they read what was stored or nothing at all.
Rule 2: only ``carry_out`` changes anything.
Rule 3: results go only when a limit says so; what is always given back is what no result needs.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from scalable_hpc.cache.books import BlobFile, Books
from scalable_hpc.cache.checkup import on_disk
from scalable_hpc.cache.compact import KNOWN_KINDS, Compacted, compact, late_revocations, live_bytes, remove, revoke
from scalable_hpc.cache.eviction import (
    Eviction,
    FileView,
    Limits,
    Rewrite,
    choose_evictions,
    choose_rewrites,
    total_size,
)
from scalable_hpc.cache.layout import file_mode
from scalable_hpc.cache.notebook import join_notes
from scalable_hpc.cache.records import ENTRY_SIZE, HEADER_SIZE, Kind
from scalable_hpc.cache.writers import QUIET_S, gone_for_good
from scalable_hpc.errors import StoreError

SETTLED_S = 3600.0
"""Seconds for which an unreferenced blob stays: its writer stages first and names it afterwards."""
_LOCK = "upkeep.lock"


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
    named = {place.entry.digest for result in staying for place in result.places if place.entry.kind == Kind.BLOB}
    named |= books.named_by_others()
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
    with alone(books):
        before = on_disk(top)
        compacted, blobs = _collect(books, plan, now)
        after = on_disk(top)
    return Collected(len(plan.evictions), compacted, blobs, max(0, before[0] - after[0]), max(0, before[1] - after[1]))


@contextlib.contextmanager
def alone(books: Books) -> Iterator[None]:
    """Keep other upkeep of a store away.

    Raises:
        StoreError: another process is at it.
    """
    lock = FileLock(books.layout.packs.parent / _LOCK, timeout=0, mode=file_mode())
    try:
        lock.acquire()
    except Timeout as err:
        raise StoreError(
            f"another process collects the garbage of {books.root!r}", hint="wait until it is through"
        ) from err
    try:
        yield
    finally:
        lock.release()


def _collect(books: Books, plan: GcPlan, now: float) -> tuple[Compacted, int]:
    revoke(books, [place for eviction in plan.evictions for place in eviction.result.places])
    revoke(books, late_revocations(books))
    compacted = compact(books, [rewrite.stem for rewrite in plan.rewrites if rewrite.stem in books.files], now)
    # whoever looked before the copies appeared may have taken originals back since
    revoke(books, late_revocations(books))
    orphans = [stem for stem, touched in books.orphans.items() if gone_for_good(stem, touched, now) is not None]
    remove(books, [*compacted.removed, *orphans])
    books.blobs.sweep(now)
    with contextlib.suppress(OSError):  # for people only: not worth a failure after the work is done
        join_notes(books.layout.notes, {result.key for result in books.results()}, now)
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
    } | books.named_by_others()
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
        gone=gone_for_good(stem, file.touched, now, quiet_s),
        readable=not any(file.foreign()) and all(entry.kind in KNOWN_KINDS for _, entry in file.entries()),
    )
