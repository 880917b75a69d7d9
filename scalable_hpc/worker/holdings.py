"""Results that are not stored but held on the node, in memory where it has a file system for that.

They are held until somebody needs them elsewhere, or nobody does any more. Slots write and read them as files; the
courier knows which there are, stores those that it is asked for, and removes those that it is told to. All go with the
courier; what one left that was killed goes when the next one starts.

Rule 1: bytes only, never unpickled here; they are checked against their digest before they are stored.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from blake3 import blake3

from scalable_hpc.model.messages import Envelope
from scalable_hpc.model.tasks import Locator, Receipt
from scalable_hpc.worker.publisher import Publisher, Result

MEMORY = Path("/dev/shm")  # noqa: S108  each directory in it is its owner's alone
_PREFIX = f"scalable-hpc-held-{os.getuid()}-"
_LOCK = "lock"


def make_directory(fallback: Path) -> Path:
    """Make the directory of one courier, in memory if possible, and remove those that dead ones left there."""
    with suppress(OSError):
        for left in MEMORY.glob(f"{_PREFIX}*"):
            if _is_left(left):
                shutil.rmtree(left, ignore_errors=True)
        directory = MEMORY / f"{_PREFIX}{os.getpid()}-{os.urandom(4).hex()}"
        directory.mkdir(mode=0o700)
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held as long as this process lives
        return directory
    fallback.mkdir(mode=0o700, parents=True, exist_ok=True)
    return fallback


def _is_left(directory: Path) -> bool:
    """Whether the courier that had made it is dead: its lock can be had."""
    if directory.is_symlink() or directory.stat().st_uid != os.getuid():
        return False
    lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True


@dataclass(frozen=True, slots=True)
class HeldResult:
    """A result that is held, and how it came about."""

    envelope: Envelope
    """Without the call."""
    receipt: Receipt


class Holdings:
    """What one courier holds; every method may be called from any thread."""

    def __init__(self, directory: Path, publisher: Publisher) -> None:
        self._directory = directory
        self._publisher = publisher
        self._held: dict[str, HeldResult] = {}
        self._lock = threading.Lock()

    def keep(self, envelope: Envelope, receipt: Receipt) -> None:
        """Note a result that a slot has left here."""
        with self._lock:
            bare = replace(envelope, function=b"", arguments=b"", inputs={})
            self._held[envelope.key] = HeldResult(bare, receipt)

    def keys(self) -> list[str]:
        """Return the keys of all that is held."""
        with self._lock:
            return list(self._held)

    def store(self, key: str) -> Receipt | str:
        """Store one result, and return its receipt as that of a stored one; or why it cannot be had."""
        with self._lock:
            held = self._held.get(key)
        if held is None:
            return "the worker does not hold it"
        result = held.receipt.result
        try:
            data = (self._directory / key).read_bytes()
        except OSError as err:
            return f"it cannot be read: {err}"
        if blake3(data).hexdigest() != result.digest:
            return "it is damaged"
        attempt = held.envelope.attempt
        place = self._publisher.publish([Result(held.envelope, data)])[attempt]
        if not isinstance(place, Locator):
            return f"it cannot be stored: {place}"
        self.free([key])
        return replace(held.receipt, result=place)

    def free(self, keys: Iterable[str]) -> None:
        """Remove results; those that are not here are no error."""
        for key in keys:
            with self._lock:
                self._held.pop(key, None)
            (self._directory / key).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove all, and the directory."""
        shutil.rmtree(self._directory, ignore_errors=True)
