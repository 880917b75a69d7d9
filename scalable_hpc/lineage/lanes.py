"""Ready tasks in lanes: those that ask for the same share one queue, so that placement looks at lanes, not at tasks.

Rule 1: pure. A lane is a heap by priority (highest first), then order of submission.
Rule 2: a record that left the state READY by another way than ``take`` leaves a stale entry, told by its ticket and
dropped when it comes up or when stale ones outnumber the live.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from scalable_hpc.lineage.learned import time_class
from scalable_hpc.model.resources import Needs

_COMPACT_FROM = 1_000
"""Stale entries below this are not worth a sweep."""


class Queued(Protocol):
    """What a lane needs of a task's record."""

    name: str
    needs: Needs
    priority: int
    order: int
    ticket: int
    lane: Lane | None
    expected_runtime_s: float | None
    bound_s: float
    checkpoints: bool
    handed_back: bool
    suspicions: int
    floor_memory: int
    holders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LaneKey:
    """What the tasks of a lane have in common; run times to within 5 %, memory to the same class."""

    name: str
    worker_type: str | None
    cpus: int
    gpus: int
    memory_class: int | None
    expected_class: int | None
    bound_class: int | None
    checkpoints: bool = False
    handed_back: bool = False
    suspect: bool = False
    """They run alone: each may bring down the worker that it runs on."""
    holders: tuple[str, ...] = ()
    """Workers that hold results they need."""


def lane_key(record: Queued) -> LaneKey:
    """Return the key of the lane that a record belongs to."""
    needs = record.needs
    memory = max(needs.memory or 0, record.floor_memory)
    return LaneKey(
        record.name,
        needs.worker_type,
        needs.cpus,
        needs.gpus,
        time_class(memory) if memory else None,
        None if record.expected_runtime_s is None else time_class(record.expected_runtime_s),
        time_class(record.bound_s) if record.bound_s else None,
        record.checkpoints,
        record.handed_back,
        record.suspicions > 0,
        record.holders,
    )


@dataclass(slots=True)
class Lane:
    """One queue of ready tasks, and how many of its kind wait for a retry."""

    key: LaneKey
    heap: list[tuple[int, int, int, Any]] = field(default_factory=list)
    live: int = 0
    """Ready tasks."""
    delayed: int = 0
    """Tasks in backoff."""
    asked: tuple[Needs, int] = (Needs(), 0)
    """What the last of them needs, and the memory that it must be given at least (bytes)."""

    def head(self) -> Any | None:
        """Return the record that is next, without taking it."""
        heap = self.heap
        while heap:
            record = heap[0][3]
            if record.ticket == heap[0][2]:
                return record
            heapq.heappop(heap)
        return None

    def first(self, most: int) -> list[Any]:
        """Return some records that are in it, without taking them."""
        return [entry[3] for entry in itertools.islice(self.heap, most) if entry[3].ticket == entry[2]]

    def compact(self) -> None:
        """Drop stale entries once they outnumber the live ones."""
        if len(self.heap) > 2 * self.live + _COMPACT_FROM:
            self.heap = [entry for entry in self.heap if entry[3].ticket == entry[2]]
            heapq.heapify(self.heap)


class ReadyQueue:
    """All lanes of a run."""

    def __init__(self) -> None:
        self._lanes: dict[LaneKey, Lane] = {}
        self._tickets = itertools.count(1)
        self.size = 0

    def add(self, record: Queued) -> None:
        """Queue a record."""
        lane = self._lane(record)
        record.ticket = next(self._tickets)
        record.lane = lane
        heapq.heappush(lane.heap, (-record.priority, record.order, record.ticket, record))
        lane.live += 1
        self.size += 1

    def discard(self, record: Queued) -> None:
        """Take a record out, wherever it stands; one that is not queued is no error."""
        lane, record.lane, record.ticket = record.lane, None, 0
        if lane is not None:
            lane.live -= 1
            self.size -= 1
            lane.compact()
            self._forget_if_empty(lane)

    def delay(self, record: Queued, change: int) -> None:
        """Count a record that waits for its retry (+1), or no longer does (-1)."""
        lane = self._lane(record)
        lane.delayed += change
        lane.asked = record.needs, record.floor_memory
        self._forget_if_empty(lane)

    def lanes(self) -> Iterator[Lane]:
        """Yield the lanes that have anything."""
        return iter(list(self._lanes.values()))

    def _lane(self, record: Queued) -> Lane:
        key = lane_key(record)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key)
        return lane

    def _forget_if_empty(self, lane: Lane) -> None:
        if lane.live == 0 and lane.delayed == 0 and self._lanes.get(lane.key) is lane:
            del self._lanes[lane.key]
