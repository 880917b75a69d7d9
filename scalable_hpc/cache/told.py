"""What a class that travelled by value was, where it comes from: its source stays behind, and so do its surroundings.

A script's or a notebook's class is made anew in a worker, out of its attributes. What it says there (which generated
methods it has, what its annotations name) is not what its source says, so its code would have another identity.

Rule 1: a class's word is what its own process found its identity to be made of; code that it reaches comes along.
Rule 2: a word holds until the class is told another one.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ClassWord:
    """What a class is made of."""

    said: tuple[tuple[str, bytes], ...]
    """Places in the class, and the digests of what is there."""
    edges: tuple[tuple[str, Any], ...]
    """Places, and the functions and classes of the user's that they reach."""


@dataclass(frozen=True, slots=True)
class Told:
    """A class's word, which an identity was made from."""

    cls: type
    word: ClassWord

    def holds(self) -> bool:
        """Say whether it still counts."""
        return word_of(self.cls) is self.word


def tell(cls: type, word: ClassWord) -> None:
    """Take somebody's word for what a class is made of."""
    _words[cls] = word


def word_of(cls: type) -> ClassWord | None:
    """Return what was said of a class that came here by value."""
    return _words.get(cls)


_words: weakref.WeakKeyDictionary[type, ClassWord] = weakref.WeakKeyDictionary()
