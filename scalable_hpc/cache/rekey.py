"""Another key for a cache: what older keys sealed is read, verified, and sealed anew with the one on top.

The key comes first, then the records: whoever is interrupted between the two has a cache whose records are believed by
their old seals, and ends the work by asking again.

Rule 1: nothing is sealed anew that is not what was stored: its old seal, and the digest of its bytes.
Rule 2: a file whose writer may live stays as it is: that writer goes on with the key that it began with.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from scalable_hpc.cache.books import Books, WriterFile
from scalable_hpc.cache.checkup import examine, repair
from scalable_hpc.cache.compact import KNOWN_KINDS, compact, late_revocations, remove, revoke
from scalable_hpc.cache.records import Kind, sound_entries
from scalable_hpc.cache.upkeep import alone
from scalable_hpc.cache.writers import QUIET_S, gone_for_good


@dataclass(slots=True)
class Resealed:
    """What became of the files that older keys had sealed."""

    files: int = 0
    """Those that are gone: what they held is sealed anew."""
    damaged: int = 0
    """Records that were not what was stored: they lie in quarantine, and are computed again."""
    left: dict[str, str] = field(default_factory=dict)
    """Files that stay as they are, each with the reason."""


def reseal(books: Books, now: float, *, quiet_s: float = QUIET_S) -> Resealed:
    """Seal anew what older keys have sealed.

    Args:
        books: The store, read with the keys as they are now.
        now: Seconds since the epoch.
        quiet_s: After how long without a write a writer on another host counts as gone.

    Raises:
        StoreError: another process does upkeep.
        OSError: the store cannot be written to; nothing is lost.
    """
    done = Resealed()
    with alone(books):
        stems: list[str] = []
        for stem, file in books.files.items():
            if _is_behind(books, file):
                because = _why_not(file, now, quiet_s)
                if because is None:
                    stems.append(stem)
                else:
                    done.left[stem] = because
        done.damaged = _take_back_damaged_blobs(books, frozenset(stems), now)
        revoke(books, late_revocations(books))
        compacted = compact(books, stems, now)
        revoke(books, late_revocations(books))
        remove(books, compacted.removed)
    done.files = len(compacted.removed)
    done.damaged += compacted.damaged
    done.left |= compacted.left
    return done


def _is_behind(books: Books, file: WriterFile) -> bool:
    """Say whether an older key of ours sealed something in a file."""
    top = books.keys.seal(file.stem).mark
    return any(mark != top and mark in file.seals for mark in sound_entries(file.raw).marks)


def _why_not(file: WriterFile, now: float, quiet_s: float) -> str | None:
    if gone_for_good(file.stem, file.touched, now, quiet_s) is None:
        return "its writer may live"
    if any(file.foreign()):
        return "somebody else's key has sealed a part of it"
    if any(entry.kind not in KNOWN_KINDS for _, entry in file.entries()):
        return "a newer release has written it"
    return None


def _take_back_damaged_blobs(books: Books, stems: frozenset[str], now: float) -> int:
    """Verify what is only named in the files, and so is not read when they are moved."""
    named = (
        result
        for result in books.results()
        if any(place.entry.kind == Kind.BLOB and place.stem in stems for place in result.places)
    )
    damaged = [finding for finding in examine(books, named) if finding.damaged]
    repair(books, damaged, now)
    return len(damaged)
