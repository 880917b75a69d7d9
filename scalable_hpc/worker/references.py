"""Puts the stored results of ancestors in the place of the references to them.

Rule 1: arguments are rebuilt, never changed in place; what holds no reference is passed on as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from scalable_hpc.model.tasks import ResultRef

Fetch = Callable[[ResultRef], Any]


def resolve(value: Any, fetch: Fetch) -> Any:
    """Return ``value`` with every ResultRef in it replaced, in lists, tuples and dicts (values) of any depth."""
    if isinstance(value, ResultRef):
        return fetch(value)
    if isinstance(value, dict):
        changed = {name: new for name, old in value.items() if (new := resolve(old, fetch)) is not old}
        return _with_items(value, changed) if changed else value
    if isinstance(value, list | tuple):
        items = [resolve(item, fetch) for item in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        return _with_all(value, items)
    return value


def _with_items(original: dict[Any, Any], changed: dict[Any, Any]) -> dict[Any, Any]:
    rebuilt = copy.copy(original)
    rebuilt.update(changed)
    return rebuilt


def _with_all(original: Any, items: list[Any]) -> Any:
    """Return a container of the same class; a named tuple is made field by field."""
    if isinstance(original, list):
        rebuilt = copy.copy(original)
        rebuilt[:] = items
        return rebuilt
    make = getattr(type(original), "_make", type(original))
    return make(items)
