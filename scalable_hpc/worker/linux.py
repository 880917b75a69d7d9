"""The two Linux process attributes that Python has no name for.

Rule 1: where the C library does not offer ``prctl`` they are left out: they make a clean-up surer, nothing rests
on them alone.
"""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


try:
    _LIBC: ctypes.CDLL | None = ctypes.CDLL(None, use_errno=True)  # once: forked processes share the pages
except OSError:
    _LIBC = None


def _prctl(option: int, value: int) -> bool:
    try:
        return _LIBC is not None and bool(_LIBC.prctl(option, value, 0, 0, 0) == 0)
    except AttributeError:
        return False


def become_subreaper() -> bool:
    """Make orphaned descendants our children instead of init's; False where that cannot be had."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> bool:
    """Ask for SIGKILL when ``parent`` dies; exits at once if it already has; False where that cannot be had."""
    asked = _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    return asked
