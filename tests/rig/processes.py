"""Processes that outlive the command that started them, and that a later command finds again.

Rule 1: a process is known by its pid and its start time, so a pid used anew is never taken for ours.
Rule 2: nothing is ever ended by name; only what a file below ``run/`` says is ours.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

from tests.rig.packages import PATH
from tests.rig.settings import RigError

# Launched children of this very process: kept so that they are reaped, and so that Python does not complain
# that they still run when it forgets them.
_children: dict[int, subprocess.Popen[bytes]] = {}


def read_stat(pid: int) -> tuple[str, int] | None:
    """State letter and start time (clock ticks since boot) of a process; None where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    after_command = stat.rpartition(")")[2].split()
    return after_command[0], int(after_command[19])


def is_running(pid: int, started: int) -> bool:
    """Whether that very process lives; one that waits to be reaped does not."""
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        del _children[pid]
    return (stat := read_stat(pid)) is not None and stat[1] == started and stat[0] not in "ZX"


def send(pid: int, sig: signal.Signals) -> None:
    """Signal a process that may have ended in the meantime."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sig)


def children(pid: int) -> list[int]:
    """The pids of a process's children."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(word) for word in task.read_text().split()]
    return found


def command_name(pid: int) -> str:
    """The base name of what a process was called with, such as ``slurmd``; empty where it is gone."""
    try:
        first = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return ""
    # slurmstepd renames itself "slurmstepd: [12.batch]"
    return Path(first.decode(errors="replace").partition(":")[0]).name


def all_pids() -> Iterator[int]:
    """Every process of the machine that can be seen."""
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def wait_until(claim: Callable[[], bool], what: str, seconds: float, *, every: float = 0.03) -> None:
    """Ask until ``claim`` holds.

    Raises:
        RigError: it did not hold within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            raise RigError(f"timed out after {seconds:g} s waiting for {what}")
        time.sleep(every)


@contextlib.contextmanager
def locked(path: Path, *, seconds: float = 300) -> Iterator[None]:
    """Hold the lock file ``path``.

    Raises:
        RigError: somebody else held it all the time.
    """
    deadline = time.monotonic() + seconds
    while (file := _try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise RigError(f"somebody else holds {path}")
        time.sleep(0.05)
    with file:
        yield


def _try_lock(path: Path) -> IO[str] | None:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its last holder may have removed the file with the whole root: then ours locks nothing.
        if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    file.close()
    return None


class Processes:
    """The named processes of one rig, on record below its root."""

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self._root = root
        self._environment = {
            "PATH": PATH,
            "LANG": "C.UTF-8",
            "HOME": os.environ.get("HOME", "/"),
            **environment,
        }

    def launch(
        self, name: str, argv: list[str], *, environment: Mapping[str, str] | None = None, talk: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start a process in a session of its own, with a clean environment, and put it on record.

        With ``talk`` its standard input and output are pipes to the caller; otherwise nothing and the log.
        """
        for ended in [pid for pid, child in _children.items() if child.poll() is not None]:
            del _children[ended]
        with self._log(name).open("ab") as log:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE if talk else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talk else log,
                stderr=log,
                env={**self._environment, **(environment or {})},
                cwd=self._root,
                start_new_session=True,
            )
        _children[child.pid] = child
        self.adopt(name, child.pid)
        return child

    def adopt(self, name: str, pid: int) -> None:
        """Put a process on record under ``name``; one that has ended already stays off it."""
        stat = read_stat(pid)
        if stat is not None:
            self._record(name).write_text(f"{pid} {stat[1]}\n")

    def pid(self, name: str) -> int | None:
        """The pid of the process on record, while it lives."""
        try:
            pid, started = map(int, self._record(name).read_text().split())
        except (OSError, ValueError):
            return None
        return pid if is_running(pid, started) else None

    def alive(self) -> list[str]:
        """The names of all processes that live."""
        names = (path.stem for path in sorted((self._root / "run").glob("*.pid")))
        return [name for name in names if self.pid(name) is not None]

    def forget(self, name: str) -> None:
        """Take a process off the record."""
        self._record(name).unlink(missing_ok=True)

    def stop(self, name: str, sig: signal.Signals = signal.SIGTERM, *, seconds: float = 10) -> None:
        """End a process: ``sig``, and SIGKILL where that was not enough. Returns when it is gone."""
        pid = self.pid(name)
        if pid is not None:
            send(pid, sig)
            if sig != signal.SIGKILL:
                try:
                    wait_until(lambda: self.pid(name) is None, f"the end of {name}", seconds)
                except RigError:
                    send(pid, signal.SIGKILL)
            wait_until(lambda: self.pid(name) is None, f"the end of {name} (pid {pid})", 10)
        self.forget(name)

    def wait_ready(self, name: str, claim: Callable[[], bool], seconds: float) -> None:
        """Wait until a daemon answers.

        Raises:
            RigError: it ended, or did not answer in time; with the end of its log.
        """

        def answers_or_is_dead() -> bool:
            return claim() or self.pid(name) is None

        try:
            wait_until(answers_or_is_dead, f"{name} to answer", seconds)
        except RigError as err:
            raise RigError(f"{err}{self.tail([name])}") from err
        if self.pid(name) is None:
            raise RigError(f"{name} ended while starting{self.tail([name])}")

    def tail(self, names: Iterable[str], *, lines: int = 12) -> str:
        """The last lines of what the named processes wrote, ready to be put below an error message."""
        text = ""
        for name in names:
            own = self._root / f"log/{name}.log"
            path = own if own.exists() else self._log(name)
            if path.exists():
                last = path.read_text(errors="replace").splitlines()[-lines:]
                text += "\n".join(["", f"--- {path}", *last])
        return text

    def _record(self, name: str) -> Path:
        return self._root / f"run/{name}.pid"

    def _log(self, name: str) -> Path:
        return self._root / f"log/{name}.out"
