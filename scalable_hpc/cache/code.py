"""The code identity of a function or class: its own code and all of the user's code and constants it reaches.

Rule 1: the same code and constants give the same identity in every process.
Rule 2: what changed since (a global rebound, a list edited in place) is noticed at the next call.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from types import FunctionType, ModuleType
from typing import Any

from scalable_hpc.cache.code_graph import CodeIdentity, Graph
from scalable_hpc.cache.encode import Unencodable
from scalable_hpc.cache.owner import is_users_code, label_of, unwrapped
from scalable_hpc.cache.static import module_label
from scalable_hpc.cache.told import ClassWord
from scalable_hpc.cache.watches import Watch

REMEMBERED = 4096
"""Identities kept at hand; a program that makes functions in a loop must not keep them all alive."""


def identity(target: FunctionType | type, ignore: Iterable[str] = ()) -> CodeIdentity:
    """Return the code identity of a function or class.

    Args:
        target: A function or class; a decorated one stands for what its decorators wrap too.
        ignore: Names of globals, or of what a closure holds, that do not alter the result.

    Raises:
        Unencodable: it reaches a value that has no encoding.
    """
    ignored = frozenset(ignore)
    key = (id(target), ignored)
    known = _memo.get(key)
    if known is not None and known[0] is target and known[1].holds():
        return known[1]
    try:
        made = Graph(target, ignored).identity()
    except Unencodable:
        raise
    except Exception as err:  # a strange object among the globals must not end the call
        raise Unencodable("function", label_of(target), f"{type(err).__name__}: {err}") from err
    if len(_memo) >= REMEMBERED:
        _memo.clear()
    _memo[key] = (target, made)
    return made


def class_word(cls: type) -> ClassWord | None:
    """Return what a class of the user's is made of, to be told where it is made anew; None where nobody can say."""
    known = _words.get(cls)
    if known is not None and all(watch.holds() for watch in known[1]):
        return known[0]
    try:
        graph = Graph(cls, frozenset())
    except Exception:  # noqa: BLE001 - it will have no key here, either: nothing is lost
        return None
    word = graph.word()
    _words[cls] = word, tuple(graph.watches)
    return word


def code_of(target: Any, ignore: Iterable[str] = ()) -> bytes:
    """Return the identity of a function, class or module that is part of an argument."""
    if isinstance(target, ModuleType):
        return module_label(target, "")
    inner = unwrapped(target)
    label = label_of(inner).encode()
    return label + b"\0" + identity(inner, ignore).digest if is_users_code(inner) else label


_words: weakref.WeakKeyDictionary[type, tuple[ClassWord, tuple[Watch, ...]]] = weakref.WeakKeyDictionary()
_memo: dict[tuple[int, frozenset[str]], tuple[Any, CodeIdentity]] = {}
