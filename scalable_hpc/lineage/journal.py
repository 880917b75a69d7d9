"""The run's journal: append-only, one event a line, each line chained to those before it by a checksum.

    {"format":"scalable-hpc journal","version":1,"run_id":"...","c":"5f3a9c01"}
    {"e":"task_submitted","t":1.5,"task_id":"f-00001",...,"c":"0b77d2e4"}

Rule 1: ``c`` is the CRC-32 of the line without it, continued from the line before: a line that changed, went missing
or moved is found, with its number.
Rule 2: a last line without its newline is a torn tail: nobody was told that it was written. Readers ignore it, the
writer cuts it and says so. Any other damage is a ``JournalError``.
Rule 3: one writer; ``lease`` sees to that.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import os
import re
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from scalable_hpc.errors import JournalError, RunDirectoryError
from scalable_hpc.lineage.appending import AppendOnlyFile
from scalable_hpc.lineage.codec import decode_event, encode_event
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.quick import Fold, QuickFold
from scalable_hpc.model.events import Event

FORMAT = "scalable-hpc journal"
VERSION = 1
_CHECKSUM_LENGTH = len(',"c":"00000000"}')
_SEALS = re.compile(rb',"c":"[0-9a-f]{8}"}$', re.MULTILINE)
"""At the ends of lines only: within a line's strings a quote is escaped."""
_BLOCK = 1 << 22
_to_json = json.JSONEncoder(separators=(",", ":")).encode
"""Infinity is written as Python's json reads it: a policy without a cap must not stop the journal."""


def _seal(record: dict[str, Any], chain: int) -> tuple[bytes, int]:
    body = _to_json(record).encode("ascii")
    chain = zlib.crc32(body, chain)
    return b'%b,"c":"%08x"}\n' % (body[:-1], chain), chain


def _unseal(line: bytes, chain: int) -> tuple[dict[str, Any], int]:
    body = line[:-_CHECKSUM_LENGTH] + b"}"
    chain = zlib.crc32(body, chain)
    if line[-_CHECKSUM_LENGTH:] != b',"c":"%08x"}' % chain:
        raise ValueError("its checksum does not match")
    record = json.loads(body.decode("ascii"))
    if not isinstance(record, dict):
        raise ValueError("it is not an object")  # noqa: TRY004  every kind of damage is a ValueError here
    return record, chain


class JournalReader:
    """Iterates over the events of a journal; may be used while a driver is writing it.

    Attributes:
        run_id: from the header, once iteration began; None while the file is empty or its header is torn.
        end: bytes that hold whole lines, once iteration ended.
        torn_bytes: bytes after them.
        chain: the checksum of the last whole line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_id: str | None = None
        self.end = 0
        self.torn_bytes = 0
        self.chain = 0
        self._number = 0
        """Of the last whole line."""

    def __iter__(self) -> Iterator[Event]:
        """Yield the events in order, once.

        Raises:
            JournalError: a line is damaged, or the journal is of a version that this release cannot read.
            RunDirectoryError: the file cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                yield from self._lines(file)
        except OSError as err:
            raise RunDirectoryError(f"the journal cannot be read: {str(self.path)!r}: {err.strerror or err}") from err

    def fold(self, into: Fold) -> None:
        """Take all events in, many lines at a time; the attributes are set when this returns.

        Raises:
            JournalError: a line is damaged or cannot follow on those before it, or the version is another.
            RunDirectoryError: the file cannot be read.
        """
        try:
            with self.path.open("rb") as file, _without_collector():
                deque(self._lines(itertools.islice(file, 1)), maxlen=0)  # the header, or what is torn of it
                rest = b""
                while data := file.read(_BLOCK):
                    whole, _, rest = (rest + data).rpartition(b"\n")
                    self._take_block(whole, into)
                self.torn_bytes = self.torn_bytes or len(rest)
        except OSError as err:
            raise RunDirectoryError(f"the journal cannot be read: {str(self.path)!r}: {err.strerror or err}") from err
        into.finish()

    def _take_block(self, block: bytes, into: Fold) -> None:
        """Take whole lines in. The chain's last checksum stands for the content of all of them."""
        if not block:
            return
        bodies, sealed = _SEALS.subn(b"}", block)
        chain = zlib.crc32(bodies.replace(b"\n", b""), self.chain)
        if sealed != block.count(b"\n") + 1 or block[-_CHECKSUM_LENGTH:] != b',"c":"%08x"}' % chain:
            for _ in self._lines(line + b"\n" for line in block.split(b"\n")):
                pass  # it finds the line, and raises
        first = self._number + 1
        try:
            for self._number, line in enumerate(bodies.decode("ascii").split("\n"), first):
                into.take(line)
        except ValueError as err:
            raise self._damaged(self._number, err) from err
        self.chain = chain
        self.end += len(block) + 1

    def _lines(self, lines: Iterable[bytes]) -> Iterator[Event]:
        for line in lines:
            if not line.endswith(b"\n"):
                self.torn_bytes = len(line)
                return
            number = self._number + 1
            try:
                record, chain = _unseal(line[:-1], self.chain)
                event = decode_event(record) if number > 1 else None
                if event is None:
                    self._take_header(record)
            except ValueError as err:
                raise self._damaged(number, err) from err
            self._number = number
            self.chain = chain
            self.end += len(line)
            if event is not None:
                yield event

    def _take_header(self, record: dict[str, Any]) -> None:
        if record.get("format") != FORMAT:
            raise ValueError(f"it should be the header of a {FORMAT}")
        if record.get("version") != VERSION:
            raise JournalError(
                f"the journal {str(self.path)!r} is of version {record.get('version')!r}, this release reads {VERSION}",
                hint="use the release of scalable-hpc that wrote it",
            )
        self.run_id = str(record.get("run_id"))

    def _damaged(self, number: int, err: ValueError) -> JournalError:
        return JournalError(
            f"the journal {str(self.path)!r} is damaged in line {number}: {err}",
            hint=f"the {number - 1} lines before it are sound: head -n {number - 1} {self.path}",
        )


class Journal:
    """The writing side. ``append`` from any thread; ``commit`` blocks, so call it off the loop."""

    def __init__(
        self,
        path: Path,
        run_id: str,
        *,
        each: Callable[[Event], object] | None = None,
        into: Fold | None = None,
        fsync: bool = True,
    ) -> None:
        """Open a journal, or begin one; a torn tail is cut.

        Args:
            path: the file; it is made with mode 0600.
            run_id: for the header.
            each: called with every event that an earlier driver had written (``ledger.apply``).
            into: takes them all instead, many times as quickly.
            fsync: False only where a crash of this machine may cost the run (tests).

        Raises:
            JournalError: it is damaged, of another version, or another run's.
            RunDirectoryError: it cannot be written.
        """
        self.path = path
        self.torn_bytes = 0
        """How much was cut from the end, for the caller to report."""
        self._chain = 0
        end = self._recover(run_id, each, into) if path.exists() else 0
        self._file = AppendOnlyFile(path, end, fsync=fsync)
        self._lock = threading.Lock()
        self._waiting: list[Event] = []
        if end == 0:
            header, self._chain = _seal({"format": FORMAT, "version": VERSION, "run_id": run_id}, 0)
            self._file.write(header)

    def _recover(self, run_id: str, each: Callable[[Event], object] | None, into: Fold | None) -> int:
        reader = JournalReader(self.path)
        if into is not None:
            reader.fold(into)
        for event in reader if into is None else ():
            if each is not None:
                each(event)
        if reader.run_id not in (None, run_id):
            raise JournalError(f"the journal {str(self.path)!r} is of run {reader.run_id!r}, not {run_id!r}")
        self.torn_bytes = reader.torn_bytes
        self._chain = reader.chain
        return reader.end

    def append(self, event: Event) -> None:
        """Note an event for the next commit."""
        with self._lock:
            self._waiting.append(event)

    @property
    def is_waiting(self) -> bool:
        """Whether anything was appended since the last commit."""
        return bool(self._waiting)

    def commit(self) -> int:
        """Write and sync everything appended so far, as one batch, and return how many events that were.

        Raises:
            RunDirectoryError: the disk is full or gone. Nothing of the batch is in the file then; all of it is
                kept, and a later commit tries again.
        """
        with self._lock:
            batch, self._waiting = self._waiting, []
        if not batch:
            return 0
        lines = []
        chain = self._chain
        for event in batch:
            line, chain = _seal(encode_event(event), chain)
            lines.append(line)
        try:
            self._file.write(b"".join(lines))
        except RunDirectoryError:
            with self._lock:
                self._waiting[:0] = batch
            raise
        self._chain = chain
        return len(batch)

    def close(self) -> None:
        """Commit what is left and close the file."""
        try:
            self.commit()
        finally:
            self._file.close()


def read_events(path: Path | str | os.PathLike[str]) -> Iterator[Event]:
    """Yield the events of a journal, for reports and resumption; a torn tail is ignored.

    Raises:
        JournalError: it is damaged or of another version.
        RunDirectoryError: it cannot be read.
    """
    return iter(JournalReader(Path(path)))


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Spare the garbage collector the going over of a million new objects that all stay, time and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def fold_journal(path: Path, ledger: Ledger, each: Callable[[Event], object] | None = None) -> None:
    """Fold a journal into a ledger, quickly; a torn tail is ignored.

    Args:
        path: the journal.
        ledger: what it is folded into.
        each: called with every event, except for most of those that are of tasks only (``QuickFold``).

    Raises:
        JournalError: it is damaged or of another version.
        RunDirectoryError: it cannot be read.
    """
    JournalReader(path).fold(QuickFold(ledger, each))
