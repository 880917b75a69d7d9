"""A bar for work that goes through many items in the caller's own thread.

Rule 1: short work shows nothing, and what was shown is gone when the work is done.
Rule 2: rich is imported when a bar is drawn, not before; everything goes to stderr.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

SHOWN_AFTER_S = 1.0
"""Shorter work is over before anybody has read what it is."""
_LOOK_EVERY = 256
"""Items between two looks at the clock: looking is not to cost more than the work."""

_T = TypeVar("_T")


def counted(items: Iterable[_T], total: int, words: str, *, shown_after_s: float = SHOWN_AFTER_S) -> Iterator[_T]:
    """Yield items, with a bar on the terminal once that has taken a while.

    Args:
        items: What to go through.
        total: How many there are.
        words: What is being done.
        shown_after_s: How long nothing is shown.
    """
    begun = time.monotonic()
    bar: Progress | None = None
    try:
        for number, item in enumerate(items):
            if number % _LOOK_EVERY == 0:
                if bar is None and time.monotonic() - begun >= shown_after_s:
                    bar = _start(words, total)
                if bar is not None:
                    bar.update(bar.task_ids[0], completed=number)
            yield item
    finally:
        if bar is not None:
            bar.stop()


def _start(words: str, total: int) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    bar.add_task(words, total=total)
    bar.start()
    return bar
