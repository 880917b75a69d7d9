"""Calls that were answered from a store, each counted once however many drivers of a run have made it."""

from __future__ import annotations

from collections import Counter

from scalable_hpc.model.events import TasksHit, hit_keys


class HitCount:
    """How many calls of each name were hits.

    A driver that is started again on its run makes its calls again: of equal ones as many are counted as the driver
    made that made most of them.
    """

    def __init__(self) -> None:
        self.names: Counter[str] = Counter()
        """Task name to hits."""
        self._told: list[TasksHit] = []
        """By the first driver that had hits: only if another one follows do their keys matter."""
        self._before: Counter[bytes] = Counter()
        """The most of each key that a driver made before this one."""
        self._now: Counter[bytes] = Counter()
        self._is_first = True

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.names.values())

    def add(self, event: TasksHit) -> None:
        """Count the hits of an event; those of older journals, which name no keys, are all counted."""
        if self._is_first:
            self.names[event.name] += event.count
            self._told.append(event)
            return
        keys = hit_keys(event)
        self._now.update(keys)
        self.names[event.name] += event.count - len(keys)
        for key in keys:
            if self._now[key] > self._before[key]:
                self._before[key] += 1
                self.names[event.name] += 1

    def begin_driver(self) -> None:
        """Hear that another driver takes over, or the first one begins."""
        if self._told:
            self._before.update(key for event in self._told for key in hit_keys(event))
            self._told.clear()
            self._is_first = False
        self._now.clear()

    def became_task(self, name: str) -> None:
        """Hear that a call that was a hit had to be run: it counts as a task from now on."""
        if self.names[name]:
            self.names[name] -= 1
