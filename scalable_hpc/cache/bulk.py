"""What makes a million at once bearable."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

MANY = 10_000
"""Objects from which looking for garbage among them, again and again while they are made, doubles the time."""


@contextlib.contextmanager
def without_collections(count: int) -> Iterator[None]:
    """Let the garbage collector rest while ``count`` objects are made that all stay, if they are many."""
    rests = count >= MANY and gc.isenabled()
    if rests:
        gc.disable()
    try:
        yield
    finally:
        if rests:
            gc.enable()
