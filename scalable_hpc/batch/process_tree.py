# pathlib would double the time that a shepherd takes to start.
# ruff: noqa: PTH123, PTH208
"""Every process of a local job, found and ended, however far it has run away.

A job's processes are the descendants of its shepherd (a subreaper: whoever is orphaned becomes its child), should it
be gone, of its guard (another), and should that be gone too, its script and those that carry the job's marker in their
environment, with their descendants.

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


def below(roots: set[int]) -> set[int]:
    """Return every living descendant of ``roots``, in whatever process group or session; zombies do not count."""
    states: dict[int, str] = {}
    children: dict[int, list[int]] = {}
    for pid in _pids():
        if (fields := _state_and_parent(pid)) is not None:
            states[pid] = fields[0]
            children.setdefault(fields[1], []).append(pid)
    found: set[int] = set()
    todo = list(roots)
    while todo:
        new = [pid for pid in children.get(todo.pop(), ()) if pid not in found]
        found.update(new)
        todo += new
    return {pid for pid in found if states[pid] not in "ZX"}


def marked(job: str) -> set[int]:
    """Return every living process that carries the marker of a job; never ourselves."""
    needle = f"{MARKER}={job}".encode()
    found: set[int] = set()
    for pid in _pids():
        # A process that is gone, a zombie or another user's cannot be read.
        with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            if pid != os.getpid() and needle in file.read().split(b"\0"):
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


def _state_and_parent(pid: int) -> tuple[str, int] | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command name, in parentheses, may hold spaces and parentheses itself.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields[0].decode(), int(fields[1])
