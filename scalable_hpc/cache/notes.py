"""Notes beside results: which call a key stands for, what it was made from, and how long the call took. Pure.

A key says nothing about the call that it names. A note, under the same key, is what lets somebody say in words why
today's call is another one. As a record it stands in a pack like a result does, header and digest and all, with an
index entry of the kind ``NOTE``, which readers pass over: a note is never on the way of a hit.

Rule 1: a note is JSON and holds digests, never values: it can be read by anybody who may read the store, without
    unpickling, and gives nothing away that an argument holds.
Rule 2: a note that is damaged, or of a later release, is no note; nothing depends on there being one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from scalable_hpc.cache.keys import CallKey

NOTE = 5
"""The kind of an index entry that names a note in the pack beside it."""
_VERSION = 1

Named = tuple[tuple[str, str], ...]
"""Names and digests."""


@dataclass(frozen=True, slots=True)
class Note:
    """What a result was computed from."""

    function: str
    version: str
    code: Named
    """Every function, class, module and constant that the code reaches."""
    dependencies: Named
    arguments: Named
    run_s: float
    """Seconds that the call ran for."""


def note_of(key: CallKey, run_s: float) -> Note:
    """Return the note of a call that was computed."""
    parts = key.parts
    code = () if parts.code is None else parts.code.parts
    return Note(parts.function, parts.version, code, parts.dependencies, parts.arguments, run_s)


def encode_note(note: Note) -> bytes:
    """Return a note's bytes."""
    said = {
        "note": _VERSION,
        "function": note.function,
        "version": note.version,
        "code": note.code,
        "dependencies": note.dependencies,
        "arguments": note.arguments,
        "run_s": note.run_s,
    }
    return json.dumps(said, separators=(",", ":")).encode()


def decode_note(raw: bytes) -> Note | None:
    """Return the note that some bytes are; None where they are none that this release can read."""
    try:
        said = json.loads(raw)
        if said["note"] != _VERSION:
            return None
        return Note(
            str(said["function"]),
            str(said["version"]),
            _named(said["code"]),
            _named(said["dependencies"]),
            _named(said["arguments"]),
            float(said["run_s"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


def differences(stored: Note, now: Note) -> list[str]:
    """Return in words what sets a stored call apart from today's; nothing where both are one call."""
    if stored.function != now.function:
        return [f"another function: {stored.function}, not {now.function}"]
    words = []
    if stored.version != now.version:
        words.append(f"version= was {stored.version or 'not given'} and is {now.version or 'not given'}")
    for what, before, after in (
        ("the code of", stored.code, now.code),
        ("the dependency", stored.dependencies, now.dependencies),
        ("the argument", stored.arguments, now.arguments),
    ):
        words += _changes(what, dict(before), dict(after))
    return words


def _changes(what: str, before: dict[str, str], after: dict[str, str]) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            yield f"{what} {name} counts no more"
        elif name not in before:
            yield f"{what} {name} did not count then"
        elif before[name] != after[name]:
            yield f"{what} {name} is another"


def _named(pairs: Any) -> Named:
    return tuple((str(name), str(digest)) for name, digest in pairs)
