"""The queue of local jobs that wait for this machine: a thread that starts them in order as capacity frees.

Rule 1: which job starts is decided by ``local_text.next_to_start``; this thread only watches and starts.
Rule 2: it learns of a job's end at once, from the pipe that the job's shepherd holds open, with nobody polling.
"""

from __future__ import annotations

import os
import selectors
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from scalable_hpc.batch import local_jobs, spool
from scalable_hpc.batch.local_text import Capacity, Wait, Waiting, next_to_start
from scalable_hpc.model.allocations import JobState

PLACES_VARIABLE = "SCALABLE_HPC_PLACES"
"""Environment of a job: the names of what it was given, joined by commas."""

STRANGERS_S = 0.25
"""How often jobs of a dead driver, whose pipes we do not hold, are looked at while they keep capacity from ours."""

_START = (
    "import sys,types;p=types.ModuleType('scalable_hpc');p.__path__=[sys.argv[1]];sys.modules['scalable_hpc']=p;"
    "from scalable_hpc.batch.shepherd import main;main(sys.argv[2])"
)
"""The package by its path, without its ``__init__``: a shepherd needs none of what that imports."""


@dataclass(slots=True)
class _Entry:
    waiting: Waiting
    directory: Path
    environ: Mapping[str, str]


@dataclass(slots=True)
class _Running:
    entry: _Entry
    pid: int


@dataclass(slots=True)
class LocalQueue:
    """Jobs of this driver that wait or run; its thread starts with the first job."""

    total: Capacity
    places: tuple[str, ...] = ()
    """Names of what ``total.cpus`` counts; empty: it has none."""
    _waiting: list[_Entry] = field(default_factory=list)
    _running: dict[int, _Running] = field(default_factory=dict)
    _strangers: dict[Path, Capacity] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread | None = None
    _wake: tuple[int, int] | None = None
    _closed: bool = False

    def add(self, waiting: Waiting, directory: Path, environ: Mapping[str, str]) -> None:
        """Put a job at the end of the queue; its environment is that of the moment it was submitted."""
        with self._lock:
            self._waiting.append(_Entry(waiting, directory, environ))
            if self._thread is None:
                self._strangers = _jobs_of_others(directory)
                self._wake = os.pipe()
                for end in self._wake:
                    os.set_blocking(end, False)
                self._thread = threading.Thread(target=self._work, name="scalable-hpc-local-queue", daemon=True)
                self._thread.start()
        self.rouse()

    def because(self, job_id: str) -> str:
        """Return why a job of this driver waits: the first for ``Resources``, those behind it for ``Priority``."""
        with self._lock:
            place = next((at for at, entry in enumerate(self._waiting) if entry.waiting.job_id == job_id), None)
            if place is None:
                return ""
            found = next_to_start([entry.waiting for entry in self._waiting[:1]], self._used(), self.total, time.time())
        return "Priority" if place else found.because if isinstance(found, Wait) else "Resources"

    @property
    def is_closed(self) -> bool:
        """Whether no more jobs are started."""
        return self._closed

    def close(self) -> None:
        """Stop starting jobs; those that run go on under their shepherds, those that wait are CANCELLED."""
        with self._lock:
            self._closed = True
            left, self._waiting = self._waiting, []
        self.rouse()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            for end in (*(self._wake or ()), *self._running):
                os.close(end)
            self._wake, self._running = None, {}
        for entry in left:
            local_jobs.give_up_before_start(entry.directory, "its driver closed before it started")

    def rouse(self) -> None:
        """Make the thread look again: a waiting job was cancelled, or the queue closes."""
        with self._lock, suppress(BlockingIOError):
            if self._wake is not None:
                os.write(self._wake[1], b".")

    def _work(self) -> None:
        assert self._wake is not None
        woken = self._wake[0]
        with selectors.DefaultSelector() as selector:
            selector.register(woken, selectors.EVENT_READ)
            while not self._closed:
                pause = self._start_what_fits(selector)
                for key, _ in selector.select(pause):
                    if key.fd == woken:
                        with suppress(BlockingIOError):
                            os.read(key.fd, 4096)
                    else:
                        selector.unregister(key.fd)
                        self._bury(key.fd)

    def _start_what_fits(self, selector: selectors.BaseSelector) -> float | None:
        """Start jobs until the first one has to wait; return how long to sleep at most."""
        while True:
            with self._lock:
                self._waiting = [entry for entry in self._waiting if spool.claimed_by(str(entry.directory)) is None]
                self._strangers = {job: takes for job, takes in self._strangers.items() if _is_on(job)}
                found = next_to_start([entry.waiting for entry in self._waiting], self._used(), self.total, time.time())
                if isinstance(found, Wait):
                    pauses = [STRANGERS_S] if self._strangers and self._waiting else []
                    pauses += [max(0.0, found.until - time.time())] if found.until is not None else []
                    return min(pauses, default=None)
                entry = self._waiting.pop(0)
                try:
                    pid, end = _start_shepherd(self._placed(entry))
                except OSError as err:
                    with suppress(OSError):
                        local_jobs.fail_to_launch(entry.directory, f"no process: {err.strerror}")
                    continue
                self._running[end] = _Running(entry, pid)
                selector.register(end, selectors.EVENT_READ)

    def _placed(self, entry: _Entry) -> _Entry:
        """Give a job that is about to start its places, where capacity has names, and note which they are."""
        if not self.places:
            return entry
        jobs = [*(running.entry.directory for running in self._running.values()), *self._strangers]
        taken = {place for job in jobs for place in spool.places_of(str(job))}
        given = [place for place in self.places if place not in taken][: entry.waiting.cpus]
        spool.write_json(str(entry.directory / spool.PLACES), {"places": given})
        return replace(entry, environ={**entry.environ, PLACES_VARIABLE: ",".join(given)})

    def _bury(self, end: int) -> None:
        """Take the end of a shepherd: usually its job told its own, else what is left of it is ended here."""
        with self._lock:
            gone = self._running.pop(end)
        os.close(end)
        with suppress(ChildProcessError):
            os.waitpid(gone.pid, 0)
        with suppress(OSError):  # a full disk: whoever looks at the job next settles it
            local_jobs.observe(gone.entry.directory)

    def _used(self) -> Capacity:
        ours = [
            Capacity(running.entry.waiting.cpus, running.entry.waiting.memory) for running in self._running.values()
        ]
        taken = [*ours, *self._strangers.values()]
        return Capacity(sum(one.cpus for one in taken), sum(one.memory or 0 for one in taken))


def _start_shepherd(entry: _Entry) -> tuple[int, int]:
    """Start a shepherd in a session of its own; return its pid and the pipe that ends with it."""
    package = str(Path(__file__).resolve().parents[1])
    argv = [sys.executable, "-I", "-S", "-c", _START, package, str(entry.directory)]
    ours, its = os.pipe()
    log = str(entry.directory.parent / spool.SHEPHERDS_LOG)
    try:
        pid = os.posix_spawn(
            sys.executable,
            argv,
            dict(entry.environ),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, its, 1),
                (os.POSIX_SPAWN_OPEN, 2, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            ],
            setsid=True,
        )
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(its)
    return pid, ours


def _jobs_of_others(directory: Path) -> dict[Path, Capacity]:
    """Return what jobs of earlier drivers, still in the spool, take of this machine."""
    found: dict[Path, Capacity] = {}
    for job in directory.parent.glob("local-*"):
        request = spool.read_json(str(job / spool.REQUEST))
        if job == directory or request is None or spool.claimed_by(str(job)) is None or not _is_on(job):
            continue
        cpus, memory = request.get("cpus"), request.get("memory")
        found[job] = Capacity(cpus if isinstance(cpus, int) else 1, memory if isinstance(memory, int) else None)
    return found


def _is_on(directory: Path) -> bool:
    try:
        seen = local_jobs.observe(directory)
    except OSError:
        return True
    return seen.state in (JobState.RUNNING, JobState.ENDING, JobState.PENDING)
