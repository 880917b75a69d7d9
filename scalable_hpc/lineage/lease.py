"""One writer per run directory: a file lock, and a heartbeat that names its holder.

Rule 1: the lock decides where the file system has locks. Where it has none (Lustre without ``flock``), or where it
does not tell one node of another's lock, a fresh heartbeat of somebody else decides.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from scalable_hpc.errors import RunDirectoryError

LOCK_NAME = "writer.lock"
HEARTBEAT_NAME = "writer.json"
BEAT_S = 10.0
"""Seconds between heartbeats: one small file a run, no burden even on a busy metadata server."""
STALE_S = 60.0
"""A heartbeat older than this is a dead writer's: six beats missed, and clocks of nodes agree better than that."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who writes a run directory."""

    host: str
    pid: int
    started: float
    """When that process began: a pid alone may be another's by now."""
    beat: float

    def is_same_process(self, other: Holder) -> bool:
        """Whether both are one process, whenever they were asked."""
        return (self.host, self.pid, self.started) == (other.host, other.pid, other.started)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_process(now: float) -> Holder:
    """Return the calling process as a holder."""
    return Holder(socket.gethostname(), os.getpid(), psutil.Process().create_time(), now)


class Lease:
    """The right to write a run directory; ``take`` it, ``beat`` it every ``BEAT_S`` seconds, ``release`` it."""

    def __init__(self, run_dir: Path, lock: FileLock | None, me: Holder, clock: Callable[[], float]) -> None:
        self._run_dir = run_dir
        self._lock = lock
        self._me = me
        self._clock = clock

    @classmethod
    def take(cls, run_dir: Path, *, clock: Callable[[], float] = time.time, me: Holder | None = None) -> Lease:
        """Become the writer of a run directory.

        Raises:
            RunDirectoryError: another driver is (named), or the directory cannot be written.
        """
        now = clock()
        lock = _lock(run_dir, now)
        lease = cls(run_dir, lock, me or this_process(now), clock)
        try:
            lease._refuse_other(now)
            lease.beat()
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        return lease

    def beat(self) -> None:
        """Say that the writer is alive.

        Raises:
            RunDirectoryError: the directory cannot be written.
        """
        holder = {**asdict(self._me), "beat": self._clock()}
        path = self._run_dir / HEARTBEAT_NAME
        aside = path.with_name(f".{HEARTBEAT_NAME}.{os.getpid()}")
        try:
            aside.write_text(json.dumps(holder), encoding="ascii")
            aside.chmod(0o600)
            aside.replace(path)
        except OSError as err:
            raise _unwritable(self._run_dir, err) from err

    def release(self) -> None:
        """Give the directory back; a second time is no error."""
        last = read_holder(self._run_dir)
        if last is not None and last.is_same_process(self._me):
            with suppress(OSError):
                (self._run_dir / HEARTBEAT_NAME).unlink()
        if self._lock is not None:
            self._lock.release()

    def _refuse_other(self, now: float) -> None:
        """Refuse while a heartbeat says that another process, which the lock does not know of, is writing."""
        other = read_holder(self._run_dir)
        if other is None or other.is_same_process(self._me):
            return
        is_here = other.host == self._me.host
        if is_here and (self._lock is not None or not _runs(other)):
            return  # on one machine the lock is sure, and so is the list of processes
        if now - other.beat < STALE_S:
            raise _held(self._run_dir, other, now)


def read_holder(run_dir: Path) -> Holder | None:
    """Return who last said that it writes this directory; None when nobody did, or readably."""
    try:
        found = json.loads((run_dir / HEARTBEAT_NAME).read_text(encoding="ascii"))
        return Holder(str(found["host"]), int(found["pid"]), float(found["started"]), float(found["beat"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def lives(holder: Holder, now: float) -> bool:
    """Whether a holder is still at it: its process runs, or on another machine, its heartbeat is fresh."""
    return _runs(holder) if holder.host == socket.gethostname() else now - holder.beat < STALE_S


def _lock(run_dir: Path, now: float) -> FileLock | None:
    """Lock the directory; None where the file system has no locks."""
    if not run_dir.is_dir():  # FileLock would make it
        raise _unwritable(run_dir, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
    lock = FileLock(run_dir / LOCK_NAME, mode=0o600, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout as err:
        raise _held(run_dir, read_holder(run_dir), now) from err
    except NotImplementedError:
        return None
    except OSError as err:
        raise _unwritable(run_dir, err) from err
    return lock


def _runs(holder: Holder) -> bool:
    try:
        return bool(abs(psutil.Process(holder.pid).create_time() - holder.started) < 1.0)
    except psutil.Error:
        return False


def _held(run_dir: Path, holder: Holder | None, now: float) -> RunDirectoryError:
    who = "another driver" if holder is None else f"{holder} (heartbeat {max(0.0, now - holder.beat):.0f} s ago)"
    return RunDirectoryError(
        f"the run directory {str(run_dir)!r} is being written by {who}",
        hint="wait for that driver to end, or stop it; a run has one driver at a time",
    )


def _unwritable(run_dir: Path, err: OSError) -> RunDirectoryError:
    return RunDirectoryError(
        f"the run directory cannot be written: {str(run_dir)!r}: {err.strerror or err}",
        hint=f"ls -ld {run_dir}; df -h {run_dir}",
    )
