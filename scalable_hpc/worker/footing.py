"""What a slot arranges with the kernel for itself: core dumps, who goes first when memory runs out, its own peak.

Rule 1: what the kernel refuses is done without.
"""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path


def leave_no_core() -> None:
    """Set the soft limit for core dumps to zero: dumping a large process takes minutes, and nobody asked for it.

    The hard limit stays: user code that wants a dump raises the limit again with ``resource.setrlimit``.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def go_first() -> None:
    """Let the kernel, when memory runs out, take the largest slot and not the courier: the attempt to blame alone ends.

    Anybody may offer himself so; the processes that user code starts inherit it.
    """
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


class MemoryMeter:
    """The highest resident set since ``start``, of this process and of children that have ended since."""

    def start(self) -> None:
        """Begin anew."""
        with suppress(OSError):  # some containers forbid it: then the peak is that of the slot's whole life
            descriptor = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(descriptor, b"5")
            finally:
                os.close(descriptor)
        self._children_before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss

    def peak(self) -> int:
        """Return the highest since then (bytes)."""
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        return 1024 * max(own, children if children > self._children_before else 0)
