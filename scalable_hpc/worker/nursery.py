"""The process that forks slots, sees them die, and takes their whole families along.

It is single-threaded, never runs user code and never blocks, so three things hold that the courier (threads, an
event loop) could not promise: forking is safe and quick, a slot's exit status and peak memory come from ``wait4``
itself, and when the courier is gone, however it went, no slot outlives it by more than a moment.

A dead slot's process group is killed *before* the slot is reaped, while its number cannot belong to anyone else.

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

from scalable_hpc.worker import kin, slot
from scalable_hpc.worker.linux import become_subreaper
from scalable_hpc.worker.unheeded import Unheeded

MARK = "SCALABLE_HPC_SLOT_ID"
MESSAGE_LIMIT = 1 << 16
"""Bytes of one message; an environment of a slot is a few hundred."""
_LAST_ROUNDS, _LAST_PAUSE_S = 100, 0.01
"""What is not dead a second after SIGKILL waits for a file system; the batch system waits longer than we can."""
_ORPHAN_ROUNDS = 5
"""Killing an orphan may orphan its children in turn; a family deeper than this is left to the batch system."""


class Nursery:
    """Forks on request until its courier hangs up."""

    def __init__(self, courier: socket.socket) -> None:
        self._courier = courier
        self._pid = os.getpid()
        self._unheeded = Unheeded()
        self._living: dict[int, str] = {}
        """Slot pid to token."""
        self._bell, self._bell_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        """Serve until the courier is gone, then leave nothing behind."""
        become_subreaper()
        self._unheeded.begin_blocked()
        signal.signal(signal.SIGCHLD, _ring)
        signal.set_wakeup_fd(self._bell_end, warn_on_full_buffer=False)
        gc.freeze()  # slots share these pages as long as no collection touches them
        with selectors.DefaultSelector() as watched:
            watched.register(self._courier, selectors.EVENT_READ)
            watched.register(self._bell, selectors.EVENT_READ)
            while self._attend([key.fileobj for key, _ in watched.select()]):
                pass
        self._leave_nobody_behind()

    def _attend(self, ready: Sequence[object]) -> bool:
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
        pipe, voice = descriptors
        try:
            pid = os.fork()
        except OSError as err:
            self._report({"stillborn": birth.token, "errno": err.errno})
        else:
            if pid == 0:
                self._become_slot(birth, pipe, voice)
            self._living[pid] = birth.token
            with suppress(OSError):
                os.setpgid(pid, pid)  # the slot does the same: whoever comes first
            self._report({"born": birth.token, "pid": pid})
        os.close(pipe)
        os.close(voice)

    def _become_slot(self, birth: slot.Birth, pipe: int, voice: int) -> None:
        """Run in the forked child; never returns."""
        code = 70
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (self._bell, self._bell_end):
                os.close(descriptor)
            self._courier.close()
            slot.live(birth, pipe, voice, self._pid)
            code = 0
        finally:
            os._exit(code)

    def _kill(self, token: str) -> None:
        for pid, living in list(self._living.items()):
            if living == token:
                self._exterminate(pid)

    def _exterminate(self, pid: int) -> None:
        """Kill a living slot, its group, and all its descendants wherever they have moved to."""
        relatives = kin.descendants([pid], kin.process_table())
        kin.kill_group(pid)
        kin.kill_all(relatives)

    def _leave_nobody_behind(self) -> None:
        """Kill everything below us: as subreaper that is every slot and all that slots have ever started."""
        for _ in range(_LAST_ROUNDS):
            kin.kill_all(kin.descendants([self._pid], kin.process_table()) - {self._pid})
            self._reap()
            try:
                os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
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
            pid = found.si_pid
            token = self._living.pop(pid, None)
            if token is not None:
                kin.kill_group(pid)
            _, status, usage = os.wait4(pid, 0)
            if token is not None:
                self._kill_orphans(token)
                exit_code = os.waitstatus_to_exitcode(status)
                self._report({"died": token, "exit": exit_code, "peak": usage.ru_maxrss * 1024})

    def _kill_orphans(self, token: str) -> None:
        """Kill what a dead slot has left behind outside its group: as subreaper we are their parent now."""
        for _ in range(_ORPHAN_ROUNDS):
            table = kin.process_table()
            orphans = [
                process.pid
                for process in table
                if process.parent == self._pid
                and process.pid not in self._living
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
