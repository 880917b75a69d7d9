"""What a task may ask about the attempt that it is: ``scalable_hpc.context()``.

Outside a slot (in a script, a notebook, a test) there is an answer too, so that a function can be tried where it is
written: a first attempt of no task, with all the time in the world, in temporary directories of this process.

Rule 1: asking costs nothing until it is asked: no directory is made for a task that does not want one.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import quote

from blake3 import blake3

from scalable_hpc.model.tasks import AttemptId
from scalable_hpc.worker.launching import HOSTS_VARIABLE, launch_words
from scalable_hpc.worker.options import NODE_VARIABLES
from scalable_hpc.worker.outlook import Outlook, read_outlook
from scalable_hpc.worker.shares import CPUS_VARIABLE

STOP_BEFORE_S = 2.0
"""Seconds before its end at which a worker that was not told to drain is taken to be ending all the same; the
launcher drains it earlier than that, so this counts only where its word did not come through."""

MARKED_FILES = 10_000
"""Files of a checkpoint directory that are looked at to see whether the task got on: a second's work at most."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a slot's attempts find things; the same for all of them."""

    scratch: str
    checkpoints: str
    """Directory of the run that has a directory for each task that wants one."""
    outlook: str
    """File that says how long the worker will be there."""


class Context:
    """The attempt that is running here, and what is known of the time and place that it has."""

    def __init__(self, attempt: AttemptId | None, surroundings: Surroundings | None) -> None:
        self._attempt = attempt
        self._surroundings = surroundings

    @property
    def task_id(self) -> str | None:
        """The task's name in the run, ``future.task_id``; None outside a task."""
        return None if self._attempt is None else self._attempt.task_id

    @property
    def attempt(self) -> int:
        """Which try of the task this is, from 1 on."""
        return 1 if self._attempt is None else self._attempt.number

    @property
    def time_left(self) -> float | None:
        """Seconds until the allocation ends, never below zero; None where nobody has said when."""
        deadline = self._outlook().deadline
        return None if deadline is None else max(0.0, deadline - time.time())

    @property
    def should_stop(self) -> bool:
        """Whether the worker is about to go: save what was done, and raise ``Checkpointed``.

        True from the moment that the worker is given nothing new: its allocation nears its end, was cancelled or
        preempted with a warning, or is no longer wanted.
        """
        outlook = self._outlook()
        is_late = outlook.deadline is not None and outlook.deadline - time.time() <= STOP_BEFORE_S
        return is_late or outlook.draining is not None

    @property
    def hosts(self) -> tuple[str, ...]:
        """The nodes that the task has for what it starts itself, as the batch system calls them, its own first.

        One, but for components of several ``nodes``; on this machine the names of those stand for nothing.
        """
        said = os.environ.get(HOSTS_VARIABLE, "") if self._attempt is not None else ""
        if said:
            return tuple(said.split(","))
        named = (os.environ.get(name) for name in NODE_VARIABLES)
        return (next(filter(None, named), socket.gethostname()),)

    @property
    def cpus(self) -> int:
        """How many cpus the task has on each: its ``cpus``, rounded up to whole slots; outside a task, all of them."""
        said = os.environ.get(CPUS_VARIABLE, "") if self._attempt is not None else ""
        return int(said) if said.isdigit() else len(os.sched_getaffinity(0))

    def launch(self, program: str | None = None, *, ranks: int | None = None) -> list[str]:
        """Return the words that start a parallel program on the task's nodes; the program's own follow them.

        Args:
            program: ``srun``, ``mpiexec``, or one that is called like the latter; None: ``srun`` in a job of Slurm,
                else ``mpiexec``.
            ranks: how many of it there are to be; None: one for each cpu of each node.

        Raises:
            ValueError: there are to be less than one.
        """
        if ranks is not None and ranks < 1:
            raise ValueError(f"ranks must be at least 1: {ranks}")
        return launch_words(program, ranks=ranks, hosts=self.hosts, cpus=self.cpus, environ=os.environ)

    @property
    def scratch(self) -> Path:
        """A directory on the node, empty when the attempt begins, emptied when it has ended."""
        return _temporary("scratch") if self._surroundings is None else Path(self._surroundings.scratch)

    @property
    def checkpoint_dir(self) -> Path:
        """A directory in the run's own, the same for every attempt of the task, made when it is first asked for.

        Nothing in it is removed before the run directory is; a task that has ended may empty its own.

        Raises:
            OSError: it cannot be made.
        """
        if self._attempt is None or self._surroundings is None:
            return _temporary("checkpoint")
        path = _kept_in(self._attempt, self._surroundings)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def __repr__(self) -> str:
        return "<Context outside a task>" if self._attempt is None else f"<Context of attempt {self._attempt}>"

    def _outlook(self) -> Outlook:
        return Outlook() if self._surroundings is None else read_outlook(self._surroundings.outlook)


def _files(directory: str) -> Iterator[tuple[str, int, int]]:
    """Yield path, size and time of each file below a directory."""
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(entry.path)
                else:
                    found = entry.stat(follow_symlinks=False)
                    yield entry.path, found.st_size, found.st_mtime_ns


_OUTSIDE = Context(None, None)
_current = _OUTSIDE
_temporary_directories: dict[str, Path] = {}


def context() -> Context:
    """Return the context of the attempt that runs in this process; outside a task, one that stands in for it."""
    return _current


def enter(attempt: AttemptId, surroundings: Surroundings) -> None:
    """Make an attempt the one that runs here."""
    global _current  # noqa: PLW0603  one attempt at a time, seen by all of its threads and forked children
    _current = Context(attempt, surroundings)


def leave() -> None:
    """Be outside of any task again."""
    global _current  # noqa: PLW0603  as above
    _current = _OUTSIDE


def mark_of_checkpoint(attempt: AttemptId, surroundings: Surroundings) -> str:
    """Return a mark that changes when a file in a task's ``checkpoint_dir`` does; empty where there is none.

    Names, sizes and times are looked at, of the first few thousand files.
    """
    seen = list(islice(_files(str(_kept_in(attempt, surroundings))), MARKED_FILES))
    return blake3(repr(sorted(seen)).encode()).hexdigest(length=16) if seen else ""


def _kept_in(attempt: AttemptId, surroundings: Surroundings) -> Path:
    return Path(surroundings.checkpoints) / quote(attempt.task_id, safe="")


def _temporary(purpose: str) -> Path:
    """Return this process's own directory for a purpose, made on first use and removed at its end."""
    path = _temporary_directories.get(purpose)
    if path is None or not path.is_dir():
        path = Path(tempfile.mkdtemp(prefix=f"scalable-hpc-{purpose}-"))
        _temporary_directories[purpose] = path
        atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path
