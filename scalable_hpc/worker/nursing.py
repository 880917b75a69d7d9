"""Starting a courier's nursery, and what follows when one dies; ``slots`` talks to it.

Rule 1: nothing is known here of slots but the mark that their families carry.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Mapping

from scalable_hpc.faults.evidence import signal_name
from scalable_hpc.worker import kin
from scalable_hpc.worker.nursery import MARK
from scalable_hpc.worker.shares import Seat, environment_of
from scalable_hpc.worker.unheeded import SIGNALS

COLLAPSES_ALLOWED, COLLAPSES_WITHIN_S = 5, 60.0
"""Nurseries that die in quick succession: the fifth in a minute is the node's fault or ours, and ends the worker."""


def start_nursery(seat: Seat, environment: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a nursery with the environment of tasks, and what one seat adds; returns it and our end of its link.

    Raises:
        OSError: there are no descriptors or no memory for it.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        # blocked until it has its handlers: a signal in its first moments must not take all slots along
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "scalable_hpc.worker.nursery", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**environment, **environment_of([seat], chosen=os.environ)},
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process, ours


class Collapses:
    """When nurseries died, and whether there may be another one."""

    def __init__(self) -> None:
        self._at: list[float] = []

    def allow_another(self) -> bool:
        """Note that one has died just now, and say whether another may be started."""
        now = time.monotonic()
        self._at = [at for at in self._at if now - at < COLLAPSES_WITHIN_S] + [now]
        return len(self._at) < COLLAPSES_ALLOWED


def how_it_ended(status: int) -> str:
    """Return a process's end in words, of what ``Popen.wait`` returned."""
    return signal_name(-status) if status < 0 else f"exit status {status}"


def kill_marked(prefix: str, tokens: Collection[str]) -> None:
    """Kill what is left of slots whose nursery is gone, and with it whoever knew their families."""
    marks = {f"{MARK}={token}" for token in tokens}
    found = [process.pid for process in kin.process_table() if not marks.isdisjoint(kin.marks(process.pid, prefix))]
    kin.kill_all(found)
