"""Notes beside results: which call a key stands for, what it was made from, and how long the call took. Pure.

A key says nothing about the call that it names. A note, under the same key, is what lets somebody say in words why
today's call is another one. Notes are lines of JSON in a file of each writer, apart from packs and indexes: opening
a store and finding a result never touch them.

    {"code": id, "function": ..., "version": ..., "parts": [[name, digest], ...], "depends_on": [...]}
    {"key": key, "of": id, "arguments": [[name, digest], ...], "run_s": ..., "at": ...}

What many calls share (the code, and what it reaches) stands there once a file; the id is a digest of it, so that
lines may be copied from file to file.

Rule 1: a note holds digests, never values: it can be read by anybody who may read the store, without unpickling,
    and gives nothing away that an argument holds.
Rule 2: a line that is torn, damaged, or of a later release is no note; nothing depends on there being one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blake3 import blake3

if TYPE_CHECKING:
    from scalable_hpc.cache.keys import CallKey, KeyParts

_SHORT = 16
"""Hex digits that are enough to tell two versions of one part apart."""

Named = tuple[tuple[str, str], ...]
"""Names and digests."""


@dataclass(frozen=True, slots=True)
class CodeNote:
    """What many calls of one function share."""

    function: str
    version: str
    parts: Named
    """Every function, class, module and constant that the code reaches."""
    depends_on: Named


@dataclass(frozen=True, slots=True)
class Note:
    """What a result was computed from."""

    key: str
    """64 hex digits."""
    code: CodeNote
    arguments: Named
    run_s: float
    """Seconds that the call ran for."""
    at: int
    """When it was noted, in seconds since the epoch, by its writer's clock."""


@dataclass(frozen=True, slots=True)
class NoteLines:
    """A note as it is written down."""

    code_id: str
    code_line: str
    """Empty where the reader has been told it before."""
    call_line: str


def note_of(key: CallKey, run_s: float = 0.0, at: float = 0.0) -> Note:
    """Return the note of a call."""
    parts = key.parts
    code = CodeNote(parts.function, parts.version, () if parts.code is None else parts.code.parts, parts.dependencies)
    return Note(key.hex, code, _shortened(parts.arguments), run_s, int(at))


def code_id_of(parts: KeyParts) -> str:
    """Return the digest of what a call shares with the others of its function."""
    said = (parts.function, parts.version, "" if parts.code is None else parts.code.digest.hex(), parts.dependencies)
    return blake3(repr(said).encode()).hexdigest()[:_SHORT]


def code_line(code_id: str, parts: KeyParts) -> str:
    """Return what a call shares with others as a line."""
    reached = () if parts.code is None else parts.code.parts
    said = {"code": code_id, "function": parts.function, "version": parts.version, "parts": reached}
    return _line({**said, "depends_on": parts.dependencies})


def call_line(key: CallKey, code_id: str, run_s: float, at: float) -> str:
    """Return what is one call's own as a line."""
    arguments = _shortened(key.parts.arguments)
    return _line({"key": key.hex, "of": code_id, "arguments": arguments, "run_s": round(run_s, 6), "at": int(at)})


def read_codes(lines: Iterable[str | bytes]) -> dict[str, CodeNote]:
    """Return every note of code in some lines, by id."""
    found = (_code(said) for said in _parsed(lines, b'{"code"', '{"code"'))
    return dict(pair for pair in found if pair is not None)


def read_calls(lines: Iterable[str | bytes], codes: Mapping[str, CodeNote]) -> Iterator[Note]:
    """Yield the notes of calls in some lines whose code is among those given."""
    found = (_call(said, codes) for said in _parsed(lines, b'{"key"', '{"key"'))
    return (note for note in found if note is not None)


def differences(stored: Note, now: Note) -> list[str]:
    """Return in words what sets a stored call apart from today's; nothing where both are one call."""
    before, after = stored.code, now.code
    if before.function != after.function:
        return [f"another function: {before.function}, not {after.function}"]
    words = []
    if before.version != after.version:
        words.append(f"version= was {_said(before.version)} and is {_said(after.version)}")
    for name, change in _changes(before.parts, after.parts):
        words.append(f"{_piece(name, after.function)} {change}")
    for name, change in _changes(before.depends_on, after.depends_on):
        words.append(f"what depends_on= names, {name}, {change}")
    for name, change in _changes(stored.arguments, now.arguments):
        words.append(f"the argument {name.lstrip('*') or '*args'} {change}")
    return words


def nearest(stored: Iterable[Note], now: Note) -> tuple[Note, list[str]] | None:
    """Return the note that least sets apart from today's call, the newest of several, and what does."""
    best: tuple[tuple[int, int], Note, list[str]] | None = None
    for note in stored:
        words = differences(note, now)
        rank = (len(words), -note.at)
        if best is None or rank < best[0]:
            best = rank, note, words
    return None if best is None else (best[1], best[2])


def _changes(before: Named, after: Named) -> Iterator[tuple[str, str]]:
    old, new = dict(before), dict(after)
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            yield name, "counted then and does not now"
        elif name not in old:
            yield name, "did not count then"
        elif old[name] != new[name]:
            yield name, "is another"


def _piece(name: str, function: str) -> str:
    """Return in words what a part of the code is: ``label``, or ``label: what it reaches``."""
    label, _, reached = name.partition(": ")
    owner = "its own code" if label == function else f"the code of {label}, which it reaches,"
    if not reached:
        return owner
    if reached.startswith("module "):
        return f"the source of the {reached}"
    kind, _, place = reached.partition(" ")
    whose = "" if label == function else f" of {label}"
    if kind == "default":
        return f"the default {place}{whose}"
    if kind == "closure":
        return f"the value of {place} in the closure{whose}"
    return f"the value of {reached}, which {'it' if label == function else label} reaches,"


def _said(version: str) -> str:
    """Return a version as people wrote it: it is kept with the name of its type before it."""
    return version.partition(" ")[2] or "not given"


def _code(said: dict[str, Any]) -> tuple[str, CodeNote] | None:
    try:
        code = CodeNote(str(said["function"]), str(said["version"]), _named(said["parts"]), _named(said["depends_on"]))
        return str(said["code"]), code
    except (KeyError, TypeError, ValueError):
        return None


def _call(said: dict[str, Any], codes: Mapping[str, CodeNote]) -> Note | None:
    try:
        code = codes.get(said["of"])
        arguments, run_s, at = _named(said["arguments"]), float(said["run_s"]), int(said["at"])
        return None if code is None else Note(str(said["key"]), code, arguments, run_s, at)
    except (KeyError, TypeError, ValueError):
        return None


def _line(said: dict[str, Any]) -> str:
    return json.dumps(said, separators=(",", ":"))


def _parsed(lines: Iterable[str | bytes], start: bytes, start_of_text: str) -> Iterator[dict[str, Any]]:
    for line in lines:
        # most lines are of the other kind: parsing those would double the time
        if line.startswith(start) if isinstance(line, bytes) else line.startswith(start_of_text):
            said = _decoded(line)
            if isinstance(said, dict):
                yield said


def _decoded(line: str | bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _shortened(pairs: Named) -> Named:
    return tuple((name, digest[:_SHORT]) for name, digest in pairs)


def _named(pairs: Any) -> Named:
    return tuple((str(name), str(digest)) for name, digest in pairs)
