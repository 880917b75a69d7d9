"""Why a call was not found: what sets it apart from the kept call that is most like it.

Rule 1: reading only, and of notes only: no result is opened for an explanation.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from scalable_hpc.cache.books import Books
from scalable_hpc.cache.keys import CallKey, KeyMaker
from scalable_hpc.cache.notebook import note_of_key, read_notes
from scalable_hpc.cache.notes import nearest, note_of
from scalable_hpc.cache.typed_call import TypedCall


@dataclass(frozen=True, slots=True)
class Explanation:
    """What can be said of one key."""

    key: str
    """64 hex digits."""
    function: str
    """Empty where nothing was noted of the key."""
    is_kept: bool
    stored: int | None
    """When its result was stored, in seconds since the epoch; None where it is not kept."""
    run_s: float | None
    """Seconds that it ran for, where that was noted."""
    compared_with: str | None
    """The key of the kept call that is most like it; None where there is none of this function."""
    compared_at: int | None
    because: tuple[str, ...]
    """What sets it apart from that call; or why nothing can be said."""


def key_of(call: TypedCall) -> CallKey:
    """Return the key that a call has today, declared or not.

    Raises:
        Unencodable: it has none: it is computed without the cache.
        TypeError: the arguments do not fit.
    """
    spec = getattr(call.function, "__scalable_cache__", None)
    if spec is None:
        return KeyMaker(call.function).key(call.args, call.kwargs)
    key: CallKey = spec.name_call(call.args, call.kwargs)
    return key


def explain_call(books: Books, key: CallKey) -> Explanation:
    """Say of today's call whether its result is kept, and if not, what has changed since one was.

    Raises:
        OSError: the store cannot be read.
    """
    now = note_of(key, at=time.time())
    function = now.code.function
    if books.result(key.hex) is not None:
        return explain_key(books, key.hex)
    known = list(read_notes(books.layout.notes, lambda code: code.function == function))
    kept = [note for note in known if books.result(note.key) is not None]
    if any(note.key == key.hex for note in known):
        because = "it was kept once; it has been forgotten, evicted, outlived its ttl, or was damaged"
        return Explanation(key.hex, function, False, None, None, None, None, (because,))
    found = nearest(kept, now)
    if found is None:
        return Explanation(key.hex, function, False, None, None, None, None, (_nothing(books, function),))
    note, words = found
    return Explanation(key.hex, function, False, None, None, note.key, note.at, tuple(words))


def explain_key(books: Books, key: str) -> Explanation:
    """Say of a key that was noted what set its call apart from the earlier call that was most like it.

    Raises:
        OSError: the store cannot be read.
    """
    result = books.result(key)
    stored = None if result is None else result.created
    noted = note_of_key(books.layout.notes, key)
    if noted is None:
        because = "nothing was noted of this key: it was imported, or stored by a program that does not note"
        return Explanation(key, "", result is not None, stored, None, None, None, (because,))
    function = noted.code.function
    earlier = [
        note
        for note in read_notes(books.layout.notes, lambda code: code.function == function)
        if note.key != key and note.at <= noted.at
    ]
    found = nearest(earlier, noted)
    if found is None:
        because = f"it was the first call of {function}"
        return Explanation(key, function, result is not None, stored, noted.run_s, None, None, (because,))
    note, words = found
    return Explanation(key, function, result is not None, stored, noted.run_s, note.key, note.at, tuple(words))


def noted_keys(books: Books) -> set[str]:
    """Return every key that something was noted of.

    Raises:
        OSError: the store cannot be read.
    """
    return {note.key for note in read_notes(books.layout.notes)}


def _nothing(books: Books, function: str) -> str:
    name = function.rpartition(".")[2]
    alike = {
        note.code.function
        for note in read_notes(books.layout.notes, lambda code: code.function.rpartition(".")[2] == name)
    }
    if alike:
        return f"no result of {function} is kept; there are some of {', '.join(sorted(alike))}"
    return f"no result of {function} is kept"
