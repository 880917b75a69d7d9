"""The files that notes lie in: one for each process that writes results, appended to and never waited for.

Rule 1: nothing fails for want of a note: what cannot be written is dropped.
Rule 2: only the process that made a file writes to it; upkeep joins those whose writers are gone into one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from scalable_hpc.cache.layout import file_mode, is_ours, make_directory, write_all
from scalable_hpc.cache.notes import (
    CodeNote,
    Note,
    NoteLines,
    call_line,
    code_id_of,
    code_line,
    note_of,
    read_calls,
    read_codes,
)
from scalable_hpc.cache.tallies import is_tally
from scalable_hpc.cache.writers import gone_for_good

if TYPE_CHECKING:
    from scalable_hpc.cache.keys import CallKey

SUFFIX = ".jsonl"
JOINED_FROM = 8
"""Files of gone writers from which joining them is worth it."""


class Scrivener:
    """Turns calls into lines; says what they share once."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def lines(self, key: CallKey, run_s: float) -> NoteLines:
        """Return a call's note; without what was told of its code before."""
        code_id = code_id_of(key.parts)
        shared = "" if code_id in self._told else code_line(code_id, key.parts)
        self._told.add(code_id)
        return NoteLines(code_id, shared, call_line(key, code_id, run_s, time.time()))


class Notebook:
    """One writer's file of notes."""

    def __init__(self, notes: Path, writer: str) -> None:
        self._path = notes / (writer + SUFFIX)
        self._descriptor = -1
        self._lock = threading.Lock()
        self._scrivener = Scrivener()
        self._written: set[str] = set()
        """Ids of code that stands in the file."""

    def write_call(self, key: CallKey, run_s: float) -> None:
        """Append the note of one call; where that fails it is dropped."""
        self.write([self._scrivener.lines(key, run_s)])

    def write(self, notes: Iterable[NoteLines]) -> None:
        """Append notes; where that fails they are dropped."""
        with self._lock, contextlib.suppress(OSError):
            text = []
            for note in notes:
                if note.code_line and note.code_id not in self._written:
                    text.append(note.code_line)
                    self._written.add(note.code_id)
                text.append(note.call_line)
            if text:
                if self._descriptor < 0:
                    self._descriptor = self._open()
                write_all(self._descriptor, ("\n".join(text) + "\n").encode())

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            return os.open(self._path, flags, file_mode())
        except FileNotFoundError:
            make_directory(self._path.parent)
            return os.open(self._path, flags, file_mode())


def read_notes(notes: Path, wanted: Callable[[CodeNote], bool] = lambda _: True) -> Iterator[Note]:
    """Yield what is noted of calls of the functions that are wanted; other users' files are passed over.

    Raises:
        OSError: what is there cannot be read.
    """
    files = [path.read_bytes().splitlines() for path in _files(notes)]
    codes = {code_id: code for lines in files for code_id, code in read_codes(lines).items() if wanted(code)}
    for lines in files:
        yield from read_calls(lines, codes)


def note_of_key(notes: Path, key: str) -> Note | None:
    """Return what is noted under a key (64 hex digits), the newest of several.

    Raises:
        OSError: what is there cannot be read.
    """
    start = f'{{"key":"{key}"'.encode()
    files = [path.read_bytes().splitlines() for path in _files(notes)]
    codes = {code_id: code for lines in files for code_id, code in read_codes(lines).items()}
    found = [note for lines in files for note in read_calls((one for one in lines if one.startswith(start)), codes)]
    return max(found, key=lambda note: note.at, default=None)


def join_notes(notes: Path, keys: Collection[str], now: float) -> int:
    """Join the files of writers that are gone, without the notes of results that are; return how many went.

    Raises:
        OSError: the new file could not be written; the old ones are as they were.
    """
    gone = [path for path in _files(notes) if gone_for_good(f"{path.stem}-0", path.stat().st_mtime, now) is not None]
    if len(gone) < JOINED_FROM:
        return 0
    kept: dict[str, None] = {}
    for path in gone:
        for line in path.read_bytes().decode("utf-8", "replace").splitlines():
            if line.startswith('{"code"') or line[8:72] in keys:
                kept[line] = None
    stem = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    aside = notes / f"{stem}.new"
    try:
        with os.fdopen(
            os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file_mode()), "w", encoding="utf-8"
        ) as file:
            file.write("".join(f"{line}\n" for line in kept))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(notes / (stem + SUFFIX))
    finally:
        aside.unlink(missing_ok=True)
    for path in gone:
        path.unlink(missing_ok=True)
    return len(gone)


def today(key: CallKey) -> Note:
    """Return the note of a call that is not kept (yet)."""
    return note_of(key, at=time.time())


def _files(notes: Path) -> list[Path]:
    with contextlib.suppress(FileNotFoundError):
        return [
            path
            for path in sorted(notes.iterdir())
            if path.name.endswith(SUFFIX) and not is_tally(path.name) and is_ours(path.stat())
        ]
    return []
