# pathlib would double the time that a shepherd takes to start.
# ruff: noqa: PTH100, PTH118, PTH119, PTH123
"""The shepherd: one small process that runs one local job, ends it in time, and outlives the driver.

Started as ``python -m scalable_hpc.batch.shepherd SPOOL/<job id>`` in a session of its own. It takes orders as signals:
SIGTERM cancel, SIGUSR1 preempt, SIGXCPU end the walltime, SIGUSR2 lose the node,
SIGXFSZ run out of memory. Everything it knows it writes to the job's ``state.json``.

Rule 1: imports nothing that takes time; a job must run within a few dozen milliseconds.
Rule 2: when it says that the job is over, no process of the job is left.
Rule 3: it never prints: its standard output is a pipe whose end tells the driver, if there is one, that it is gone.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

from scalable_hpc.batch import process_tree, spool

LOSE_NODE = signal.SIGUSR2
OUT_OF_MEMORY = signal.SIGXFSZ
END_WALLTIME = signal.SIGXCPU
STOPS = {signal.SIGTERM: "cancelled", signal.SIGUSR1: "preempted", END_WALLTIME: "timeout"}
"""Orders that let the job have its grace, and the ending they lead to."""
FALLS = {LOSE_NODE: "node_fail", OUT_OF_MEMORY: "out_of_memory"}
"""Orders that kill every process of the job at once, and the ending they lead to."""
_IGNORED = {signal.SIGINT, signal.SIGHUP}
_WATCHED = {signal.SIGCHLD, *FALLS, *STOPS, *_IGNORED}

LAST_WORD_TRIES = 60
"""A second apart; without a last word the job counts as NODE_FAIL, which costs its attempts nothing."""

_OPEN_FILES = 65_536
"""Descriptors that a driver may have left inheritable are closed up to this one."""


class Shepherd:
    """One job from its start to its end."""

    def __init__(self, directory: str, request: dict[str, object]) -> None:
        self.directory = directory
        self.request = request
        self.walltime = _seconds(request.get("walltime_s"))
        self.lead = _seconds(request.get("signal_lead_s")) or 0.0
        self.kill_wait = _seconds(request.get("kill_wait_s")) or 0.0
        self.started_at = time.time()
        self.ends_at = None if self.walltime is None else self.started_at + self.walltime
        self.warn_at = self.ends_at - self.lead if self.ends_at is not None and self.lead > 0 else None
        self.kill_at: float | None = None
        self.stopping: str | None = None
        self.script = 0
        self.identity: dict[str, object] = {}
        self.status: int | None = None

    def run(self) -> None:
        """Run the job to its end."""
        failure = self._launch()
        if failure is not None:
            self._end("launch_failed", failure)
            return
        self._tell("running")
        while self.status is None and self.stopping not in FALLS.values():
            self._wait()
            self._keep_time(time.time())
        self._tell("ending")
        stubborn = process_tree.kill_all(self._members, self._reap)
        left = f"; {stubborn} of its processes would not die" if stubborn else ""
        self._end(*self._verdict(left))

    def _wait(self) -> None:
        """Sleep until a child ends, an order comes, or the next moment to act."""
        now = time.time()
        moments = [at - now for at in (self.warn_at, self._end_of_walltime(), self.kill_at) if at is not None]
        arrived = signal.sigtimedwait(_WATCHED, max(0.0, min([spool.HEARTBEAT_S, *moments])))
        spool.beat(self.directory)
        self._reap()
        if arrived is None:
            return
        if arrived.si_signo in FALLS:
            self.stopping = FALLS[signal.Signals(arrived.si_signo)]
        elif arrived.si_signo in STOPS and self.stopping is None:
            self._stop(STOPS[signal.Signals(arrived.si_signo)])

    def _keep_time(self, now: float) -> None:
        if self.status is not None or self.stopping in FALLS.values():
            return
        if self.warn_at is not None and now >= self.warn_at:
            self.warn_at = None
            process_tree.send({self.script}, signal.SIGUSR1)
        end = self._end_of_walltime()
        if end is not None and now >= end:
            self._stop("timeout")
        if self.kill_at is not None and now >= self.kill_at:
            self.kill_at = now + 1.0
            process_tree.send(self._members(), signal.SIGKILL)

    def _end_of_walltime(self) -> float | None:
        return self.ends_at if self.stopping is None else None

    def _stop(self, reason: str) -> None:
        """Ask every process of the job to end; what is left after ``kill_wait`` is killed."""
        self.stopping = reason
        self.warn_at = None
        self.kill_at = time.time() + self.kill_wait
        self._tell("ending")
        members = self._members()
        process_tree.send(members, signal.SIGTERM)
        process_tree.send(members, signal.SIGCONT)  # a stopped process takes no SIGTERM

    def _members(self) -> set[int]:
        return process_tree.below({os.getpid()}) | process_tree.marked(self.directory)

    def _reap(self) -> None:
        """Take the exit status of every child that ended; orphans of the job are our children too."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.script:
                    self.status = status

    def _verdict(self, left: str) -> tuple[str, str]:
        if self.stopping == "timeout":
            walltime = "" if self.walltime is None else f" of {self.walltime:g} s"
            return "timeout", f"TIMEOUT (its walltime{walltime} was used up{left})"
        if self.stopping is not None:
            return self.stopping, f"{self.stopping.upper()}{left}"
        code = os.waitstatus_to_exitcode(self.status or 0)
        if code == 0:
            return "completed", f"COMPLETED{left}"
        return "failed", (f"FAILED (exit code {code}{left})" if code > 0 else f"FAILED (signal {-code}{left})")

    def _tell(self, state: str, **more: object) -> None:
        """Write the job's state; a disk that is full or away must not keep us from watching, nor from the last word."""
        known = {"state": state, "started_at": self.started_at, "ends_at": self.ends_at, "script": self.identity}
        is_last = state == "ended"
        tries = LAST_WORD_TRIES if is_last else 1
        while tries and not self._is_written({**known, **more}, durable=is_last):
            tries -= 1
            time.sleep(1.0 if is_last else 0.0)

    def _is_written(self, state: dict[str, object], *, durable: bool) -> bool:
        with suppress(OSError):
            spool.write_json(os.path.join(self.directory, spool.STATE), state, durable=durable)
            return True
        return False

    def _end(self, reason: str, raw: str) -> None:
        code = None if self.status is None else os.waitstatus_to_exitcode(self.status)
        self._tell(
            "ended",
            reason=reason,
            raw=raw,
            exit_code=code if code is not None and code >= 0 else None,
            signal=-code if code is not None and code < 0 else None,
            ended_at=time.time(),
        )

    def _launch(self) -> str | None:
        """Start the script in a session of its own; return why it could not be started, or None."""
        heard, says = os.pipe()
        self.script = os.fork()
        if self.script == 0:
            self._become_the_script(says)
        os.close(says)
        failure = os.read(heard, 4096).decode(errors="replace")
        os.close(heard)
        if not failure:
            self.identity = spool.identity_of(self.script)
            return None
        os.waitpid(self.script, 0)
        return failure

    def _become_the_script(self, says: int) -> None:
        """Turn this forked child into the script; ``says`` is closed by a successful exec, else carries the words."""
        doing = ""
        try:
            os.setsid()
            doing = f"LAUNCH_FAILED (directory '{self.request['chdir']}': "
            os.chdir(str(self.request["chdir"]))
            doing = f"LAUNCH_FAILED (output '{self.request['output']}': "
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
            output = os.open(str(self.request["output"]), flags, 0o666)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            script = os.path.join(self.directory, spool.SCRIPT)
            argv = [*_interpreter(script), script]
            doing = f"LAUNCH_FAILED (interpreter '{argv[0]}': "
            for number in signal.valid_signals():
                with suppress(OSError, ValueError):
                    signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, set())
            os.execve(argv[0], argv, self._environment())  # noqa: S606
        except (OSError, ValueError) as err:
            os.write(says, f"{doing}{getattr(err, 'strerror', None) or err})".encode())
        finally:
            os._exit(127)

    def _environment(self) -> dict[str, str]:
        ends = {} if self.ends_at is None else {"SCALABLE_HPC_JOB_END_TIME": str(int(self.ends_at))}
        return {
            **{name: value for name, value in os.environ.items() if name != "SCALABLE_HPC_JOB_END_TIME"},
            process_tree.MARKER: self.directory,
            "SCALABLE_HPC_JOB_ID": os.path.basename(self.directory),
            "SCALABLE_HPC_JOB_START_TIME": str(int(self.started_at)),
            **ends,
        }


def _interpreter(script: str) -> list[str]:
    """Read the ``#!`` line as the kernel does, so that a spool on a ``noexec`` file system serves too."""
    with open(script, "rb") as file:
        words = os.fsdecode(file.readline()).removeprefix("#!").strip().split(None, 1)
    return words or ["/bin/sh"]


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def main(directory: str) -> None:
    """Run the job whose directory this is, unless it was cancelled before.

    The process that was started becomes the guard and forks the shepherd: should the shepherd be killed by force, all
    that is left of its job becomes the guard's, even what carries no marker any more.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)  # before the claim: whoever sees it may send orders
    os.closerange(3, _OPEN_FILES)
    process_tree.become_subreaper()
    guard = spool.identity_of(os.getpid())
    if shepherd := os.fork():
        _guard(directory, shepherd)
        return
    process_tree.become_subreaper()  # a fork does not inherit it
    request = spool.read_json(os.path.join(directory, spool.REQUEST))
    if request is not None and spool.claim(directory, {**spool.identity_of(os.getpid()), "guard": guard}):
        Shepherd(directory, request).run()


def _guard(directory: str, shepherd: int) -> None:
    """Wait for the shepherd; when it did not leave by itself, end its job. Whoever looks then says how it ended."""
    _, status = os.waitpid(shepherd, 0)
    if status == 0:
        return

    def reap() -> None:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    process_tree.kill_all(lambda: process_tree.below({os.getpid()}) | process_tree.marked(directory), reap)


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]))
