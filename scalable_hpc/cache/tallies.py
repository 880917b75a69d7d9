"""How often results were found, and what computing them had cost: counted per process, kept one line at a time.

A process counts in memory, and appends a line to its host's file when it ends, when its store is closed, and every
now and then in between: one inode a host, and nothing on the way of a hit but an append to a list.

Rule 1: a tally is for people: a line that cannot be written, or is torn, costs a count and nothing else.
Rule 2: a line goes out in one write to a file opened for appending, so that processes of one host need no lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from scalable_hpc.cache.layout import file_mode, is_ours, make_directory

FLUSHED_EVERY_S = 10.0
"""Seconds of counting that a process killed outright may cost."""
_AT_ONCE = 4096
"""Hits after which the list is folded, so that it stays small whatever happens."""
_PREFIX, _SUFFIX = "hits-", ".jsonl"


class Tally:
    """What one process finds in one store."""

    def __init__(self, notes: Path) -> None:
        self.found: deque[float] = deque()
        """One item a hit: the core-seconds it saves. Appending is all that a hit costs, from whatever thread."""
        self._notes = notes
        self._hits = 0
        self._core_s = 0.0
        self._flushed_at = time.monotonic()

    def flush_now_and_then(self) -> None:
        """Write down what was counted if it is time."""
        if len(self.found) > _AT_ONCE:
            self._fold()
        if time.monotonic() - self._flushed_at > FLUSHED_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Write down what was counted; where that fails it is dropped."""
        self._flushed_at = time.monotonic()
        self._fold()
        hits, self._hits = self._hits, 0
        core_s, self._core_s = self._core_s, 0.0
        if hits:
            line = json.dumps({"at": int(time.time()), "pid": os.getpid(), "hits": hits, "core_s": round(core_s, 6)})
            with contextlib.suppress(OSError):
                append_line(self._notes / f"{_PREFIX}{socket.gethostname()}{_SUFFIX}", line)

    def _fold(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._core_s += self.found.popleft()
                self._hits += 1


@dataclass(frozen=True, slots=True)
class Hits:
    """What was found, by all processes of all hosts that said so."""

    count: int = 0
    core_s: float = 0.0
    """Core-seconds that computing would have taken; results of which nobody knows count as none."""


def read_tallies(notes: Path) -> Hits:
    """Return what all hosts have counted; torn lines and other users' files are passed over.

    Raises:
        OSError: what is there cannot be read.
    """
    count, core_s = 0, 0.0
    for path in sorted(notes.glob(f"{_PREFIX}*{_SUFFIX}")):
        if is_ours(path.stat()):
            for raw in path.read_bytes().splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    said = json.loads(raw)
                    count, core_s = count + int(said["hits"]), core_s + float(said["core_s"])
    return Hits(count, core_s)


def is_tally(name: str) -> bool:
    """Say whether a file of this name holds tallies."""
    return name.startswith(_PREFIX)


def append_line(path: Path, line: str) -> None:
    """Append one line, in one write; directory and file are made if need be.

    Raises:
        OSError: it could not be written, or not all of it.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        descriptor = os.open(path, flags, file_mode())
    except FileNotFoundError:
        make_directory(path.parent)
        descriptor = os.open(path, flags, file_mode())
    try:
        os.write(descriptor, line.encode() + b"\n")
    finally:
        os.close(descriptor)
