"""One computation for all who want it at once: the processes and threads of a host agree on who computes a call.

Each call has one byte of the host's lock file. Its lock belongs to the open file and so goes with its owner, however
that ends; a library's lock files would outlive it where a file system knows no locks.

Rule 1: a lock is only ever a saving: where there is none to be had everybody computes, and the first result counts.
Rule 2: nodes do not wait for each other: a node that dies may leave its locks with the file server.
Rule 3: who dies is succeeded by one of those who waited for him; who ends in vain (an exception, a result that cannot
    be kept) lets them all go on at once, since they would most likely end so too, one after the other.
Rule 4: nobody waits for himself, be it through others: a call that may be made again in the course of its own
    computation, because the key does not show all of it, is not waited for by those who hold a lock themselves.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
import time
from contextvars import ContextVar, Token
from pathlib import Path
from types import TracebackType

from scalable_hpc.cache.layout import file_mode, is_ours, make_directory

FIRST_LOOK_S, LAST_LOOK_S, SLOWER = 0.001, 0.05, 1.5
"""How soon a waiter looks again, at first and at last: short calls are not delayed, long ones cost nothing."""
_FLOCK = struct.Struct("@hhqqi4x")
"""``struct flock``: type, whence, start, length, pid."""
_SET_LOCK: int | None = getattr(fcntl, "F_OFD_SETLK", None)
"""Linux alone has locks that belong to the open file."""
_VAIN = struct.Struct("=QQ")
"""At the front of the lock file, one such for each group of calls: which call ended in vain last, and when."""
_GROUPS = 4096
_TAKEN = frozenset({errno.EAGAIN, errno.EACCES})

_held: ContextVar[tuple[str, ...]] = ContextVar("held", default=())
_open: set[int] = set()


class Flight:
    """One caller's wish to compute a call; a context that is entered when nobody else on this host does."""

    def __init__(self, locks: Path, key: str, *, may_recur: bool) -> None:
        """Take note of the call.

        Args:
            locks: The directory of lock files.
            key: Of the call, 64 hex digits.
            may_recur: Whether the call may be made again, with this key, in the course of its own computation.
        """
        self._locks = locks
        self._key = key
        self._may_recur = may_recur
        self._position = int(key[:15], 16)
        self._descriptor = -1
        self._waited_from: int | None = None
        self._is_vain = False
        self._token: Token[tuple[str, ...]] | None = None

    def __enter__(self) -> Flight:  # noqa: PYI034 - typing.Self needs Python 3.11
        held = _held.get()
        if self._key not in held:
            self._descriptor = _opened(self._locks)
        if self._descriptor >= 0:
            self._token = _held.set((*held, self._key))
            try:
                self._wait(is_patient=not (self._may_recur and held))
            except BaseException:  # Ctrl-C, most likely
                self._leave()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_vain and self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.pwrite(self._descriptor, _VAIN.pack(self._position, time.monotonic_ns()), self._group())
        self._leave()

    def begin(self) -> None:
        """Say that there is no result yet and that it will be computed now."""
        self._is_vain = True
        if self._waited_from is not None and self._descriptor >= 0:
            with contextlib.suppress(OSError):
                last = os.pread(self._descriptor, _VAIN.size, self._group())
                if len(last) == _VAIN.size:
                    position, ended = _VAIN.unpack(last)
                    if position == self._position and ended >= self._waited_from:
                        self._give_up()

    def land(self) -> None:
        """Say that there is a result now, for those who wait."""
        self._is_vain = False

    def _group(self) -> int:
        return self._position % _GROUPS * _VAIN.size

    def _wait(self, *, is_patient: bool) -> None:
        pause = FIRST_LOOK_S
        while not _is_settled(self._descriptor, self._position) and is_patient:
            if self._waited_from is None:
                self._waited_from = time.monotonic_ns()
            time.sleep(pause)
            pause = min(LAST_LOOK_S, SLOWER * pause)

    def _give_up(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        _close(descriptor)

    def _leave(self) -> None:
        self._give_up()
        if self._token is not None:
            _held.reset(self._token)
            self._token = None


def _opened(locks: Path) -> int:
    """Open the host's lock file; -1 where that cannot be done."""
    if _SET_LOCK is None:
        return -1
    descriptor = -1
    try:
        make_directory(locks)
        descriptor = os.open(locks / socket.gethostname(), os.O_RDWR | os.O_CREAT, file_mode())
        _open.add(descriptor)
        if is_ours(os.fstat(descriptor)):
            return descriptor
    except OSError:
        pass
    _close(descriptor)
    return -1


def _is_settled(descriptor: int, position: int) -> bool:
    """Lock a byte; False while somebody else has it, True also where it cannot be locked at all."""
    wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, position, 1, 0)
    try:
        fcntl.fcntl(descriptor, _SET_LOCK or 0, wanted)
    except OSError as problem:
        return problem.errno not in _TAKEN
    return True


def _close(descriptor: int) -> None:
    """Close a lock file, and so give up what is locked there: nothing else has it open (see below)."""
    if descriptor in _open:
        _open.discard(descriptor)
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _after_fork() -> None:
    """Leave the parent's locks to the parent alone: a child that outlives it would keep them."""
    for descriptor in tuple(_open):
        _close(descriptor)


os.register_at_fork(after_in_child=_after_fork)
