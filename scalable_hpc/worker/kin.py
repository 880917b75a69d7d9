"""Which processes belong to a slot, and how much memory they hold, read from ``/proc``.

A slot's process group covers most of its children; those that left it (``setsid``, MPI launchers that give every
rank a group of its own) are found by descent, and those whose parents have died by the mark in their environment.

Rule 1: reading only, except ``kill_all``; a process that vanishes while being read is simply not there.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """One line of the process table."""

    pid: int
    parent: int
    group: int
    session: int


def _parse_stat(text: bytes) -> ProcessFacts:
    """Read ``/proc/<pid>/stat``; a command name may hold blanks and brackets: fields count from the last bracket."""
    pid = int(text[: text.index(b" ")])
    fields = text[text.rindex(b")") + 2 :].split()
    return ProcessFacts(pid=pid, parent=int(fields[1]), group=int(fields[2]), session=int(fields[3]))


def _read(pid: int | str, what: str) -> bytes:
    with open(f"/proc/{pid}/{what}", "rb") as stream:  # noqa: PTH123  thousands of times
        return stream.read()


def process_table() -> list[ProcessFacts]:
    """Return every process that we may see."""
    table = []
    for name in os.listdir("/proc"):  # noqa: PTH208  names, not paths: there are thousands
        if name.isdigit():
            with suppress(OSError, ValueError):
                table.append(_parse_stat(_read(name, "stat")))
    return table


def descendants(roots: Collection[int], table: Iterable[ProcessFacts]) -> set[int]:
    """Return the roots and all their children's children; pure."""
    children: dict[int, list[int]] = {}
    for process in table:
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    ahead = list(roots)
    while ahead:
        pid = ahead.pop()
        if pid not in found:
            found.add(pid)
            ahead.extend(children.get(pid, ()))
    return found


def carries_mark(pid: int, mark: str) -> bool:
    """Tell whether a process was started with ``mark`` (``NAME=value``) in its environment."""
    try:
        return mark.encode() in _read(pid, "environ").split(b"\0")
    except OSError:
        return False


def marks(pid: int, prefix: str) -> set[str]:
    """Return the entries of the environment that a process was started with that begin so."""
    try:
        return {entry.decode() for entry in _read(pid, "environ").split(b"\0") if entry.startswith(prefix.encode())}
    except (OSError, UnicodeDecodeError):
        return set()


def kill_all(pids: Iterable[int]) -> None:
    """Send SIGKILL to each; those already gone are left alone."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def kill_group(group: int) -> None:
    """Send SIGKILL to a process group, if it still has members."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def resident_bytes(pid: int) -> int:
    """Return the resident memory of one process; 0 when it is gone."""
    try:
        return int(_read(pid, "statm").split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with suppress(OSError):
                found.extend(int(child) for child in _read(pid, f"task/{thread}/children").split())
    return found


def family(pid: int) -> set[int]:
    """Return a process and its living descendants, without reading the whole process table."""
    ahead, seen = [pid], set[int]()
    while ahead:
        one = ahead.pop()
        if one not in seen:
            seen.add(one)
            ahead.extend(_children(one))
    return seen


def proportional_bytes(pid: int) -> int:
    """Return the memory of one process, each shared page divided among its holders; slow for large processes."""
    try:
        lines = _read(pid, "smaps_rollup").splitlines()
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(b"Pss:"))
    except (OSError, IndexError, ValueError):
        return resident_bytes(pid)
