"""Which submissions of a later driver only say again what an earlier one of the same run had said; pure.

A script that goes on with its run makes its calls again. Of equal ones the n-th of a driver is the n-th of the one
before it: one call, however often it was written down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from scalable_hpc.model.events import HIT_KEY


class Repeats:
    """The calls of a run that were tasks; twenty bytes of each, until another driver comes."""

    def __init__(self) -> None:
        self._keys = bytearray()
        """The beginning of each key, one after another; those of the calls that the last driver was first to make."""
        self._tasks: list[str] = []
        self._before: dict[bytes, list[str]] = {}
        self._now: Counter[bytes] = Counter()

    def begin_driver(self) -> list[bytes]:
        """Hear that another driver takes over; return what the keys of the last one's new calls begin with."""
        keys = list(self._split())
        for key, task_id in zip(keys, self._tasks, strict=True):
            self._before.setdefault(key, []).append(task_id)
        self._keys.clear()
        self._tasks.clear()
        self._now.clear()
        return keys

    def submitted(self, task_id: str, key: str) -> str | None:
        """Return the task that a submission says again; None: it is a call that nobody had made."""
        start = bytes.fromhex(key[: 2 * HIT_KEY])
        earlier = self._before.get(start) if self._before else None
        if earlier is not None and self._now[start] < len(earlier):
            self._now[start] += 1
            return earlier[self._now[start] - 1]
        self._keys += start.ljust(HIT_KEY, b"\0")
        self._tasks.append(task_id)
        return None

    def _split(self) -> Iterator[bytes]:
        for start in range(0, len(self._keys), HIT_KEY):
            yield bytes(self._keys[start : start + HIT_KEY])
