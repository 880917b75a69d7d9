"""The process that a job script ends in: it knows signals and the deadline, and keeps a courier alive.

Signals are blocked and taken one at a time with ``sigtimedwait``, so none is lost between two looks and no handler
runs in the middle of anything.

Rule 1: nothing heavy is imported: it must answer a signal in its first moments.
Rule 2: when this process ends, no process of the courier's session is left.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from scalable_hpc.errors import RunDirectoryError, ScalableError
from scalable_hpc.worker import kin
from scalable_hpc.worker.contact import wait_for_contact
from scalable_hpc.worker.control import Command, DeadlineIs, Retire, encode
from scalable_hpc.worker.deadline import (
    REREAD_EVERY_S,
    Deadline,
    answer_warning,
    decide_deadline,
    gather_sources,
    retire_at,
)
from scalable_hpc.worker.endings import CourierExit, Leave, Restart, after_exit
from scalable_hpc.worker.options import DIRECTORY_VARIABLE, WorkerOptions, parse_options
from scalable_hpc.worker.recorder import add_courier_death

ENDING_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
HEARD = ENDING_SIGNALS | {signal.SIGUSR1, signal.SIGCHLD}
_LOOK_AT_LEAST_EVERY_S = 30.0
_SWEEP_ROUNDS = 20
_SWEEP_PAUSE_S = 0.05
"""A process in an uninterruptible wait dies when its file system answers; a second is enough for all others."""


class Launcher:
    """Keeps one courier alive until the allocation or the run ends."""

    def __init__(self, options: WorkerOptions, environ: Mapping[str, str]) -> None:
        self._options = options
        self._environ = environ
        self._started_at = time.time()
        self._deadline = Deadline(None, "not asked yet")
        self._reread_at = 0.0
        self._retiring: str | None = None
        self._courier: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Return the exit status of the job script.

        Raises:
            RunDirectoryError: there is no scheduler file to be trusted.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
        wait_for_contact(self._options.run_dir, pause=self._pause_for_contact)
        self._read_deadline(rereads=False)
        directory = tempfile.mkdtemp(prefix=f"scalable-hpc-{self._options.allocation}-")
        try:
            return self._keep_alive(directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _keep_alive(self, directory: str) -> int:
        deaths: list[float] = []
        while True:
            status = self._attend(self._start_courier(directory))
            now = time.monotonic()
            following = after_exit(status, deaths=deaths, now=now, is_retiring=self._retiring is not None)
            _say(following.because)
            match following:
                case Leave(status=leaving):
                    return leaving
                case Restart(pause_s=pause_s):
                    deaths.append(now)
                    self._listen(pause_s)
            if self._retiring is not None:
                return 0

    def _start_courier(self, directory: str) -> subprocess.Popen[bytes]:
        self._courier = subprocess.Popen(
            [sys.executable, "-m", "scalable_hpc.worker.serve", *self._options.to_argv()],
            stdin=subprocess.PIPE,
            start_new_session=True,
            env={**self._environ, DIRECTORY_VARIABLE: directory},
        )
        self._tell(DeadlineIs(self._deadline.at))
        return self._courier

    def _attend(self, courier: subprocess.Popen[bytes]) -> int:
        """Handle signals and the clock until the courier has ended and its session is swept."""
        while (status := courier.poll()) is None:
            self._listen(_LOOK_AT_LEAST_EVERY_S)
        self._courier = None
        if courier.stdin is not None:
            with suppress(OSError):
                courier.stdin.close()
        _sweep_session(courier.pid)
        if status not in set(CourierExit) and self._retiring is None:
            add_courier_death(
                self._options.run_dir / "recorders",
                allocation=self._options.allocation,
                pid=courier.pid,
                status=status,
                at=time.time(),
            )
        return status

    def _listen(self, patience_s: float) -> None:
        """Wait for a signal, the clock, or ``patience_s``, whichever comes first, and answer it."""
        now = time.time()
        until = min(now + patience_s, *self._appointments())
        heard = signal.sigtimedwait(HEARD, max(0.0, until - now))
        if heard is not None and heard.si_signo == signal.SIGUSR1:
            self._read_deadline(rereads=True)
            answer = answer_warning(self._deadline, now=time.time())
            _say(answer.because)
            if answer.retires:
                self._start_retiring(answer.because)
        elif heard is not None and heard.si_signo in ENDING_SIGNALS:
            self._start_retiring(f"{signal.Signals(heard.si_signo).name}: the allocation is being ended")
        self._keep_appointments(time.time())

    def _appointments(self) -> list[float]:
        leave_at = retire_at(self._deadline, started_at=self._started_at)
        is_free = self._retiring is None
        return [self._reread_at] if not is_free or leave_at is None else [self._reread_at, leave_at]

    def _keep_appointments(self, now: float) -> None:
        if now >= self._reread_at:
            self._read_deadline(rereads=True)
        leave_at = retire_at(self._deadline, started_at=self._started_at)
        if leave_at is not None and now >= leave_at and self._retiring is None:
            # An extension may have come since the last look: ask once more before giving up a good node.
            self._read_deadline(rereads=True)
            leave_at = retire_at(self._deadline, started_at=self._started_at)
            if leave_at is not None and now >= leave_at:
                left = (self._deadline.at or now) - now
                self._start_retiring(f"{left:.0f} s before the deadline ({self._deadline.because})")

    def _read_deadline(self, *, rereads: bool) -> None:
        sources = gather_sources(
            self._environ, started_at=self._started_at, walltime_s=self._options.walltime_s, rereads=rereads
        )
        found = decide_deadline(sources)
        if found.at != self._deadline.at:
            _say(f"the allocation ends at {found.at} ({found.because})")
        self._deadline = found
        self._reread_at = time.time() + REREAD_EVERY_S
        self._tell(DeadlineIs(found.at))

    def _start_retiring(self, because: str) -> None:
        if self._retiring is None:
            self._retiring = because
            self._tell(Retire(because))

    def _tell(self, command: Command) -> None:
        if self._courier is not None and self._courier.stdin is not None:
            with suppress(OSError):  # it has died: the next look says so
                self._courier.stdin.write(encode(command))
                self._courier.stdin.flush()

    def _pause_for_contact(self, seconds: float) -> None:
        self._listen(seconds)
        if self._retiring is not None:
            raise RunDirectoryError(f"ended before there was a scheduler file ({self._retiring})")


def _sweep_session(session: int) -> None:
    """Kill what is left of a session whose leader has died."""
    for _ in range(_SWEEP_ROUNDS):
        left = [process.pid for process in kin.process_table() if process.session == session]
        if not left:
            return
        kin.kill_all(left)
        time.sleep(_SWEEP_PAUSE_S)


def _say(because: str) -> None:
    print(f"scalable-hpc worker: {because}", file=sys.stderr, flush=True)  # noqa: T201  the job's log is our screen


def main(argv: Sequence[str]) -> int:
    """Run the launcher of one node; returns the exit status of the job script."""
    try:
        return Launcher(parse_options(argv), os.environ).run()
    except ScalableError as err:
        _say(str(err))
        return err.exit_code
