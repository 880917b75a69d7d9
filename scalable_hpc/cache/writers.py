"""Who wrote a file of the store, and whether more may come.

Rule 1: a file whose writer may live is never touched: what that writer adds next would be lost without a word.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from scalable_hpc.model.units import format_walltime

QUIET_S = 30 * 86_400.0
"""Seconds without a write after which another host's writer counts as gone: longer than any walltime we know of."""


def gone_for_good(stem: str, touched: float, now: float, quiet_s: float = QUIET_S) -> str | None:
    """Return ``why_gone`` for this host and its processes as they are now."""
    return why_gone(stem, touched, here=socket.gethostname(), lives=_lives, now=now, quiet_s=quiet_s)


def why_gone(
    stem: str, touched: float, *, here: str, lives: Callable[[int], bool], now: float, quiet_s: float = QUIET_S
) -> str | None:
    """Return why a file's writer is known to be gone, or None where it may live.

    Args:
        stem: The file's name, which ends in the writer's host, process id, token and count.
        touched: When it was last written to.
        here: The name of this host.
        lives: Whether this host has a process of that id.
        now: Seconds since the epoch.
        quiet_s: After how long without a write the writer on another host counts as gone.
    """
    host, pid = writer_of(stem)
    if host == here and pid is not None:
        return None if lives(pid) else f"process {pid} has ended"
    quiet = now - touched
    return f"nothing written for {format_walltime(quiet)}" if quiet > quiet_s else None


def writer_of(stem: str) -> tuple[str, int | None]:
    """Return host and process id of a file's writer; None where the name tells no process."""
    parts = stem.rsplit("-", 3)
    if len(parts) == 4 and parts[1].isdecimal():  # noqa: PLR2004 - host, process, token, count
        return parts[0], int(parts[1])
    return stem, None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
