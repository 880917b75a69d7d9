"""This process's stores: one per root, and the one that ``@cacheable`` uses when nobody says otherwise."""

from __future__ import annotations

import os
import threading

from scalable_hpc.cache.decorator import default_store_root
from scalable_hpc.cache.settings import Durability
from scalable_hpc.cache.store import Store

_stores: dict[tuple[str, Durability | None], Store] = {}
_opening = threading.Lock()


def open_store(root: str | os.PathLike[str], *, durability: Durability | None = None) -> Store:
    """Return this process's one store at a root, made if need be: its users share files, index and fsyncs.

    Raises:
        StoreError: it cannot be opened or made, or belongs to another user.
    """
    given = (os.fspath(root), durability)
    store = _stores.get(given)  # absolute names are found as they are: this is on the way of every hit
    if store is None or store.closed:
        key = (os.path.abspath(given[0]), durability)  # noqa: PTH100 - as the default root is made
        with _opening:
            store = _stores.get(key)
            if store is None or store.closed:
                store = _stores[key] = Store(key[0], durability=durability)
    return store


def default_store() -> Store:
    """Return the store of this process's ``@cacheable`` functions.

    Raises:
        StoreError: it cannot be opened or made, or belongs to another user.
    """
    return open_store(default_store_root())


def _after_fork() -> None:
    global _opening  # noqa: PLW0603 - the parent's may be held by a thread that was not forked along
    _opening = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
