"""The process between the nursery and one slot: the parent that a task sees, and may kill.

It forks the slot, waits for its death, kills what it has left behind and ends. It does not reap the slot: that falls
to the nursery, the next subreaper above, which has status and peak memory from the kernel. A task that kills its
parent ends this process and with it (``PR_SET_PDEATHSIG``) its own slot, and nobody else's.

Rule 1: a process group of its own, and deaf: a signal to its group or to the slot's reaches neither the nursery nor
the courier, and of those to itself only SIGKILL and SIGSTOP have an effect.
Rule 2: nothing is imported and hardly anything is written here: what it costs is the pages that it dirties.
"""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Callable
from contextlib import suppress

from scalable_hpc.worker import kin
from scalable_hpc.worker.linux import become_subreaper, die_with_parent

_BIRTH = struct.Struct("ii")
_ALL_SIGNALS = signal.valid_signals()
_SWEEP_ROUNDS = 5
"""Killing an orphan may orphan its children in turn; a family deeper than this is left to the nursery."""


def tell_birth(births: int, minder: int, slot: int) -> None:
    """Write whose slot has which pid; a negative one is the errno for which there is none."""
    os.write(births, _BIRTH.pack(minder, slot))


def hear_births(births: int) -> list[tuple[int, int]]:
    """Read what was written with ``tell_birth`` since the last time, as (minder, slot); never waits."""
    try:
        data = os.read(births, 256 * _BIRTH.size)
    except BlockingIOError:
        return []
    return list(_BIRTH.iter_unpack(data))


def mind(nursery: int, births: int, descriptors: list[int], live: Callable[[int], None]) -> int:
    """Be the minder of one slot from before its birth until after its death; returns the exit status.

    Args:
        nursery: pid of the parent, with whom this process dies.
        births: where the slot's pid is to be told.
        descriptors: the slot's own, closed here.
        live: what the slot does, in its own process; is given the minder's pid, and does not return.
    """
    with suppress(OSError):
        os.setpgid(0, 0)
    die_with_parent(nursery)
    become_subreaper()
    me = os.getpid()
    try:
        slot = os.fork()
    except OSError as err:
        tell_birth(births, me, -(err.errno or 1))
        return 0
    if slot == 0:
        tell_birth(births, me, os.getpid())  # by the slot itself: before it can do anything to us
        os.close(births)
        live(me)
    signal.pthread_sigmask(signal.SIG_BLOCK, _ALL_SIGNALS)
    for descriptor in (births, *descriptors):
        os.close(descriptor)
    _reap_until_dead(slot)
    _sweep(me, slot)
    return 0


def _reap_until_dead(slot: int) -> None:
    """Return when the slot is dead and not reaped; orphans of its family, which are ours, are reaped meanwhile."""
    while (dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)) is not None and dead.si_pid != slot:
        os.waitpid(dead.si_pid, 0)


def _sweep(me: int, slot: int) -> None:
    """Kill what a dead slot has left behind, in its group and outside: all of it is below us."""
    kin.kill_group(slot)
    for _ in range(_SWEEP_ROUNDS):
        left = kin.descendants([me], kin.process_table()) - {me, slot}
        if not left:
            return
        kin.kill_all(left)
        for pid in left:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
