"""The process that has slots forked, sees them die, and takes their whole families along.

It is single-threaded, never runs user code and never blocks, so three things hold that the courier (threads, an
event loop) could not promise: forking is safe and quick, a slot's exit status and peak memory come from ``wait4``
itself, and when the courier is gone, however it went, no slot outlives it by more than a moment.

Between it and each slot is a ``minder``, so that a task that kills its parent is alone with what it did. A minder
ends when its slot is dead and leaves it to be reaped here. A dead slot's process group is killed *before* the slot is
reaped, while its number cannot belong to anyone else.

Rule 1: no Dask, no threads; what is imported here is what every slot is born with.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from scalable_hpc.worker import kin, minder, slot
from scalable_hpc.worker.linux import become_subreaper
from scalable_hpc.worker.unheeded import Unheeded

MARK = "SCALABLE_HPC_SLOT_ID"
MESSAGE_LIMIT = 1 << 16
"""Bytes of one message; an environment of a slot is a few hundred."""
_LAST_ROUNDS, _LAST_PAUSE_S = 100, 0.01
"""What is not dead a second after SIGKILL waits for a file system; the batch system waits longer than we can."""
_ORPHAN_ROUNDS = 5
"""Killing an orphan may orphan its children in turn; a family deeper than this is left to the batch system."""


@dataclass(slots=True)
class _Cot:
    """A minder and its slot, until both are reaped."""

    token: str
    minder: int
    slot: int | None = None
    """Pid; None until it has said that it is born."""
    slot_exit: int | None = None
    """Negative for a signal, as is ``minder_exit``."""
    minder_exit: int | None = None
    peak_memory: int = 0
    is_stillborn: bool = False


class Nursery:
    """Forks on request until its courier hangs up."""

    def __init__(self, courier: socket.socket) -> None:
        self._courier = courier
        self._pid = os.getpid()
        self._unheeded = Unheeded()
        self._cots: dict[int, _Cot] = {}
        """By the pid of the minder and, once it is known, by that of the slot."""
        self._bell, self._bell_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._births, self._births_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        """Serve until the courier is gone, then leave nothing behind."""
        become_subreaper()
        self._unheeded.begin_blocked()
        signal.signal(signal.SIGCHLD, _ring)
        signal.set_wakeup_fd(self._bell_end, warn_on_full_buffer=False)
        gc.freeze()  # slots share these pages as long as no collection touches them
        with selectors.DefaultSelector() as watched:
            for source in (self._courier, self._bell, self._births):
                watched.register(source, selectors.EVENT_READ)
            while self._attend([key.fileobj for key, _ in watched.select()]):
                pass
        self._leave_nobody_behind()

    def _attend(self, ready: Sequence[object]) -> bool:
        self._hear_births()
        if self._bell in ready:
            with suppress(BlockingIOError):
                os.read(self._bell, 4096)
            self._reap()
        if self._courier not in ready:
            return True
        data, descriptors, _, _ = socket.recv_fds(self._courier, MESSAGE_LIMIT, 2)
        if not data:
            return False
        request = json.loads(data)
        if request["do"] == "bear":
            self._bear(slot.Birth(**request["birth"]), descriptors)
        else:
            self._kill(request["token"])
        return True

    def _bear(self, birth: slot.Birth, descriptors: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as err:
            self._report({"stillborn": birth.token, "errno": err.errno})
        else:
            if pid == 0:
                self._become_minder(birth, descriptors)
            self._cots[pid] = _Cot(birth.token, pid)
            with suppress(OSError):
                os.setpgid(pid, pid)  # the minder does the same: whoever comes first
        for descriptor in descriptors:
            os.close(descriptor)

    def _become_minder(self, birth: slot.Birth, descriptors: list[int]) -> None:
        """Run in the forked child, and in the child that it forks; never returns."""
        code = 70
        pipe, voice = descriptors
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (self._bell, self._bell_end, self._births):
                os.close(descriptor)
            self._courier.close()

            def live(parent: int) -> None:
                slot.live(birth, pipe, voice, parent)
                os._exit(0)

            code = minder.mind(self._pid, self._births_end, descriptors, live)
        finally:
            os._exit(code)

    def _hear_births(self) -> None:
        for pid, born in minder.hear_births(self._births):
            cot = self._cots.get(pid)
            if cot is None:  # its minder is dead and so is it, before it did anything
                continue
            if born < 0:
                cot.is_stillborn = True
                self._report({"stillborn": cot.token, "errno": -born})
                continue
            cot.slot = born
            self._cots[born] = cot
            with suppress(OSError):
                os.setpgid(born, born)
            self._report({"born": cot.token, "pid": born, "minder": pid})

    def _kill(self, token: str) -> None:
        """Kill a slot, its group, and all its descendants wherever they have moved to."""
        for cot in [cot for pid, cot in self._cots.items() if pid == cot.minder and cot.token == token]:
            relatives = kin.descendants([cot.minder], kin.process_table())
            if cot.slot is None:
                kin.kill_all(relatives)
            else:
                kin.kill_group(cot.slot)
                kin.kill_all(relatives - {cot.minder})
                os.kill(cot.minder, signal.SIGCONT)  # in case that its task has stopped it: it sweeps, and ends

    def _leave_nobody_behind(self) -> None:
        """Kill everything below us: as subreaper that is every slot and all that slots have ever started."""
        for _ in range(_LAST_ROUNDS):
            kin.kill_all(kin.descendants([self._pid], kin.process_table()) - {self._pid})
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return
            time.sleep(_LAST_PAUSE_S)

    def _reap(self) -> None:
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            self._hear_births()  # of slots that have died since
            pid = found.si_pid
            cot = self._cots.pop(pid, None)
            if cot is not None and pid == cot.slot:
                kin.kill_group(pid)
            _, status, usage = os.wait4(pid, 0)
            if cot is not None:
                self._note_end(cot, pid, os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024)

    def _note_end(self, cot: _Cot, pid: int, exit_code: int, peak_memory: int) -> None:
        """Take down that a minder or its slot has been reaped, and report once both have."""
        if pid == cot.slot:
            cot.slot_exit, cot.peak_memory = exit_code, peak_memory
        else:
            cot.minder_exit = exit_code
        if cot.minder_exit is None or cot.is_stillborn:
            return
        if cot.slot is not None and cot.slot_exit is None:
            kin.kill_all([cot.slot])  # where the kernel does not do so by itself
            return
        if cot.minder_exit:
            self._kill_orphans(cot.token)
        code = cot.minder_exit if cot.slot_exit is None else cot.slot_exit
        self._report({"died": cot.token, "exit": code, "peak": cot.peak_memory, "minder_exit": cot.minder_exit})

    def _kill_orphans(self, token: str) -> None:
        """Kill what a slot has left behind whose minder was killed: as subreaper we are their parent now."""
        for _ in range(_ORPHAN_ROUNDS):
            table = kin.process_table()
            orphans = [
                process.pid
                for process in table
                if process.parent == self._pid
                and process.pid not in self._cots
                and kin.carries_mark(process.pid, f"{MARK}={token}")
            ]
            if not orphans:
                return
            kin.kill_all(kin.descendants(orphans, table))

    def _report(self, message: dict[str, object]) -> None:
        with suppress(OSError):  # the courier has hung up: the next read says so
            self._courier.send(json.dumps(message).encode())


def _ring(_number: int, _frame: object) -> None:
    """Do nothing: that there is a handler makes Python write to the bell."""


def main(argv: Sequence[str]) -> int:
    """Serve the courier at the other end of the socket whose descriptor is the one argument."""
    Nursery(socket.socket(fileno=int(argv[0]))).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
