"""The flight recorder: one append-only file per worker that tells after a node's death what was running there.

First line: ``{"v":1,"allocation":...,"node":...,"pid":...,"t":...}``. Then one JSON object a line:
``{"e":"start","t":...,"a":"task.1","s":2}``, ``{"e":"end","t":...,"a":"task.1","how":"done"}``,
``{"e":"death","t":...,"s":2,"exit":...,"signal":...,"peak":...}``, ``{"e":"memory","t":...,"a":...,"bytes":...}``,
``{"e":"close","t":...}``. Two lines tell of the worker's own death, by whoever outlived it on its node:
``{"e":"courier","t":...,"exit":...,"signal":...}`` is its launcher's, ``{"e":"orphaned","t":...}`` the courier's own,
when it is the launcher that died.

Rule 1: each append is a single write of whole lines; a torn last line is all that a crash can leave.
Rule 2: recording never fails an attempt: a full disk ends the recording, and says so once.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scalable_hpc.errors import RunDirectoryError
from scalable_hpc.faults.evidence import signal_name
from scalable_hpc.model.tasks import AttemptId

VERSION = 1
SYNC_EVERY_S = 2.0
"""Lines reach the file system at once and its servers at most this much later; one fsync costs a parallel file
system milliseconds, one per attempt would cost it a queue."""

logger = logging.getLogger(__name__)

Line = Mapping[str, object]


def started(attempt: AttemptId, *, at: float, seat: int) -> Line:
    """Return the line of an attempt that was handed to a slot."""
    return {"e": "start", "t": round(at, 3), "a": str(attempt), "s": seat}


def ended(attempt: AttemptId, *, at: float, how: str) -> Line:
    """Return the line of an attempt's end; ``how`` is ``done`` or the value of its Ending."""
    return {"e": "end", "t": round(at, 3), "a": str(attempt), "how": how}


def died(*, at: float, seat: int, exit_code: int | None, signal: int | None, peak_memory: int | None) -> Line:
    """Return the line of a slot's death."""
    return {"e": "death", "t": round(at, 3), "s": seat, "exit": exit_code, "signal": signal, "peak": peak_memory}


def held(attempt: AttemptId, *, at: float, memory: int) -> Line:
    """Return the line of a memory sample."""
    return {"e": "memory", "t": round(at, 3), "a": str(attempt), "bytes": memory}


def add_courier_death(directory: Path, *, allocation: str, pid: int, status: int, at: float) -> None:
    """Add to a dead courier's recorder how it ended; for its launcher.

    Args:
        directory: where the recorders lie.
        allocation: of the courier.
        pid: of the courier.
        status: as ``Popen`` returns it; negative for a signal.
        at: seconds since the epoch.
    """
    line = {"e": "courier", "t": round(at, 3), "exit": max(status, 0), "signal": max(-status, 0)}
    for path in directory.glob(f"{allocation}-*-{pid}.rec"):
        with suppress(OSError), path.open("ab") as stream:
            stream.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())


class Recorder:
    """Appends to one file; every method may be called from any thread."""

    def __init__(self, path: Path, *, allocation: str, node: str, pid: int, at: float) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self._lock = threading.Lock()
        self._is_dirty = False
        self._is_abandoned = False
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._descriptor: int | None = os.open(path, flags, 0o600)
        except OSError as err:
            raise RunDirectoryError(f"cannot write the flight recorder {str(path)!r}: {err}") from err
        self.append({"v": VERSION, "allocation": allocation, "node": node, "pid": pid, "t": round(at, 3)})
        self.sync()

    def append(self, *lines: Line) -> None:
        """Write whole lines at once."""
        data = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode()
        with self._lock:
            if self._descriptor is None or self._is_abandoned or not data:
                return
            try:
                if os.write(self._descriptor, data) == len(data):
                    self._is_dirty = True
                    return
                because = "the disk is full"
            except OSError as err:
                because = str(err)
            logger.error("flight recorder %s ends here: %s", self.path, because)
            self._shut()

    def sync(self) -> None:
        """Bring what was appended to the file system's servers, if there is anything."""
        with self._lock:
            if self._descriptor is None or not self._is_dirty:
                return
            self._is_dirty = False
            twin = os.dup(self._descriptor)
        try:
            with suppress(OSError):
                os.fsync(twin)  # outside the lock: a slow server must not hold up attempts
        finally:
            os.close(twin)

    def close(self, *, at: float) -> None:
        """Write the last line and close."""
        self.append({"e": "close", "t": round(at, 3)})
        self.sync()
        with self._lock:
            self._shut()

    def abandon(self) -> None:
        """Write nothing more, not even a last line: what follows is the worker's own end, no attempt's.

        Waits for nothing: the file system may be what this worker dies of.
        """
        self._is_abandoned = True

    def orphan(self, *, at: float) -> None:
        """Write that the launcher is dead, and nothing more; best called where nobody waits for it."""
        self.append({"e": "orphaned", "t": round(at, 3)})
        self._is_abandoned = True
        self.sync()

    def _shut(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None


@dataclass(frozen=True, slots=True)
class RecorderView:
    """What a flight recorder tells."""

    allocation: str
    node: str
    pid: int
    opened_at: float
    last_at: float
    """Time of the last whole line."""
    running: Mapping[AttemptId, float]
    """Attempts begun and not ended, with the time they were begun."""
    ended: Mapping[AttemptId, str]
    memory: Mapping[AttemptId, int]
    """The highest memory sample of attempts that were watched (bytes)."""
    torn: bool
    """The last line was cut off by a crash."""
    damaged: int
    """Lines before it that cannot be read: never a crash's doing."""
    was_closed: bool
    worker_end: str = ""
    """How the worker itself died, if somebody on its node lived to tell: ``SIGKILL``, ``its launcher died``."""


def read_recorder(path: Path) -> RecorderView:
    """Read a flight recorder, whatever became of its writer.

    Raises:
        RunDirectoryError: it cannot be opened, or its first line does not say that it is one we can read.
    """
    try:
        raw = path.read_bytes()
        first, *rest = raw.split(b"\n")
        header = json.loads(first)
        if header["v"] != VERSION:
            raise ValueError(f"version {header['v']!r}, this release reads version {VERSION}")  # noqa: TRY301
        return _fold(header, rest)
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise RunDirectoryError(f"cannot read the flight recorder {str(path)!r}: {err!r}") from err


def _fold(header: Mapping[str, object], rest: Sequence[bytes]) -> RecorderView:
    running: dict[AttemptId, float] = {}
    ended_: dict[AttemptId, str] = {}
    memory: dict[AttemptId, int] = {}
    opened_at = last_at = float(str(header["t"]))
    damaged, was_closed, worker_end = 0, False, ""
    *whole, cut = rest or [b"?"]
    for raw in whole:
        try:
            line = json.loads(raw)
            at, kind = float(line["t"]), line["e"]
            attempt = _attempt(line["a"]) if "a" in line else None
        except (ValueError, KeyError, TypeError):
            damaged += 1
            continue
        last_at = max(last_at, at)
        was_closed = kind == "close"
        worker_end = worker_end or _worker_end(kind, line)
        if attempt is None:
            continue
        if kind == "start":
            running[attempt] = at
        elif kind == "end":
            running.pop(attempt, None)
            ended_[attempt] = str(line["how"])
        elif kind == "memory":
            memory[attempt] = max(memory.get(attempt, 0), int(line["bytes"]))
    return RecorderView(
        allocation=str(header["allocation"]),
        node=str(header["node"]),
        pid=int(str(header["pid"])),
        opened_at=opened_at,
        last_at=last_at,
        running=running,
        ended=ended_,
        memory=memory,
        torn=bool(cut),
        damaged=damaged,
        was_closed=was_closed,
        worker_end=worker_end,
    )


def _worker_end(kind: object, line: Mapping[str, object]) -> str:
    """Say how the worker died, where a line tells; each kind but the first is whoever's death it names."""
    if kind == "orphaned":
        return "its launcher died"
    if kind != "courier":
        return ""
    number = line.get("signal")
    return signal_name(number) if isinstance(number, int) and number else f"exit code {line.get('exit')}"


def _attempt(text: str) -> AttemptId:
    task_id, _, number = text.rpartition(".")
    return AttemptId(task_id, int(number))
