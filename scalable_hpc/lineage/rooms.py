"""What the workers have free in one round of placement, and which of it suits a task.

Rule 1: pure. Rooms are sorted by the time that is left in them, so that the tightest one with time enough is found
by bisection.
Rule 2: a task that needs more than a slot's share may have a worker held open for it, or small tasks would for ever
take each slot that comes free.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from scalable_hpc.lineage.learned import Need
from scalable_hpc.lineage.record import TaskRecord
from scalable_hpc.lineage.roster import Worker
from scalable_hpc.model.resources import Needs


@dataclass(slots=True, eq=False)
class Room:
    """What one worker has free."""

    worker: Worker
    time_left_s: float
    """The margin taken off."""
    bundles: int
    cpus: float
    memory: float
    gpus: int
    is_held: bool = False
    """Kept open for a large task that is waiting for it."""

    def takes(self, needs: Needs) -> bool:
        """Whether such a task fits in now."""
        return (
            not self.is_held
            and needs.cpus <= self.cpus
            and needs.gpus <= self.gpus
            and self.worker.memory_of(needs) <= self.memory
        )

    def need_s(self, name: str, need: Need) -> float | None:
        """How long such a task needs here (seconds); None: nothing is known."""
        return need.warm_s if self.worker.is_warm(name) else need.cold_s

    def has_time_for(self, name: str, need: Need) -> bool:
        """Whether such a task would end in time here."""
        return (self.need_s(name, need) or 0.0) <= self.time_left_s

    def is_avoided(self, record: TaskRecord) -> bool:
        """Whether the task had better go elsewhere."""
        worker = self.worker
        return worker.is_shunned or worker.address in record.avoid or worker.node in record.avoid


def room_of(worker: Worker, now: float, margin_s: float, bundles: int) -> Room:
    """Return what a worker has free; ``bundles`` is how many more it may be given."""
    return Room(
        worker,
        worker.time_left_s(now) - margin_s,
        bundles,
        worker.cpus_offered - worker.cpus_used,
        math.inf if worker.memory is None else worker.memory - worker.memory_used,
        worker.gpus - worker.gpus_used,
    )


def is_large_enough(worker: Worker, needs: Needs) -> bool:
    """Whether such a task could run on a worker that has nothing else to do."""
    return (
        needs.worker_type in (None, worker.worker_type)
        and worker.cpus_offered >= needs.cpus
        and worker.gpus >= needs.gpus
        and (worker.memory is None or worker.memory >= worker.memory_of(needs))
    )


def is_large(needs: Needs) -> bool:
    """Whether a task asks for more than a slot's share, so that a free slot alone may not do."""
    return needs.cpus > 1 or needs.gpus > 0 or needs.memory is not None


class Rooms:
    """The rooms of a round, by worker type."""

    def __init__(self, rooms: Iterable[Room], workers: Sequence[Worker]) -> None:
        self._by_type: dict[str, list[Room]] = {}
        self._workers = workers
        self.free = 0
        """Bundles that can still be placed."""
        for room in rooms:
            if room.bundles > 0 and room.time_left_s > 0:
                self._by_type.setdefault(room.worker.worker_type, []).append(room)
                self.free += room.bundles
        for several in self._by_type.values():
            several.sort(key=lambda room: room.time_left_s)

    def of_type(self, worker_type: str | None) -> Iterator[Room]:
        """Yield the rooms of a worker type (None: of all)."""
        for name, rooms in self._by_type.items():
            if worker_type in (None, name):
                yield from rooms

    def longest_left_s(self, worker_type: str | None) -> float | None:
        """Return the most time that is left in any room of a type; None: there is no room."""
        ends = [rooms[-1] for name, rooms in self._by_type.items() if rooms and worker_type in (None, name)]
        return max((room.time_left_s for room in ends), default=None)

    def choose(self, record: TaskRecord, need: Need) -> Room | None:
        """Return the tightest room that has time for the task (the widest when nothing is known of it)."""
        if record.holders:
            return self._at_holder(record, need)
        found = [
            room
            for name, rooms in self._by_type.items()
            if need.of(record).worker_type in (None, name)
            for room in self._first_of(rooms, record, need)
        ]
        if not found:
            return None
        best = max if need.warm_s is None else min
        return best(found, key=lambda room: room.time_left_s)

    def take(self, room: Room, needs: Needs) -> None:
        """Count a bundle in."""
        room.bundles -= 1
        room.cpus -= needs.cpus
        room.gpus -= needs.gpus
        room.memory -= room.worker.memory_of(needs)
        self.free -= 1
        if room.bundles <= 0:
            self._by_type[room.worker.worker_type].remove(room)

    def hold_open(self, address: str) -> None:
        """Give a worker nothing else in this round."""
        for room in self.of_type(None):
            if room.worker.address == address and not room.is_held:
                room.is_held = True
                self.free -= room.bundles

    def _first_of(self, rooms: list[Room], record: TaskRecord, need: Need) -> Iterator[Room]:
        """Yield the best room of one worker type, if there is any."""
        if need.warm_s is None:
            order = range(len(rooms) - 1, -1, -1)
        else:
            order = range(bisect.bisect_left(rooms, need.warm_s, key=lambda room: room.time_left_s), len(rooms))
        second_choice = None
        for index in order:
            room = rooms[index]
            if room.takes(need.of(record)) and room.has_time_for(record.name, need):
                if not room.is_avoided(record):
                    yield room
                    return
                second_choice = second_choice or room
        if second_choice is not None and self._has_nowhere_else(record, need.of(record)):
            yield second_choice

    def _at_holder(self, record: TaskRecord, need: Need) -> Room | None:
        """Return the room of the one worker that holds what the task needs, if it has time and space for it."""
        for room in self.of_type(need.of(record).worker_type):
            if (room.worker.address,) == record.holders:
                suits = room.bundles > 0 and room.takes(need.of(record)) and room.has_time_for(record.name, need)
                return room if suits else None
        return None

    def _has_nowhere_else(self, record: TaskRecord, needs: Needs) -> bool:
        """Whether every worker that could run the task is one that it had better avoid."""
        return not any(
            is_large_enough(worker, needs)
            and not worker.is_shunned
            and worker.address not in record.avoid
            and worker.node not in record.avoid
            for worker in self._workers
        )


def worker_to_hold(record: TaskRecord, need: Need, idle: Iterable[Room]) -> str | None:
    """Return the address of the worker that lacks least for a large task and has time for it.

    The answer stays the same from round to round: a worker that is held open only comes closer.
    """
    needs = need.of(record)
    candidates = []
    for room in idle:
        worker = room.worker
        memory = worker.memory_of(needs)
        if is_large_enough(worker, needs) and room.has_time_for(record.name, need):
            lacks = (needs.gpus - room.gpus, needs.cpus - room.cpus, memory - room.memory)
            candidates.append((lacks, worker.address))
    return min(candidates)[1] if candidates else None
