"""Every process of a local job, found and ended, however far it has run away.

A job's processes are the descendants of its shepherd (a subreaper: whoever is orphaned becomes its child), and, should
the shepherd be gone, those that carry the job's marker in their environment or belong to the session of its script.

Rule 1: imports nothing that takes time: the shepherd of every job starts with this module.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

MARKER = "SCALABLE_HPC_JOB"
"""Environment variable whose value is the job's directory in its spool."""

STUBBORN_S = 10.0
"""How long processes are killed over and over; what is left then hangs in the kernel (a dead file server)."""

_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Become the parent of every descendant whose own parent dies; without it the marker still finds them."""
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(root: int) -> set[int]:
    """Return every living process below ``root``, in whatever process group or session; zombies do not count."""
    parents = {pid: fields for pid in _pids() if (fields := _stat(pid)) is not None}
    below: set[int] = set()
    children: dict[int, list[int]] = {}
    for pid, (_, parent, _) in parents.items():
        children.setdefault(parent, []).append(pid)
    todo = [root]
    while todo:
        for pid in children.get(todo.pop(), ()):
            if pid not in below:
                below.add(pid)
                todo.append(pid)
    return {pid for pid in below if parents[pid][0] not in "ZX"}


def marked(job: str, session: int | None = None) -> set[int]:
    """Return every living process that carries the marker of a job, or belongs to a session; never ourselves."""
    needle = f"{MARKER}={job}".encode()
    found: set[int] = set()
    for pid in _pids():
        fields = _stat(pid)
        if fields is None or fields[0] in "ZX" or pid == os.getpid():
            continue
        with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            if needle in file.read().split(b"\0"):
                found.add(pid)
        if session is not None and fields[2] == session:
            found.add(pid)
    return found


def send(pids: set[int], number: int) -> None:
    """Send a signal to processes; those that are gone meanwhile are no error."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def kill_all(members: Callable[[], set[int]], reap: Callable[[], object] = lambda: None) -> int:
    """Kill until a look finds nobody, since a process may fork between look and kill.

    Args:
        members: looks for the processes that are to go.
        reap: takes the exit status of those that are our children.

    Returns:
        How many would not die within ``STUBBORN_S``.
    """
    give_up = time.monotonic() + STUBBORN_S
    pause = 0.002
    while left := members():
        if time.monotonic() > give_up:
            return len(left)
        send(left, signal.SIGKILL)
        reap()
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
    return 0


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _stat(pid: int) -> tuple[str, int, int] | None:
    """Return state letter, parent and session of a process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields[0].decode(), int(fields[1]), int(fields[3])
