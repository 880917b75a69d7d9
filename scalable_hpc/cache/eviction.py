"""What upkeep does to a store, decided: which results go, and which files are rewritten. Pure.

Rule 1: no result goes unless a limit was given that it breaks.
Rule 2: a file whose writer may live is never chosen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scalable_hpc.cache.books import Result
from scalable_hpc.cache.records import HEADER_SIZE, Kind
from scalable_hpc.model.events import HIT_KEY
from scalable_hpc.model.units import format_memory, format_walltime

PREFIX = HIT_KEY
"""Bytes of a key by which what stays is named: a run's journal holds no more of each hit."""
DEAD_SHARE = 0.25
"""Share of dead bytes from which rewriting a file is worth reading and writing the rest."""
SMALL_FILE = 64 << 20
"""Bytes below which files are merged: many short-lived writers leave two inodes each."""
MERGED_FROM = 8
"""Small files from which merging them is worth it: fewer would be copied again by every upkeep."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What may stay; None sets no limit."""

    older_than_s: float | None = None
    larger_than: int | None = None
    """Bytes of one result. Together with ``older_than_s``, only what breaks both goes."""
    max_size: int | None = None
    """Bytes of all results; the oldest go first."""
    kept: frozenset[bytes] = frozenset()
    """What the keys of results begin with that stay whatever the other limits say; each of ``PREFIX`` bytes."""


@dataclass(frozen=True, slots=True)
class Eviction:
    """A result that goes."""

    result: Result
    because: str


@dataclass(frozen=True, slots=True)
class FileView:
    """One writer's files, as far as rewriting them goes."""

    stem: str
    total: int
    """Bytes of index and pack."""
    live: int
    """Bytes of these that are still needed."""
    gone: str | None
    """Why its writer is known to be gone; None where it may live."""
    readable: bool
    """Whether every kind of entry in it is known to this release."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A file whose live records move to a new one."""

    stem: str
    because: str


def footprint(result: Result) -> int:
    """Return the bytes that the copy of a result that counts takes on disk, its index entry not counted."""
    entry = result.entry
    return entry.size if entry.kind == Kind.BLOB else entry.size + HEADER_SIZE


def total_size(results: Iterable[Result]) -> int:
    """Return the bytes of several results; a blob that several keys share counts once."""
    seen: set[bytes] = set()
    total = 0
    for result in results:
        if result.entry.kind != Kind.BLOB or result.entry.digest not in seen:
            total += footprint(result)
        if result.entry.kind == Kind.BLOB:
            seen.add(result.entry.digest)
    return total


def choose_evictions(results: Sequence[Result], limits: Limits, now: float) -> list[Eviction]:
    """Return what goes, the oldest first; nothing where no limit was given."""
    by_age = sorted(results, key=lambda result: (result.created, result.key))
    free = [result for result in by_age if result.entry.key[:PREFIX] not in limits.kept]
    chosen = [Eviction(result, because) for result in free if (because := _breaks(result, limits, now))]
    if limits.max_size is None:
        return chosen
    going = {eviction.result.key for eviction in chosen}
    staying = [result for result in by_age if result.key not in going]
    return chosen + _down_to(staying, limits.max_size, limits.kept)


def _breaks(result: Result, limits: Limits, now: float) -> str | None:
    reasons = []
    if limits.older_than_s is not None:
        age = now - result.created
        if age <= limits.older_than_s:
            return None
        reasons.append(f"{format_walltime(age)} old, more than {format_walltime(limits.older_than_s)}")
    if limits.larger_than is not None:
        if result.entry.size <= limits.larger_than:
            return None
        reasons.append(f"{format_memory(result.entry.size)}, more than {format_memory(limits.larger_than)}")
    return ", and ".join(reasons) or None


def _down_to(by_age: Sequence[Result], max_size: int, kept: frozenset[bytes]) -> list[Eviction]:
    size = total_size(by_age)
    sharing = Counter(result.entry.digest for result in by_age if result.entry.kind == Kind.BLOB)
    because = f"the oldest while results take more than {format_memory(max_size)}"
    chosen = []
    for result in by_age:
        if size <= max_size:
            break
        if result.entry.key[:PREFIX] in kept:
            continue
        chosen.append(Eviction(result, because))
        if result.entry.kind == Kind.BLOB:
            sharing[result.entry.digest] -= 1
            if sharing[result.entry.digest]:
                continue
        size -= footprint(result)
    return chosen


def choose_rewrites(files: Sequence[FileView]) -> list[Rewrite]:
    """Return which files to rewrite: those with much that is dead, and small ones where there are several."""
    free = [file for file in files if file.gone is not None and file.readable]
    wasteful = {
        file.stem: f"{format_memory(file.total - file.live)} of {format_memory(file.total)} are dead"
        for file in free
        if file.total - file.live >= DEAD_SHARE * file.total
    }
    small = [file.stem for file in free if file.live < SMALL_FILE]
    chosen = dict(wasteful)
    if len(small) >= MERGED_FROM:
        for stem in small:
            chosen.setdefault(stem, f"one of {len(small)} small files that become one")
    return [Rewrite(file.stem, chosen[file.stem]) for file in free if file.stem in chosen]
